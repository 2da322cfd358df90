"""The process in which binary formats are read: what a hostile file breaks or fills is this process, nothing else.

It is started by `Converter` (converter.py) and speaks msgpack over its pipes: a length of eight bytes, then a `Job`;
back come a length and a `Converted`. Whatever libraries print goes nowhere.
"""

import os
import signal
import struct
import sys
from typing import IO

import msgspec
from msgspec import Struct

from bakeoff.errors import BadInput
from retrieval.formats.office import check_zip, read_docx, read_pptx, read_xlsx

LENGTH = struct.Struct(">Q")


class Job(Struct):
    """A file to read."""

    suffix: str
    data: bytes
    max_unpacked_bytes: int


class Converted(Struct):
    """What came of it."""

    text: str = ""
    """Markdown."""
    title: str = ""
    note: str = ""
    """What was left out, in words."""
    refused: str = ""
    """Why there is no text."""
    ends: bool = False
    """The process ends after it."""


def convert(job: Job) -> Converted:
    """Read one file; a file that cannot be read comes back refused, with the reason."""
    try:
        return _convert(job)
    except BadInput as error:
        return Converted(refused=_tidy(str(error)))
    except RecursionError:
        return Converted(refused="is nested too deeply")
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - libraries raise what they like over a damaged file
        return Converted(refused=_tidy(f"is damaged: {type(error).__name__}: {error}"))


def send(pipe: IO[bytes], value: Job | Converted) -> None:
    """Write a value with its length."""
    data = msgspec.msgpack.encode(value)
    pipe.write(LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def main(max_memory_bytes: int, time_limit_s: int) -> None:
    """Read files until the pipe closes."""
    _limit_memory(max_memory_bytes)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    decoder = msgspec.msgpack.Decoder(Job)
    while length := sys.stdin.buffer.read(LENGTH.size):
        job = decoder.decode(sys.stdin.buffer.read(*LENGTH.unpack(length)))
        _set_alarm(time_limit_s)
        try:
            send(replies, convert(job))
        except MemoryError:
            del job
            reason = f"takes more than {max_memory_bytes // 1024**2} MB of memory to read"
            send(replies, Converted(refused=reason, ends=True))
            return  # a fresh process has all its memory again
        _set_alarm(0)


def _set_alarm(seconds: int) -> None:
    """End this process after so many seconds, should nobody be left to do it; 0 takes it back."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _convert(job: Job) -> Converted:
    if job.suffix in (".docx", ".pptx", ".xlsx"):
        check_zip(job.suffix, job.data, job.max_unpacked_bytes)
    if job.suffix == ".docx":
        return Converted(read_docx(job.data))
    if job.suffix == ".pptx":
        return Converted(read_pptx(job.data))
    if job.suffix == ".xlsx":
        text, note = read_xlsx(job.data)
        return Converted(text, note=note)
    if job.suffix == ".pdf":
        from retrieval.formats.pdf import read_pdf

        return Converted(read_pdf(job.data))
    from retrieval.formats.html import read_html

    title, text = read_html(job.data)
    return Converted(text, title)


def _tidy(reason: str) -> str:
    """One line of bounded length: libraries quote what they found in the file."""
    shown = "".join(character if character.isprintable() else " " for character in reason[:1000])
    shown = " ".join(shown.split())
    return shown if len(shown) <= 300 else shown[:299] + "…"


def _limit_memory(max_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ValueError, OSError):  # macOS knows the limit but does not let it be set
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
