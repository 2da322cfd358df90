"""Finds the probe of an adapter or of the base model; where there is none, has it made by a process of its own.

PEFT and torch stay out of the service: with vLLM they would only take its memory.
"""

import asyncio
import os
import sys
from pathlib import Path

from bakeoff.errors import Mismatch, NotReady
from bakeoff.probes import BASE, Probe, read_probe
from bakeoff.settings import Settings

TIMEOUT_S = 900.0


class Prober:
    """Gives probes; makes those that are missing, one at a time."""

    def __init__(self, settings: Settings, base_sha256: str) -> None:
        """Remember for which home and base model."""
        self._settings = settings
        self._base_sha256 = base_sha256
        self._turn = asyncio.Lock()

    async def find(self, name: str) -> Probe:
        """The probe of this name.

        Raises:
            Mismatch: it is damaged or of another base model, or its adapter must not serve.
            NotReady: it cannot be made.
        """
        probe = self._read(name)
        if probe is None:
            async with self._turn:
                probe = self._read(name)
                if probe is None:
                    await self._make(name)
                    probe = self._read(name)
        if probe is None:
            raise NotReady(f"no probe of {name} was written; make it with: {_words(name)}")
        return probe

    def _read(self, name: str) -> Probe | None:
        return read_probe(self._settings.home, name, self._base_sha256)

    async def _make(self, name: str) -> None:
        command = _words(name).split()[1:]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bakeoff.cli.main",
            *command,
            env=_environ(self._settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, words = await process.communicate()
        except TimeoutError as error:
            raise NotReady(f"making the probe of {name} took longer than {TIMEOUT_S:g} s: {_words(name)}") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = words.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
            raise Mismatch(f"the probe of {name} cannot be made: {said[0].removeprefix('Error: ')}")


def _words(name: str) -> str:
    return "bakeoff models probe" if name.startswith(f"{BASE}-") else f"bakeoff adapters probe {name}"


def _environ(settings: Settings) -> dict[str, str]:
    """Of a process that works on the same home and base model."""
    home: Path = settings.home.resolve()
    return {
        **os.environ,
        "BAKEOFF_HOME": str(home),
        "BAKEOFF_MODELS": str(settings.models.resolve()),
        "BAKEOFF_MODEL": settings.model,
        "BAKEOFF_EMBEDDER": settings.embedder,
        "BAKEOFF_DATABASE_URL": settings.database_url,
    }
