"""The rows of uploaded files. One that has expired is gone for every reader, whether it was swept away yet or not."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select

from bakeoff.database import in_parts
from bakeoff.errors import NotFound
from service.callers import Caller
from service.tables import files_table

FileStatus = Literal["uploaded", "processed", "error"]


class StoredFile(Struct, frozen=True):
    """One row."""

    id: str
    owner: str
    """Id of the API key that uploaded it; empty where none are asked for."""
    filename: str
    """As the client calls it; never a name on our disk."""
    purpose: str
    bytes: int
    sha256: str
    stored_as: str
    """Its name in the folder of files: random."""
    status: FileStatus
    status_details: str | None
    """What is wrong with a file for training."""
    created_at: datetime
    expires_at: datetime | None


def new_file_id() -> str:
    """A random id."""
    return "file-" + secrets.token_hex(12)


def insert_file(connection: Connection, file: StoredFile) -> None:
    """Write a row."""
    connection.execute(insert(files_table).values(**{name: getattr(file, name) for name in file.__struct_fields__}))


def find_file(connection: Connection, file_id: str, caller: Caller | None = None, param: str = "file_id") -> StoredFile:
    """The file.

    Args:
        caller: who wants it; None for our own work, which has seen to that before.
        param: what the request calls it.

    Raises:
        NotFound: there is none, it has expired, or it belongs to another key.
    """
    found = find_files(connection, [file_id])
    if not found or (caller is not None and caller.key_id not in ("", found[file_id].owner)):
        raise NotFound(f"there is no file {file_id!r}; see them all with: GET /v1/files", param=param)
    return found[file_id]


def find_files(connection: Connection, ids: Sequence[str]) -> dict[str, StoredFile]:
    """Those of these files that exist, by id."""
    found: dict[str, StoredFile] = {}
    for part in in_parts(ids):
        query = select(*_COLUMNS).where(files_table.c.id.in_(part), _is_current())
        found |= {row["id"]: StoredFile(**row) for row in connection.execute(query).mappings()}
    return found


def list_files(connection: Connection, caller: Caller, purpose: str | None = None) -> list[StoredFile]:
    """The caller's files, oldest first."""
    query = select(*_COLUMNS).where(_is_current()).order_by(files_table.c.created_at, files_table.c.id)
    if caller.key_id:
        query = query.where(files_table.c.owner == caller.key_id)
    if purpose is not None:
        query = query.where(files_table.c.purpose == purpose)
    return [StoredFile(**row) for row in connection.execute(query).mappings()]


def list_expired(connection: Connection) -> list[StoredFile]:
    """Files that are past their time and still there."""
    query = select(*_COLUMNS).where(files_table.c.expires_at <= datetime.now(UTC))
    return [StoredFile(**row) for row in connection.execute(query).mappings()]


def delete_row(connection: Connection, file_id: str) -> None:
    """Forget a file."""
    connection.execute(delete(files_table).where(files_table.c.id == file_id))


def stored_names(connection: Connection) -> set[str]:
    """Names on the disk that have a row."""
    return set(connection.scalars(select(files_table.c.stored_as)))


_COLUMNS = [files_table.c[name] for name in StoredFile.__struct_fields__]


def _is_current() -> ColumnElement[bool]:
    return or_(files_table.c.expires_at.is_(None), files_table.c.expires_at > datetime.now(UTC))
