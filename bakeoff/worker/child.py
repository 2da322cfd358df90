"""One job as a process: `bakeoff ARGUMENTS --json` in a session of its own, told to stop, listened to, and read out.

It reports through a pipe (`--progress-fd`), and its standard input is its life line: when the worker dies, however
that happens, the line ends and the job kills itself with all its children. What it says goes into a log in the home.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from bakeoff.jobs import Job, JobProgress
from bakeoff.worker.slots import Slot

STOP_GRACE_S = 10.0
"""Between the request to stop and the end by force."""
MAX_RESULT_BYTES = 8 * 2**20
_READ_BYTES = 65_536


class Report(Struct, frozen=True):
    """A line of a job's pipe: how far it is, or figures of what it learns."""

    title: str = ""
    done: int = 0
    total: int = 0
    note: str = ""
    metrics: dict[str, float | None] = {}


class Outcome(Struct, frozen=True):
    """How the process ended."""

    code: int
    """Its exit status; negative for the signal that killed it."""
    was_stopped: bool
    """Whether it was told to stop before it ended."""
    result: dict[str, Any] | None
    error: str
    """Its last sentence; empty where it ended well."""


class Child:
    """A job's process, from its start to its outcome."""

    def __init__(self, job: Job, home: Path, command: Sequence[str], slot: Slot | None) -> None:
        """Start it.

        Args:
            home: receives the log, `jobs/<id>.log`.
            command: what runs a command line; the job's words follow it.
            slot: of a heavy job; released when it has ended.
        """
        self.job = job
        self.progress = JobProgress()
        self._slot = slot
        self._stopped_at: float | None = None
        self._rest = b""
        self._log_path = home / "jobs" / f"{job.id}.log"
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        self.pipe, report_fd = os.pipe()
        os.set_blocking(self.pipe, False)
        passed = (report_fd,) if slot is None else (report_fd, slot.fd)
        words = [*command, "--progress-fd", str(report_fd), *job.arguments, "--json"]
        try:
            with self._log_path.open("ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=self._output,
                    stderr=log,
                    pass_fds=passed,
                    start_new_session=True,
                )
        except (OSError, ValueError):
            self._close()
            raise
        finally:
            os.close(report_fd)

    def read(self) -> list[Report]:
        """What it has reported since the last time; never waits."""
        try:
            data = self._rest + os.read(self.pipe, _READ_BYTES)
        except BlockingIOError:
            return []
        *lines, self._rest = data.split(b"\n")
        reports = []
        for line in lines:
            with suppress(msgspec.DecodeError):
                report = msgspec.json.decode(line, type=Report)
                reports.append(report)
                if not report.metrics:
                    self.progress = JobProgress(report.title, report.done, report.total, report.note)
        return reports

    def stop(self) -> None:
        """Ask it to end, and make it end when it has not after `STOP_GRACE_S`; to be called again until it has."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
            self._signal(signal.SIGINT)
        elif time.monotonic() - self._stopped_at >= STOP_GRACE_S:
            self.kill()

    def kill(self) -> None:
        """End it at once, with its children."""
        self._signal(signal.SIGKILL)

    def poll(self) -> Outcome | None:
        """Its outcome; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        self._signal(signal.SIGKILL)  # what it left behind in its session
        error = "" if code == 0 else self._last_sentence(code)
        result = self._read_result() if code == 0 else None
        return Outcome(code, self._stopped_at is not None, result, error)

    def close(self) -> None:
        """Let go of everything; the process has ended."""
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._close()

    def _close(self) -> None:
        os.close(self.pipe)
        self._output.close()
        if self._slot is not None:
            self._slot.release()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read_result(self) -> dict[str, Any] | None:
        self._output.seek(0)
        try:
            found: dict[str, Any] = msgspec.json.decode(self._output.read(MAX_RESULT_BYTES), type=dict[str, Any])
        except msgspec.DecodeError:
            return None
        return found

    def _last_sentence(self, code: int) -> str:
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read()[-20_000:].decode(errors="replace").strip().splitlines()
        named = [line for line in lines if line.startswith("Error: ")]
        if named:
            return named[-1].removeprefix("Error: ")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"the command {how}" + (f": {lines[-1]}" if lines else "")
