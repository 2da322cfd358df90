"""A multipart request -> a file on the disk and the fields beside it, a piece at a time.

The body is never whole in memory. The file's part may stand before or after the other fields. The client's name for
the file is kept as a word to show, without the folders before it, and never becomes a name on our disk.
"""

import unicodedata
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio.to_thread
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from bakeoff.errors import BadInput
from service.openai.files.folder import NewFile

FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
MAX_PARTS = 8
MAX_FIELD_BYTES = 1024
MAX_NAME_LENGTH = 255
PIECE_BYTES = 2**20
MAX_DRAINED_BYTES = 64 * 2**20
"""Of a body that is refused, what is read on before the answer: a client that still sends would not see it."""


class Upload:
    """What has come of a request; close it, and what was not kept is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file: NewFile | None = None
        self.filename = ""
        self.fields: dict[str, str] = {}

    async def receive(self, request: Request[Any, Any, Any], max_bytes: int) -> NewFile:
        """Read the request's body.

        Raises:
            BadInput: not a multipart form, a field that is not known or stands twice, no file or an empty one.
            HTTPException: 413, longer than `max_bytes`.
            DiskFull: there is no room.
        """
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != "multipart/form-data" or not options.get("boundary"):
            raise BadInput("the body has to be multipart/form-data, with the parts `file` and `purpose`", param="file")
        stream = request.stream()
        try:
            length = request.content_length
            if length is not None and length > max_bytes + PIECE_BYTES:
                raise _too_long(max_bytes)
            await self._parse(stream, str(options["boundary"]), max_bytes)
        except MultipartError as error:
            await _drain(stream)
            raise BadInput(f"the body is not the multipart form it says it is: {error}", param="file") from error
        except (BadInput, HTTPException):
            await _drain(stream)
            raise
        if self.file is None:
            raise BadInput("the part `file` is missing", param="file")
        if not self.file.num_bytes:
            raise BadInput("the file is empty", param="file")
        return self.file

    async def close(self) -> None:
        """Delete the file, where it was not kept."""
        if self.file is not None:
            await anyio.to_thread.run_sync(self.file.discard)

    async def _parse(self, stream: AsyncGenerator[bytes, None], boundary: str, max_bytes: int) -> None:
        held = bytearray()
        name = ""
        with PushMultipartParser(boundary, max_segment_count=MAX_PARTS) as parser:
            async for piece in stream:
                for part in parser.parse(piece):
                    if isinstance(part, MultipartSegment):
                        name = self._begin(part)
                        if name == "file":
                            self.file = await anyio.to_thread.run_sync(NewFile, self._folder)
                    elif part is None:
                        if name == "file":
                            await self._flush(held)
                        else:
                            self.fields[name] = _decode(name, held)
                        held.clear()
                    else:
                        held += part
                        if name != "file" and len(held) > MAX_FIELD_BYTES:
                            raise BadInput(f"{name} is longer than {MAX_FIELD_BYTES} bytes", param=_param(name))
                        if name == "file" and self.file is not None:
                            if self.file.num_bytes + len(held) > max_bytes:
                                raise _too_long(max_bytes)
                            if len(held) >= PIECE_BYTES:
                                await self._flush(held)
                                held.clear()

    async def _flush(self, held: bytearray) -> None:
        assert self.file is not None
        if held:
            await anyio.to_thread.run_sync(self.file.write, bytes(held))

    def _begin(self, part: MultipartSegment) -> str:
        name = str(part.name)
        if name not in ("file", *FIELDS):
            raise BadInput(f"{name} is not a part of this form: file, {', '.join(FIELDS)}", param=_param(name))
        if name in self.fields or (name == "file" and self.file is not None):
            raise BadInput(f"{name} stands twice in the form", param=_param(name))
        if name == "file":
            self.filename = shown_name(part.filename or "")
        return name


def shown_name(name: str) -> str:
    """A client's name for a file as it is shown: without folders and without what cannot be seen."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(character for character in last if unicodedata.category(character)[0] != "C").strip()
    if len(clean) > MAX_NAME_LENGTH:
        stem, dot, suffix = clean.rpartition(".")
        end = dot + suffix if stem and len(suffix) < 20 else ""
        clean = clean[: MAX_NAME_LENGTH - len(end)] + end
    return clean if clean.strip(".") else "upload"


async def _drain(stream: AsyncGenerator[bytes, None]) -> None:
    num_bytes = 0
    async for piece in stream:
        num_bytes += len(piece)
        if num_bytes > MAX_DRAINED_BYTES:
            return


def _too_long(max_bytes: int) -> HTTPException:
    detail = f"the file is longer than {max_bytes // 2**20} MiB, the most this service takes (BAKEOFF_MAX_FILE_MIB)"
    return HTTPException(detail=detail, status_code=HTTP_413_REQUEST_ENTITY_TOO_LARGE)


def _decode(name: str, value: bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8", param=_param(name)) from error


def _param(name: str) -> str:
    """OpenAI writes `expires_after.seconds` for what the form calls `expires_after[seconds]`."""
    return shown_name(name.replace("[", ".").replace("]", ""))[:64]
