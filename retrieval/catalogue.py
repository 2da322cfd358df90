"""Reading documents back: lists, pages, and the texts of what a search found, always as far as the reader may see."""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from bakeoff.database import in_parts
from bakeoff.domains import find_domain
from bakeoff.errors import NotFound
from bakeoff.records import Chunk, Document
from retrieval.history import alive_at
from retrieval.permissions import load_groups
from retrieval.tables import ALIVE, chunks_table, documents_table, grants_table


class DocumentRow(Struct, frozen=True):
    """A document as lists show it."""

    id: str
    title: str
    source: str
    chunks: int
    groups: tuple[str, ...]
    """Who may see it."""


class StoredChunk(Struct, frozen=True):
    """A chunk with its place in the database and in its document."""

    key: int
    position: int
    chunk: Chunk


def list_documents(connection: Connection, domain: str, epoch: int | None = None) -> list[DocumentRow]:
    """Every document of the domain, by id, whoever may see it.

    Raises:
        NotFound: no such domain.
    """
    now = find_domain(connection, domain).epoch
    at = now if epoch is None else epoch
    counted = select(chunks_table.c.document_id, func.count().label("num")).where(chunks_table.c.domain == domain)
    counts = counted.where(alive_at(chunks_table, at)).group_by(chunks_table.c.document_id).subquery()
    table = documents_table.c
    rows = connection.execute(
        select(table.id, table.title, table.source, func.coalesce(counts.c.num, 0))
        .outerjoin(counts, counts.c.document_id == table.id)
        .where(table.domain == domain, alive_at(documents_table, at))
        .order_by(table.id)
    ).all()
    groups = load_all_groups(connection, domain)
    return [DocumentRow(name, title, source, num, groups.get(name, ())) for name, title, source, num in rows]


def load_all_groups(connection: Connection, domain: str) -> dict[str, tuple[str, ...]]:
    """Document id -> its groups, of every document that has any."""
    table = grants_table.c
    ids = connection.scalars(select(table.document_id).where(table.domain == domain, table.is_granted).distinct())
    groups: dict[str, tuple[str, ...]] = {}
    for part in in_parts(list(ids)):
        groups |= load_groups(connection, domain, part)
    return groups


def count_chunks(connection: Connection, domain: str) -> dict[str, int]:
    """Document id -> number of its chunks, of the documents that the domain holds now."""
    table = chunks_table.c
    query = select(table.document_id, func.count()).where(table.domain == domain, table.died == ALIVE)
    return dict(connection.execute(query.group_by(table.document_id)).tuples().all())


def document_ids(connection: Connection, domain: str) -> set[str]:
    """Ids of the documents that the domain holds now; empty where there is no such domain."""
    table = documents_table.c
    return set(connection.scalars(select(table.id).where(table.domain == domain, table.died == ALIVE)))


def documents_of_upload(connection: Connection, domain: str, upload: str, *, ever: bool = False) -> list[str]:
    """Ids of the documents that an uploaded file is, in its order; see `documents.read_upload`.

    Args:
        ever: those of the past too.
    """
    table = documents_table.c
    query = select(table.id).where(
        table.domain == domain, or_(table.id == upload, table.id.startswith(upload + "#", autoescape=True))
    )
    found = set(connection.scalars(query if ever else query.where(table.died == ALIVE)))
    return sorted(found, key=lambda name: (len(name), name))


def count_bytes(connection: Connection, domain: str, ids: Sequence[str]) -> int:
    """What the chunks of these documents take as they are now: their texts and vectors."""
    table = chunks_table.c
    total = 0
    for part in in_parts(ids):
        query = select(func.sum(func.length(table.text) + func.length(table.vector))).where(
            table.domain == domain, table.died == ALIVE, table.document_id.in_(part)
        )
        total += int(connection.scalar(query) or 0)
    return total


def document_origins(connection: Connection, domain: str) -> dict[str, str]:
    """Document id -> the file it was read from, of the documents that the domain holds now."""
    table = documents_table.c
    query = select(table.id, table.origin).where(table.domain == domain, table.died == ALIVE)
    return dict(connection.execute(query).tuples().all())


def load_texts(connection: Connection, domain: str, ids: Sequence[str]) -> dict[str, str]:
    """Document id -> its text, of those among these ids that the domain holds now."""
    table = documents_table.c
    texts: dict[str, str] = {}
    for part in in_parts(ids):
        here = (table.domain == domain, table.died == ALIVE, table.id.in_(part))
        texts |= dict(connection.execute(select(table.id, table.text).where(*here)).tuples().all())
    return texts


def count_documents(connection: Connection, domain: str, groups: Iterable[str]) -> int:
    """How many documents the domain holds now that one of these groups may see."""
    table = documents_table.c
    query = select(func.count()).where(
        table.domain == domain, table.died == ALIVE, _is_granted(table.domain, table.id, groups)
    )
    return connection.scalar(query) or 0


def find_document(
    connection: Connection, domain: str, document_id: str, groups: Iterable[str]
) -> tuple[Document, list[Chunk]]:
    """One document as it is now, and its chunks in order.

    Raises:
        NotFound: the domain holds no such document, or none that one of these groups may see.
    """
    table = documents_table.c
    query = select(table.id, table.title, table.text, table.source, table.origin).where(
        table.domain == domain,
        table.id == document_id,
        table.died == ALIVE,
        _is_granted(table.domain, table.id, groups),
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"domain {domain!r} holds no document {document_id!r}")
    here = (chunks_table.c.domain == domain, chunks_table.c.document_id == document_id, chunks_table.c.died == ALIVE)
    chunks = connection.execute(select(*_CHUNK).where(*here).order_by(chunks_table.c.position))
    return Document(*row), [Chunk(*chunk) for chunk in chunks]


def load_chunks(
    connection: Connection, domain: str, keys: Sequence[int], groups: Iterable[str]
) -> dict[int, StoredChunk]:
    """The chunks with these keys that exist and that one of these groups may see, by key."""
    table = chunks_table.c
    query = select(table.domain, table.key, table.position, *_CHUNK).where(
        table.key.in_(keys), _is_granted(table.domain, table.document_id, groups)
    )  # with the domain among the conditions, SQLite reads an index of the whole domain to find a few keys
    found = (row[1:] for row in connection.execute(query) if row[0] == domain)
    return {row[0]: StoredChunk(row[0], row[1], Chunk(*row[2:])) for row in found}


_CHUNK = [chunks_table.c[name] for name in ("chunk_id", "document_id", "title", "text", "heading", "page")]


def _is_granted(
    domain: ColumnElement[str], document_id: ColumnElement[str], groups: Iterable[str]
) -> ColumnElement[bool]:
    table = grants_table.c
    same = and_(table.domain == domain, table.document_id == document_id)
    return exists().where(same, table.is_granted, table.caller_group.in_(sorted(groups)))
