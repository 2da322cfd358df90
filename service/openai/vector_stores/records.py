"""The rows of vector stores, of the files in them, and of batches of such files.

A store is a view of one domain: its files are documents of that domain, and a search of it is a search of the domain.
A file stands in a store with a status; who works on it writes the status only where it is still `in_progress`, so that
a cancellation is never overwritten.
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import Connection, delete, func, insert, null, select, update

from bakeoff.database import in_parts
from bakeoff.errors import NotFound
from service.callers import Caller
from service.tables import vector_store_batches_table, vector_store_files_table, vector_stores_table

FileState = Literal["in_progress", "completed", "cancelled", "failed"]
ErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]
Attributes = dict[str, str | bool | int | float]
_ID = re.compile(r"[A-Za-z0-9_.-]{1,80}")


class Store(Struct, frozen=True):
    """One row."""

    id: str
    owner: str
    """Id of the API key that made it; empty where none are asked for."""
    domain: str
    made_domain: bool
    """Whether the domain was made for this store, and goes with it."""
    name: str
    description: str
    metadata: dict[str, str]
    created_at: datetime
    last_active_at: datetime
    expires_after_days: int | None

    @property
    def expires_at(self) -> datetime | None:
        """When it expires if it is not used before; None for never."""
        days = self.expires_after_days
        return None if days is None else self.last_active_at + timedelta(days=days)

    def is_expired(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.expires_at is not None and self.expires_at <= now


class LastError(Struct, frozen=True):
    """Why a file is not in its store."""

    code: ErrorCode
    message: str


class Entry(Struct, frozen=True):
    """A file in a store."""

    store_id: str
    file_id: str
    batch_id: str | None
    created_at: datetime
    status: FileState
    last_error: dict[str, str] | None
    attributes: Attributes
    chunking_strategy: dict[str, Any]
    usage_bytes: int


class Batch(Struct, frozen=True):
    """Files that were put into a store together."""

    id: str
    store_id: str
    created_at: datetime
    status: Literal["in_progress", "cancelled"]
    """`cancelled` once that was asked for; what has become of its files says the rest."""


def new_store_id() -> str:
    """A random id."""
    return "vs_" + secrets.token_hex(16)


def insert_store(connection: Connection, store: Store) -> None:
    """Write a row."""
    values = {name: getattr(store, name) for name in store.__struct_fields__}
    connection.execute(insert(vector_stores_table).values(**values))


def find_store(connection: Connection, store_id: str, caller: Caller | None = None) -> Store:
    """The store.

    Args:
        caller: who wants it; None for our own work.

    Raises:
        NotFound: there is none, or it belongs to another key.
    """
    if _ID.fullmatch(store_id):
        query = select(*_STORE).where(vector_stores_table.c.id == store_id)
        row = connection.execute(query).mappings().first()
        if row is not None and (caller is None or caller.key_id in ("", row["owner"])):
            return Store(**row)
    raise NotFound(
        f"there is no vector store {store_id!r}; see them all with: GET /v1/vector_stores", param="vector_store_id"
    )


def list_stores(connection: Connection, caller: Caller | None = None) -> list[Store]:
    """The caller's stores, oldest first; without a caller, everybody's."""
    query = select(*_STORE).order_by(vector_stores_table.c.created_at, vector_stores_table.c.id)
    if caller is not None and caller.key_id:
        query = query.where(vector_stores_table.c.owner == caller.key_id)
    return [Store(**row) for row in connection.execute(query).mappings()]


def stores_of_domain(connection: Connection, domain: str) -> list[Store]:
    """Everybody's stores over a domain, oldest first."""
    return [store for store in list_stores(connection) if store.domain == domain]


def update_store(connection: Connection, store_id: str, **values: Any) -> None:
    """Change columns of a store."""
    connection.execute(update(vector_stores_table).where(vector_stores_table.c.id == store_id).values(**values))


def delete_store_row(connection: Connection, store_id: str) -> None:
    """Delete a store, and by cascade its files' and batches' rows."""
    connection.execute(delete(vector_stores_table).where(vector_stores_table.c.id == store_id))


def put_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    """Put files into a store as `in_progress`; one that is in it already is done anew."""
    for part in in_parts(entries):
        _delete_entries(connection, part[0].store_id, [entry.file_id for entry in part])
        rows = [{name: getattr(entry, name) for name in entry.__struct_fields__} for entry in part]
        connection.execute(insert(vector_store_files_table), [row | {"last_error": null()} for row in rows])


