"""One worker process, started when the first file needs it, given one file at a time, replaced when it breaks."""

import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec

from bakeoff.errors import BadInput
from retrieval.formats.office import MAX_UNPACKED_BYTES
from retrieval.formats.worker import LENGTH, Converted, Job, send

TIME_LIMIT_S = 120.0
MEMORY_LIMIT_BYTES = 2 * 1024**3


class Converter:
    """Reads HTML, PDF, DOCX, PPTX and XLSX in another process. Thread-safe; close it or use it as a context."""

    def __init__(
        self,
        time_limit_s: float = TIME_LIMIT_S,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    ) -> None:
        self._time_limit_s = time_limit_s
        self._memory_limit_bytes = memory_limit_bytes
        self._max_unpacked_bytes = max_unpacked_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def convert(self, suffix: str, data: bytes) -> Converted:
        """Read one file.

        Raises:
            BadInput: why it cannot be read: refused, too slow, too much memory, or the process broke over it.
        """
        with self._lock:
            converted = self._ask(Job(suffix, data, self._max_unpacked_bytes))
            if converted.ends:
                self.close()
        if converted.refused:
            raise BadInput(converted.refused)
        return converted

    def close(self) -> None:
        """Stop the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, job: Job) -> Converted:
        process = self._start()
        assert process.stdin and process.stdout
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._time_limit_s, stop)
        timer.start()
        try:
            send(process.stdin, job)
            length = process.stdout.read(LENGTH.size)
            data = process.stdout.read(*LENGTH.unpack(length)) if len(length) == LENGTH.size else b""
            return msgspec.msgpack.decode(data, type=Converted)
        except (BrokenPipeError, msgspec.DecodeError):
            process.wait(self._time_limit_s)
            self.close()
            if late.is_set():
                raise BadInput(f"takes more than {self._time_limit_s:g} s to read") from None
            raise BadInput(
                f"broke the process that read it (status {process.returncode}), as damaged files and files that need "
                f"more than {self._memory_limit_bytes // 1024**2} MB of memory do"
            ) from None
        finally:
            timer.cancel()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            # -P: the folder we stand in may be the one with the hostile files
            limits = [str(self._memory_limit_bytes), str(int(self._time_limit_s) + 5)]
            command = [sys.executable, "-P", "-m", "retrieval.formats.worker", *limits]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        return self._process
