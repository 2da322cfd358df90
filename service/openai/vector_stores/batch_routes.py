"""`/v1/vector_stores/{id}/file_batches`: put several files into a store at once, follow them, cancel them."""

from typing import Any

import anyio.to_thread
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET
from sqlalchemy import Connection

from bakeoff.database import writing
from bakeoff.errors import BadInput
from service.callers import Caller
from service.openai.pages import Order, Page, page
from service.openai.unsupported import is_lenient
from service.openai.vector_stores.file_routes import POLL_AFTER
from service.openai.vector_stores.orders import order_files
from service.openai.vector_stores.records import (
    Attributes,
    Batch,
    FileState,
    cancel_batch,
    find_batch,
    find_store,
    insert_batch,
    list_entries,
)
from service.openai.vector_stores.schemas import BatchCreate, FileBatch, FileCounts, StoreFile, check_no_nul, to_file
from service.openai.vector_stores.shelf import Shelf, check_chunking, check_files, find_settled

BATCHES = "/v1/vector_stores/{vector_store_id:str}/file_batches"


@post(
    BATCHES,
    status_code=HTTP_200_OK,
    operation_id="CreateVectorStoreFileBatch",
    tags=["vector stores"],
    sync_to_thread=True,
)
def create_vector_store_file_batch(
    vector_store_id: FromPath[str],
    data: JSONBody[BatchCreate],
    request: Request[Any, Any, State],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> FileBatch:
    """Put several uploaded files into a store; a job indexes them."""
    caller.check_manages()
    files = _read_files(data, lenient=is_lenient(request))
    strategies = [file.chunking_strategy for file in data.files] if data.files else [data.chunking_strategy]
    sizes: dict[str, int] = {}
    for strategy in strategies:
        sizes = check_chunking(request, shelf, strategy)
    with writing(shelf.engine) as connection:
        store = find_store(connection, vector_store_id, caller)
        check_files(connection, [file_id for file_id, _ in files], caller, "files" if data.files else "file_ids")
        batch = insert_batch(connection, store.id)
        order_files(connection, store, files, sizes, batch.id)
        return _describe(connection, batch)


@get(
    BATCHES + "/{batch_id:str}",
    operation_id="RetrieveVectorStoreFileBatch",
    tags=["vector stores"],
)
async def retrieve_vector_store_file_batch(
    vector_store_id: FromPath[str],
    batch_id: FromPath[str],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> Response[FileBatch]:
    """Describe a batch, and how far it is."""

    def find() -> FileBatch:
        store = find_settled(shelf.engine, vector_store_id, caller)
        with shelf.engine.connect() as connection:
            return _describe(connection, find_batch(connection, store.id, batch_id))

    batch = await anyio.to_thread.run_sync(find)
    return Response(batch, headers=POLL_AFTER if batch.status == "in_progress" else {})


@post(
    BATCHES + "/{batch_id:str}/cancel",
    status_code=HTTP_200_OK,
    operation_id="CancelVectorStoreFileBatch",
    tags=["vector stores"],
    sync_to_thread=True,
)
def cancel_vector_store_file_batch(
    vector_store_id: FromPath[str],
    batch_id: FromPath[str],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> FileBatch:
    """Cancel what of a batch is not done yet; what is done stays."""
    caller.check_manages()
    store = find_settled(shelf.engine, vector_store_id, caller)
    with writing(shelf.engine) as connection:
        batch = find_batch(connection, store.id, batch_id)
        if _describe(connection, batch).status == "in_progress":
            cancel_batch(connection, batch)
        return _describe(connection, find_batch(connection, store.id, batch_id))


@get(
    BATCHES + "/{batch_id:str}/files",
    operation_id="ListVectorStoreFileBatchFiles",
    tags=["vector stores"],
    sync_to_thread=True,
)
def list_vector_store_file_batch_files(
    vector_store_id: FromPath[str],
    batch_id: FromPath[str],
    request: Request[Any, Any, State],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
    after: FromQuery[str | None] = None,
    before: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[Order] = "desc",
    filter: FromQuery[FileState | None] = None,  # noqa: A002 - OpenAI's name
) -> Page[StoreFile]:
    """List the files of a batch."""
    store = find_settled(shelf.engine, vector_store_id, caller)
    with shelf.engine.connect() as connection:
        batch = find_batch(connection, store.id, batch_id)
        entries = list_entries(connection, store.id, batch_id=batch.id, status=filter)
    return page([to_file(entry) for entry in entries], after, before, limit, order, lenient=is_lenient(request))


def _read_files(data: BatchCreate, *, lenient: bool) -> list[tuple[str, Attributes]]:
    """Ids and attributes of the batch's files.

    Raises:
        BadInput: neither or both of `file_ids` and `files`, or none in them.
    """
    if data.file_ids is not UNSET and data.files is not UNSET and not lenient:
        raise BadInput("give `file_ids` or `files`, not both", param="files")
    check_no_nul(data.attributes, "attributes")
    if data.files is not UNSET:
        for place, file in enumerate(data.files):
            check_no_nul(file.attributes, f"files[{place}].attributes")
        files: list[tuple[str, Attributes]] = [(file.file_id, dict(file.attributes or {})) for file in data.files]
    else:
        ids = [] if data.file_ids is UNSET else data.file_ids
        files = [(file_id, dict(data.attributes or {})) for file_id in ids]
    if not files and not lenient:
        raise BadInput("the batch holds no file; name some in `file_ids` or `files`", param="file_ids")
    return files


def _describe(connection: Connection, batch: Batch) -> FileBatch:
    statuses = [entry.status for entry in list_entries(connection, batch.store_id, batch_id=batch.id)]
    counts = FileCounts(**{status: statuses.count(status) for status in set(statuses)}, total=len(statuses))
    status: FileState = "completed"
    if batch.status == "cancelled":
        status = "cancelled"
    elif counts.in_progress:
        status = "in_progress"
    elif statuses and counts.failed == counts.total:
        status = "failed"
    created_at = int(batch.created_at.timestamp())
    return FileBatch(batch.id, created_at, batch.store_id, status, counts)


vector_store_batch_routes = [
    create_vector_store_file_batch,
    retrieve_vector_store_file_batch,
    cancel_vector_store_file_batch,
    list_vector_store_file_batch_files,
]
