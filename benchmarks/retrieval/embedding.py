"""The embedding part: runs benchmarks/embedding.py, which compares with sentence-transformers, on the same sets."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bakeoff.settings import CHECKOUT


def measure_embedding(folders: Sequence[Path]) -> Any:
    """Print its table; returns its figures."""
    print("\nEMBEDDING", flush=True)
    data = [word for folder in folders for word in ("--data", str(folder))]
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "embedding.json"
        command = [sys.executable, "-m", "benchmarks.embedding", *data, "--rounds", "3", "--json", str(output)]
        subprocess.run(command, cwd=CHECKOUT, check=True)
        return json.loads(output.read_text())
