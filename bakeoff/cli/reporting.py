"""What a command that runs as a job tells the worker that started it: a JSON document a line, through a pipe.

`{"title", "done", "total", "note"}` says how far it is, `{"metrics": {...}}` holds figures of a training. A command
that nobody started as a job tells nobody. The worker holds the other end of standard input: when that ends, the worker
is dead, and the job ends itself and its children, so that nobody does the same work twice.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

import msgspec

EVERY_S = 0.2
_fd: int | None = None
_last_title = ""
_last_time = float("-inf")


def report_to(fd: int) -> None:
    """Report through this pipe from now on, and end when standard input does."""
    global _fd
    os.set_blocking(fd, False)
    os.set_inheritable(fd, False)
    _fd = fd
    threading.Thread(target=_end_with_stdin, daemon=True).start()


def report(title: str, done: int = 0, total: int = 0, note: str = "") -> None:
    """Say how far a step is; said a few times a second at most, but for its beginning and its end."""
    global _last_title, _last_time
    now = time.monotonic()
    if _fd is None or (title == _last_title and done < total and now - _last_time < EVERY_S):
        return
    _last_title, _last_time = title, now
    _write({"title": title, "done": done, "total": total, "note": note})


def report_metrics(metrics: Mapping[str, float | None]) -> None:
    """Hand on figures of a training: `step`, `train_loss`, `valid_loss`, in nats per label token."""
    if _fd is not None:
        _write({"metrics": metrics})


def _write(line: object) -> None:
    assert _fd is not None
    with suppress(BlockingIOError, BrokenPipeError):  # a worker that does not listen misses a line; work goes on
        os.write(_fd, msgspec.json.encode(line) + b"\n")


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)
