"""Heavy jobs take turns on a machine: each needs a slot, a locked file that its process inherits.

The lock lies on the open file and not on a process: it is free when the job's last process is gone, also where the
worker that took it was killed before.
"""

import fcntl
import os
import socket
from pathlib import Path


class Slot:
    """The right to run one heavy job."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """To be passed on to the job's process."""

    def release(self) -> None:
        """Let go of it; the job's own processes still hold it while they live."""
        os.close(self.fd)


def take_slot(home: Path, num_slots: int) -> Slot | None:
    """A free slot of this machine; None where every one is taken.

    Args:
        home: holds the lock files, a few for each machine that shares it.
        num_slots: heavy jobs that may run at a time.
    """
    folder = home / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_slots):
        fd = os.open(folder / f"heavy-{socket.gethostname()}-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
        else:
            return Slot(fd)
    return None
