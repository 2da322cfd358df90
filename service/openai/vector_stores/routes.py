"""`/v1/vector_stores`: make, list, describe, change and delete stores."""

from typing import Any

from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET

from bakeoff.database import writing
from bakeoff.errors import BadInput
from service.callers import Caller
from service.openai.pages import Order, Page, page
from service.openai.unsupported import is_lenient
from service.openai.vector_stores import removal
from service.openai.vector_stores.orders import order_files
from service.openai.vector_stores.records import (
    Store,
    find_store,
    insert_store,
    list_stores,
    new_store_id,
    update_store,
)
from service.openai.vector_stores.schemas import (
    StoreCreate,
    StoreDeleted,
    StoreUpdate,
    VectorStore,
    check_no_nul,
)
from service.openai.vector_stores.shelf import (
    Shelf,
    check_chunking,
    check_files,
    choose_domain,
    describe,
    find_settled,
    now,
)

DOMAIN_KEY = "domain"


@post(
    "/v1/vector_stores",
    status_code=HTTP_200_OK,
    operation_id="CreateVectorStore",
    tags=["vector stores"],
    sync_to_thread=True,
)
def create_vector_store(
    data: JSONBody[StoreCreate],
    request: Request[Any, Any, State],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> VectorStore:
    """Make a store: of a new domain, or of the existing one that `metadata.domain` names."""
    caller.check_manages()
    metadata = data.metadata or {}
    for value, param in ((data.name, "name"), (data.description, "description"), (metadata, "metadata")):
        check_no_nul(value, param)
    sizes = check_chunking(request, shelf, data.chunking_strategy)
    created_at = now()
    with writing(shelf.engine) as connection:
        check_files(connection, data.file_ids, caller, "file_ids")
        domain, made_domain = choose_domain(connection, data.name, metadata.get(DOMAIN_KEY))
        store = Store(
            id=new_store_id(),
            owner=caller.key_id,
            domain=domain,
            made_domain=made_domain,
            name=data.name,
            description=data.description,
            metadata=metadata,
            created_at=created_at,
            last_active_at=created_at,
            expires_after_days=None if data.expires_after is None else data.expires_after.days,
        )
        insert_store(connection, store)
        if data.file_ids:
            order_files(connection, store, [(file_id, {}) for file_id in data.file_ids], sizes)
        return describe(connection, [store])[0]


@get("/v1/vector_stores", operation_id="ListVectorStores", tags=["vector stores"], sync_to_thread=True)
def list_vector_stores(
    request: Request[Any, Any, State],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
    after: FromQuery[str | None] = None,
    before: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[Order] = "desc",
) -> Page[VectorStore]:
    """List the stores that this key has made."""
    with shelf.engine.connect() as connection:
        stores = describe(connection, list_stores(connection, caller))
    return page(stores, after, before, limit, order, lenient=is_lenient(request))


@get(
    "/v1/vector_stores/{vector_store_id:str}",
    operation_id="RetrieveVectorStore",
    tags=["vector stores"],
    sync_to_thread=True,
)
def retrieve_vector_store(
    vector_store_id: FromPath[str], shelf: NamedDependency[Shelf], caller: NamedDependency[Caller]
) -> VectorStore:
    """Describe a store, with the files in it by status."""
    store = find_settled(shelf.engine, vector_store_id, caller)
    with shelf.engine.connect() as connection:
        return describe(connection, [store])[0]


@post(
    "/v1/vector_stores/{vector_store_id:str}",
    status_code=HTTP_200_OK,
    operation_id="ModifyVectorStore",
    tags=["vector stores"],
    sync_to_thread=True,
)
def modify_vector_store(
    vector_store_id: FromPath[str],
    data: JSONBody[StoreUpdate],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> VectorStore:
    """Change a store's name, metadata or expiry; what is left out stays. Its domain cannot change."""
    caller.check_manages()
    with writing(shelf.engine) as connection:
        store = find_store(connection, vector_store_id, caller)
        values: dict[str, Any] = {"last_active_at": now()}
        if data.name is not UNSET:
            check_no_nul(data.name, "name")
            values["name"] = data.name or ""
        if data.expires_after is not UNSET:
            values["expires_after_days"] = None if data.expires_after is None else data.expires_after.days
        if data.metadata is not UNSET:
            metadata = data.metadata or {}
            check_no_nul(metadata, "metadata")
            if metadata.get(DOMAIN_KEY, store.domain) != store.domain:
                raise BadInput(
                    f"metadata.domain: this store is a view of domain {store.domain!r}; make another store for another "
                    "domain",
                    param="metadata.domain",
                )
            values["metadata"] = metadata
        update_store(connection, store.id, **values)
        return describe(connection, [find_store(connection, store.id)])[0]


@delete(
    "/v1/vector_stores/{vector_store_id:str}",
    status_code=HTTP_200_OK,
    operation_id="DeleteVectorStore",
    tags=["vector stores"],
    sync_to_thread=True,
)
def delete_vector_store(
    vector_store_id: FromPath[str], shelf: NamedDependency[Shelf], caller: NamedDependency[Caller]
) -> StoreDeleted:
    """Delete a store and its documents, and its domain where that was made for it and serves nothing else."""
    caller.check_manages()
    with shelf.engine.connect() as connection:
        store = find_store(connection, vector_store_id, caller)
    removal.delete_store(shelf.engine, shelf.home, store)
    return StoreDeleted(store.id)


vector_store_routes = [
    create_vector_store,
    list_vector_stores,
    retrieve_vector_store,
    modify_vector_store,
    delete_vector_store,
]
