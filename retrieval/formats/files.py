"""A path -> its bytes, or a sentence why not: only plain files, of bounded size, that are what their name says."""

import codecs
import os
import stat
from pathlib import Path

from bakeoff.errors import BadInput

MAX_FILE_BYTES = 64 * 1024 * 1024
_LOOKS = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive, as DOCX, PPTX and XLSX are"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office file of before 2007 or one with a password"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"{\\rtf", "an RTF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3", "a database"),
)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNKNOWN = "another kind of file"
_ZIPPED = {".docx", ".pptx", ".xlsx"}


def read_bytes(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a plain file of at most `max_bytes`.

    Raises:
        BadInput: it is empty, too large, not a plain file, or cannot be read. Like all errors of this package the
            sentence does not name the path: the report does.
    """
    try:
        _check_plain(path.stat().st_mode)  # before it is opened: opening some devices does something
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            _check_plain(status.st_mode)
            data = file.read(max_bytes + 1) if status.st_size <= max_bytes else b""
            size = max(status.st_size, len(data))
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}") from error
    if size > max_bytes:
        raise BadInput(f"has {_megabytes(size)} MB, more than the {_megabytes(max_bytes)} that are read; split it")
    if not data:
        raise BadInput("is empty")
    return data


def decode_text(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 and UTF-32 that begin with a byte order mark.

    Raises:
        BadInput: it is binary, or in another encoding; names the line of the first bad byte.
    """
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8" and (b"\0" in data[:4096] or data.startswith(tuple(first for first, _ in _LOOKS))):
            raise BadInput(f"is not text; it looks like {describe_look(data)}") from error
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(
            f"line {line}: byte 0x{data[error.start]:02x} is not {encoding.removesuffix('-sig').upper()}; "
            "save the file as UTF-8 and try again"
        ) from error
    if "\0" in text:
        raise BadInput(f"is not text; it looks like {describe_look(data)}")
    if not text.strip():
        raise BadInput("is empty")
    return text


def check_look(suffix: str, data: bytes) -> None:
    """Check that a binary file begins as its suffix says.

    Raises:
        BadInput: says what it looks like.
    """
    fits = (b"%PDF-" in data[:1024]) if suffix == ".pdf" else data.startswith(b"PK") if suffix in _ZIPPED else True
    if not fits:
        raise BadInput(f"is named {suffix} but looks like {describe_look(data)}")


def describe_look(data: bytes) -> str:
    """Say what a file looks like by its first bytes."""
    for first, look in _LOOKS:
        if data.startswith(first):
            return look
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data[:4096])
    except UnicodeDecodeError:
        return _UNKNOWN
    return _UNKNOWN if b"\0" in data[:4096] else "plain text"


def _check_plain(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
        raise BadInput(f"is {next((name for test, name in kinds if test(mode)), 'a device')}, not a file")


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:.4g}"
