"""`/v1/files`: upload, list, describe, download and delete."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, FromQuery
from litestar.response import File
from litestar.status_codes import HTTP_200_OK

from bakeoff.errors import NotFound
from service.callers import Caller
from service.openai.files.cabinet import Cabinet
from service.openai.files.schemas import (
    PURPOSES,
    FileDeleted,
    FileObject,
    read_expiry,
    read_purpose,
    to_object,
)
from service.openai.files.upload import Upload
from service.openai.pages import Order, Page, page
from service.openai.unsupported import is_lenient

MAX_FILES_LIMIT = 10_000

_FORM = Schema(
    type=OpenAPIType.OBJECT,
    required=["file", "purpose"],
    properties={
        "file": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY),
        "purpose": Schema(type=OpenAPIType.STRING, enum=list(PURPOSES)),
        "expires_after[anchor]": Schema(type=OpenAPIType.STRING, enum=["created_at"]),
        "expires_after[seconds]": Schema(type=OpenAPIType.INTEGER, minimum=3600, maximum=2592000),
    },
)


@dataclass
class UploadOperation(Operation):
    """Describes the form, which the handler reads by itself, a piece at a time."""

    def __post_init__(self) -> None:
        """Say what the body is."""
        self.request_body = RequestBody(content={"multipart/form-data": OpenAPIMediaType(schema=_FORM)}, required=True)


@post(
    "/v1/files",
    status_code=HTTP_200_OK,
    operation_id="CreateFile",
    tags=["files"],
    operation_class=UploadOperation,
    request_max_body_size=None,
)
async def create_file(
    request: Request[Any, Any, State], cabinet: NamedDependency[Cabinet], caller: NamedDependency[Caller]
) -> FileObject:
    """Upload a file."""
    caller.check_manages()
    upload = Upload(cabinet.folder)
    try:
        new = await upload.receive(request, cabinet.max_bytes)
        fields = upload.fields
        now = datetime.now(UTC)
        purpose = read_purpose(fields.get("purpose"))
        expires_at = read_expiry(fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]"), now)
        file = await anyio.to_thread.run_sync(
            cabinet.keep, new, upload.filename, purpose, caller.key_id, now, expires_at
        )
    finally:
        await upload.close()
    return to_object(file)


@get("/v1/files", operation_id="ListFiles", tags=["files"], sync_to_thread=True)
def list_files(
    request: Request[Any, Any, State],
    cabinet: NamedDependency[Cabinet],
    caller: NamedDependency[Caller],
    purpose: FromQuery[str | None] = None,
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[Order] = "desc",
) -> Page[FileObject]:
    """List the files that this key has uploaded."""
    files = cabinet.list(caller, "user_data" if purpose == "evals" else purpose)
    return page(
        [to_object(file) for file in files],
        after,
        None,
        limit,
        order,
        default_limit=MAX_FILES_LIMIT,
        max_limit=MAX_FILES_LIMIT,
        lenient=is_lenient(request),
    )


@get("/v1/files/{file_id:str}", operation_id="RetrieveFile", tags=["files"], sync_to_thread=True)
def retrieve_file(
    file_id: FromPath[str], cabinet: NamedDependency[Cabinet], caller: NamedDependency[Caller]
) -> FileObject:
    """Describe a file."""
    return to_object(cabinet.find(file_id, caller))


@delete(
    "/v1/files/{file_id:str}", status_code=HTTP_200_OK, operation_id="DeleteFile", tags=["files"], sync_to_thread=True
)
def delete_file(
    file_id: FromPath[str], cabinet: NamedDependency[Cabinet], caller: NamedDependency[Caller]
) -> FileDeleted:
    """Delete a file, and take it out of every vector store."""
    caller.check_manages()
    file = cabinet.find(file_id, caller)
    cabinet.delete(file)
    return FileDeleted(file.id)


@get(
    "/v1/files/{file_id:str}/content",
    operation_id="DownloadFile",
    tags=["files"],
    sync_to_thread=True,
    responses={HTTP_200_OK: ResponseSpec(bytes, media_type="application/octet-stream", description="The bytes")},
)
def download_file(file_id: FromPath[str], cabinet: NamedDependency[Cabinet], caller: NamedDependency[Caller]) -> File:
    """Send back what was uploaded, as a download that no browser runs."""
    file = cabinet.find(file_id, caller)
    path = cabinet.path(file)
    if not path.is_file():
        raise NotFound(f"the content of file {file_id!r} is gone from the disk; upload it again", param="file_id")
    return File(
        path=path,
        filename=file.filename,
        media_type="application/octet-stream",
        content_disposition_type="attachment",
        headers={"x-content-type-options": "nosniff", "content-security-policy": "sandbox"},
    )


file_routes = [create_file, list_files, retrieve_file, delete_file, download_file]
