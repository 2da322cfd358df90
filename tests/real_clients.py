"""Clients as their authors ship them, each in an environment of its own that `make client-test` makes.

None of them goes out to the network: each gets a home of its own, and what it might fetch is switched off. The lines of
the user guide are run as they stand there, but for the port.
"""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import Struct

from bakeoff.settings import CHECKOUT

ENVIRONMENTS = CHECKOUT / ".venv-clients"
FOLDER = CHECKOUT / "tests" / "clients"
GUIDE = CHECKOUT / "docs" / "guide" / "clients.md"
TIMEOUT_S = 240
PARKING = "Is there free parking at A and B Guest House?"
DOGS = "Can I have my dog stay with me at Home from Home?"

Show = Callable[[str], None]


class Client(Struct, frozen=True):
    """A client's environment, and the home it works in."""

    bin: Path
    home: Path

    def run(self, *words: str, fails: bool = False, **environ: str) -> str:
        """Run a command, one of its own before any other of that name, in the folder of these tests.

        Args:
            fails: whether it is to end with an error.
            environ: variables added to a bare environment.

        Returns:
            What it says on stdout; on stderr too when it is to fail.
        """
        done = subprocess.run(
            words,
            cwd=FOLDER,
            env={"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.home), "HF_HUB_OFFLINE": "1", **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, said
        return said if fails else done.stdout

    def version(self, package: str) -> str:
        """The installed version of one of its packages."""
        code = f"from importlib.metadata import version; print(version({package!r}), end='')"
        return self.run("python", "-c", code)


def needs(name: str) -> list[pytest.MarkDecorator]:
    """Marks of a file whose tests need the client of this name; they are skipped where it is not installed."""
    reason = f"{name} has no environment in {ENVIRONMENTS.name}; make it with: make client-test"
    missing = not (ENVIRONMENTS / name / "installed").is_file()
    return [pytest.mark.clients, pytest.mark.skipif(missing, reason=reason)]


def open_client(name: str, home: Path) -> Client:
    """The client of this name."""
    return Client(ENVIRONMENTS / name / "bin", home)


def guide(title: str, url: str) -> list[str]:
    """The blocks of code under a title of the user guide, asking the service at `url`."""
    [section] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```\w+\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert all("http://127.0.0.1:8000" in block for block in blocks)
    return [block.replace("http://127.0.0.1:8000", url) for block in blocks]
