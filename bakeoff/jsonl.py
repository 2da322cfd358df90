"""Reading JSONL files so that a bad line is named by file, line number and field, and nothing half-read is kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from bakeoff.errors import BadInput

T = TypeVar("T")


def read_text(path: Path) -> str:
    """Read a UTF-8 file (a byte order mark is dropped).

    Raises:
        BadInput: it cannot be read, or is not UTF-8; names the line of the first bad byte.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8 and try again"
        ) from error


def read_jsonl(path: Path, kind: type[T]) -> Iterator[tuple[int, T]]:
    """Parse each line as `kind`; blank lines are passed over.

    Yields:
        (line number from 1, value).

    Raises:
        BadInput: names file, line number and field.
    """
    decoder = msgspec.json.Decoder(kind)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, decoder.decode(line)
        except msgspec.DecodeError as error:
            raise BadInput(f"{path}, line {number}: {error}") from error
