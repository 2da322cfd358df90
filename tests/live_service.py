"""The product itself on a small part of the sample domain: real models, adapter and server, made by its commands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

from bakeoff.settings import CHECKOUT

DOMAIN = "concierge"
SAMPLE = CHECKOUT / "samples" / DOMAIN
NUM_DOCUMENTS = 120


class Live(Struct, frozen=True):
    """A running service and the home it stands on."""

    url: str
    home: Path
    adapter: str

    def run(self, *words: str) -> Any:
        """Run a command with `--json` in this home."""
        return run_json(self.home, *words)


def run_json(home: Path, *words: str) -> Any:
    """Run `bakeoff ... --json` and parse what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff.cli.main", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "BAKEOFF_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fill_home(home: Path) -> None:
    """Add the first documents of the sample domain and the examples about them."""
    documents = (SAMPLE / "documents.jsonl").read_text().splitlines()[:NUM_DOCUMENTS]
    ids = {json.loads(line)["id"] for line in documents}
    files = {"documents": documents}
    for split in ("train", "test"):
        lines = (SAMPLE / f"{split}.jsonl").read_text().splitlines()
        files[split] = [line for line in lines if set(json.loads(line)["document_ids"]) <= ids]
    for name, lines in files.items():
        (home / f"{name}.jsonl").write_text("\n".join(lines))
    run_json(home, "documents", "add", str(home / "documents.jsonl"), "--domain", DOMAIN)
    for split in ("train", "test"):
        run_json(home, "examples", "import", str(home / f"{split}.jsonl"), "--domain", DOMAIN, "--split", split)