def find_entry(connection: Connection, store_id: str, file_id: str) -> Entry:
    """A file in a store.

    Raises:
        NotFound: it is not in it.
    """
    if _ID.fullmatch(file_id):
        query = select(*_ENTRY).where(_E.store_id == store_id, _E.file_id == file_id)
        row = connection.execute(query).mappings().first()
        if row is not None:
            return Entry(**row)
    raise NotFound(f"vector store {store_id!r} holds no file {file_id!r}", param="file_id")


def list_entries(
    connection: Connection, store_id: str, *, batch_id: str | None = None, status: FileState | None = None
) -> list[Entry]:
    """Files of a store, oldest first."""
    query = select(*_ENTRY).where(_E.store_id == store_id).order_by(_E.created_at, _E.file_id)
    if batch_id is not None:
        query = query.where(_E.batch_id == batch_id)
    if status is not None:
        query = query.where(_E.status == status)
    return [Entry(**row) for row in connection.execute(query).mappings()]


def count_entries(connection: Connection, store_ids: Iterable[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """Store id -> status -> (files, bytes)."""
    counts: dict[str, dict[str, tuple[int, int]]] = {store_id: {} for store_id in store_ids}
    for part in in_parts(list(counts)):
        query = select(_E.store_id, _E.status, func.count(), func.sum(_E.usage_bytes)).where(_E.store_id.in_(part))
        for store_id, status, count, num_bytes in connection.execute(query.group_by(_E.store_id, _E.status)):
            counts[store_id][status] = (count, int(num_bytes or 0))
    return counts


def settle_entry(
    connection: Connection, entry: Entry, status: FileState, error: LastError | None = None, usage_bytes: int = 0
) -> bool:
    """Write what has become of a file; returns False where it is no longer in progress, and nothing is written."""
    failure = null() if error is None else {"code": error.code, "message": error.message}
    query = update(vector_store_files_table).where(
        _E.store_id == entry.store_id,
        _E.file_id == entry.file_id,
        _E.created_at == entry.created_at,
        _E.status == "in_progress",
    )
    values = {"status": status, "last_error": failure, "usage_bytes": usage_bytes}
    return connection.execute(query.values(**values)).rowcount == 1


def set_attributes(connection: Connection, store_id: str, file_id: str, attributes: Attributes) -> None:
    """Replace the attributes of a file in a store."""
    query = update(vector_store_files_table).where(_E.store_id == store_id, _E.file_id == file_id)
    connection.execute(query.values(attributes=attributes))


def delete_entries(connection: Connection, store_id: str, file_ids: Sequence[str]) -> None:
    """Take files out of a store; their documents are another matter, see `removal`."""
    for part in in_parts(file_ids):
        _delete_entries(connection, store_id, part)


def stores_of_file(connection: Connection, file_id: str, statuses: Sequence[FileState] = ()) -> list[str]:
    """Ids of the stores that a file is in.

    Args:
        statuses: only where it is in one of these; all where empty.
    """
    query = select(_E.store_id).where(_E.file_id == file_id)
    return list(connection.scalars(query.where(_E.status.in_(statuses)) if statuses else query))


def insert_batch(connection: Connection, store_id: str) -> Batch:
    """Write down a new batch."""
    batch = Batch("vsfb_" + secrets.token_hex(16), store_id, datetime.now(UTC), "in_progress")
    values = {name: getattr(batch, name) for name in batch.__struct_fields__}
    connection.execute(insert(vector_store_batches_table).values(**values))
    return batch


def find_batch(connection: Connection, store_id: str, batch_id: str) -> Batch:
    """A batch of a store.

    Raises:
        NotFound: there is none.
    """
    table = vector_store_batches_table.c
    if _ID.fullmatch(batch_id):
        query = select(vector_store_batches_table).where(table.id == batch_id, table.store_id == store_id)
        row = connection.execute(query).mappings().first()
        if row is not None:
            return Batch(**row)
    raise NotFound(f"vector store {store_id!r} has no file batch {batch_id!r}", param="batch_id")


def cancel_batch(connection: Connection, batch: Batch) -> None:
    """Cancel a batch: what is in it and not done yet will not be."""
    here = (_E.store_id == batch.store_id, _E.batch_id == batch.id, _E.status == "in_progress")
    connection.execute(update(vector_store_files_table).where(*here).values(status="cancelled"))
    row = vector_store_batches_table.c.id == batch.id
    connection.execute(update(vector_store_batches_table).where(row).values(status="cancelled"))


_E = vector_store_files_table.c
_ENTRY = [vector_store_files_table.c[name] for name in Entry.__struct_fields__]
_STORE = [vector_stores_table.c[name] for name in Store.__struct_fields__]


def _delete_entries(connection: Connection, store_id: str, file_ids: Sequence[str]) -> None:
    connection.execute(delete(vector_store_files_table).where(_E.store_id == store_id, _E.file_id.in_(file_ids)))
