"""`/v1/vector_stores/{id}/files`: put files into a store, follow them, change their attributes, take them out."""

from typing import Any

import anyio.to_thread
from litestar import Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK

from bakeoff.database import writing
from retrieval.catalogue import documents_of_upload, load_texts
from retrieval.permissions import load_groups
from service.callers import Caller
from service.openai.pages import Order, Page, page
from service.openai.unsupported import is_lenient
from service.openai.vector_stores import removal
from service.openai.vector_stores.orders import order_files
from service.openai.vector_stores.records import FileState, find_entry, find_store, list_entries, set_attributes
from service.openai.vector_stores.schemas import (
    ContentPage,
    FileCreate,
    FileUpdate,
    StoreFile,
    StoreFileDeleted,
    TextContent,
    check_no_nul,
    to_file,
)
from service.openai.vector_stores.shelf import Shelf, check_chunking, check_files, find_settled

FILES = "/v1/vector_stores/{vector_store_id:str}/files"
POLL_AFTER = {"openai-poll-after-ms": "250"}
"""Tells OpenAI's clients how soon to look again."""


@post(
    FILES,
    status_code=HTTP_200_OK,
    operation_id="CreateVectorStoreFile",
    tags=["vector stores"],
    sync_to_thread=True,
)
def create_vector_store_file(
    vector_store_id: FromPath[str],
    data: JSONBody[FileCreate],
    request: Request[Any, Any, State],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> StoreFile:
    """Put an uploaded file into a store; a job indexes it."""
    caller.check_manages()
    check_no_nul(data.attributes, "attributes")
    sizes = check_chunking(request, shelf, data.chunking_strategy)
    with writing(shelf.engine) as connection:
        store = find_store(connection, vector_store_id, caller)
        check_files(connection, [data.file_id], caller, "file_id")
        order_files(connection, store, [(data.file_id, dict(data.attributes or {}))], sizes)
        return to_file(find_entry(connection, store.id, data.file_id))


@get(FILES, operation_id="ListVectorStoreFiles", tags=["vector stores"], sync_to_thread=True)
def list_vector_store_files(
    vector_store_id: FromPath[str],
    request: Request[Any, Any, State],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
    after: FromQuery[str | None] = None,
    before: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[Order] = "desc",
    filter: FromQuery[FileState | None] = None,  # noqa: A002 - OpenAI's name
) -> Page[StoreFile]:
    """List the files in a store."""
    store = find_settled(shelf.engine, vector_store_id, caller)
    with shelf.engine.connect() as connection:
        entries = list_entries(connection, store.id, status=filter)
    return page([to_file(entry) for entry in entries], after, before, limit, order, lenient=is_lenient(request))


@get(
    FILES + "/{file_id:str}",
    operation_id="RetrieveVectorStoreFile",
    tags=["vector stores"],
)
async def retrieve_vector_store_file(
    vector_store_id: FromPath[str],
    file_id: FromPath[str],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> Response[StoreFile]:
    """Describe a file in a store, and how far it is."""

    def find() -> StoreFile:
        store = find_settled(shelf.engine, vector_store_id, caller)
        with shelf.engine.connect() as connection:
            return to_file(find_entry(connection, store.id, file_id))

    file = await anyio.to_thread.run_sync(find)
    return Response(file, headers=POLL_AFTER if file.status == "in_progress" else {})


@post(
    FILES + "/{file_id:str}",
    status_code=HTTP_200_OK,
    operation_id="UpdateVectorStoreFile",
    tags=["vector stores"],
    sync_to_thread=True,
)
def update_vector_store_file(
    vector_store_id: FromPath[str],
    file_id: FromPath[str],
    data: JSONBody[FileUpdate],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> StoreFile:
    """Replace the attributes of a file in a store."""
    caller.check_manages()
    check_no_nul(data.attributes, "attributes")
    with writing(shelf.engine) as connection:
        store = find_store(connection, vector_store_id, caller)
        find_entry(connection, store.id, file_id)
        set_attributes(connection, store.id, file_id, dict(data.attributes or {}))
        return to_file(find_entry(connection, store.id, file_id))


@delete(
    FILES + "/{file_id:str}",
    status_code=HTTP_200_OK,
    operation_id="DeleteVectorStoreFile",
    tags=["vector stores"],
    sync_to_thread=True,
)
def delete_vector_store_file(
    vector_store_id: FromPath[str],
    file_id: FromPath[str],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> StoreFileDeleted:
    """Take a file out of a store; the file itself stays."""
    caller.check_manages()
    with shelf.engine.connect() as connection:
        store = find_store(connection, vector_store_id, caller)
        entry = find_entry(connection, store.id, file_id)
    removal.remove_files(shelf.engine, store, [entry.file_id])
    return StoreFileDeleted(entry.file_id)


@get(
    FILES + "/{file_id:str}/content",
    operation_id="RetrieveVectorStoreFileContent",
    tags=["vector stores"],
    sync_to_thread=True,
)
def retrieve_vector_store_file_content(
    vector_store_id: FromPath[str],
    file_id: FromPath[str],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> ContentPage:
    """The text of a file as it was read; nothing before it is completed."""
    with shelf.engine.connect() as connection:
        store = find_store(connection, vector_store_id, caller)
        entry = find_entry(connection, store.id, file_id)
        ids = documents_of_upload(connection, store.domain, entry.file_id) if entry.status == "completed" else []
        groups = load_groups(connection, store.domain, ids)
        texts = load_texts(connection, store.domain, [name for name in ids if caller.groups.intersection(groups[name])])
    return ContentPage([TextContent(texts[name]) for name in ids if name in texts])


vector_store_file_routes = [
    create_vector_store_file,
    list_vector_store_files,
    retrieve_vector_store_file,
    update_vector_store_file,
    delete_vector_store_file,
    retrieve_vector_store_file_content,
]
