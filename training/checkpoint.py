"""The state of an unfinished training on disk, replaced whole, so that a kill at any moment loses 30 seconds at most.

The file is read with `weights_only=True`: nothing in it can run code.
"""

import errno
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from bakeoff.errors import BakeoffError


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint; a reader sees the old one or the new one.

    Raises:
        BakeoffError: the disk is full.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise_if_full(error, path.parent)
        raise


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read the checkpoint; None when there is none.

    Raises:
        BakeoffError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        if not zipfile.is_zipfile(path):  # torch would take it for the form of its first versions
            raise RuntimeError("it is no archive")
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise BakeoffError(f"the checkpoint {path} is damaged ({error}); delete it to train from the start") from error
    return state


def raise_if_full(error: OSError, folder: Path) -> None:
    """Turn "no space left" into a sentence; other errors are left alone."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        raise BakeoffError(
            f"the disk that holds {folder} is full; free some space and run the same command again: training goes on "
            "from its last checkpoint"
        ) from error
