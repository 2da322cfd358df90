"""The folder of uploaded files: `home/files`, each under a random name that only we may read.

The database is the truth: a file without a row is not there. Whoever writes one holds a lock on it from its first byte
until its row is committed, and the system lets go of the lock when the process dies; so what has neither row nor lock
is left over from a crash, whichever replica it was, and can be swept away.
"""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from bakeoff.errors import DiskFull

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def files_dir(home: Path) -> Path:
    """Where uploaded files lie, under random names."""
    return home / "files"


class NewFile:
    """A file that is being written; gone again unless it was kept."""

    def __init__(self, folder: Path) -> None:
        """Make it.

        Raises:
            DiskFull: there is no room.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.num_bytes = 0
        self._hash = hashlib.sha256()
        with _naming_full_disk(folder):
            self.path, self._file = _open_locked(folder)

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            DiskFull: there is no room.
        """
        self._hash.update(data)
        self.num_bytes += len(data)
        with _naming_full_disk(self.path.parent):
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]

    def keep(self, commit: Callable[[], None]) -> None:
        """Bring everything to the disk, then let `commit` write the row; without a row the file goes.

        Raises:
            DiskFull: there is no room.
        """
        with _naming_full_disk(self.path.parent):
            os.fsync(self._file.fileno())
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        commit()
        self._file.close()

    def discard(self) -> None:
        """Delete it, where it was not kept."""
        if not self._file.closed:
            self.path.unlink(missing_ok=True)
            self._file.close()


def _open_locked(folder: Path) -> tuple[Path, FileIO]:
    while True:
        path = folder / secrets.token_hex(16)
        file = FileIO(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # or another replica swept it away before it was locked
            return path, file
        file.close()


@contextmanager
def _naming_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                "the service's disk is full: the file was not stored; "
                f"free space for the folder {folder.name!r} of BAKEOFF_HOME, or delete files, and upload it again"
            ) from error
        raise


def sweep(folder: Path, known: Callable[[], set[str]]) -> int:
    """Delete what crashes have left behind.

    Args:
        known: reads the names that have a row; asked anew once a file is locked, for its row may have come since.

    Returns:
        Files deleted.
    """
    if not folder.is_dir():
        return 0
    rows = known()
    num_swept = 0
    for path in sorted(folder.iterdir()):
        if path.name in rows:
            continue
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.name not in known():
                    path.unlink()
                    num_swept += 1
        except OSError:  # somebody is writing it, or has swept it away before us
            continue
    return num_swept
