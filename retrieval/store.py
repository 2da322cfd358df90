"""Documents, chunks, vectors and the domain's epoch, written in one transaction: what every index is built from.

A batch of documents is embedded first and written after, so that the database is locked for milliseconds; a batch
that was written stays written, and adding the same documents again passes over those that have not changed.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from sqlalchemy import Connection, Engine, delete, func, insert, select

from bakeoff.domains import advance_epoch, ensure_domain, find_domain
from bakeoff.errors import NotFound
from bakeoff.progress import Progress
from bakeoff.records import Chunk, Document
from retrieval.chunking import cut_chunks, text_to_embed
from retrieval.embedder import Embedder, Vectors
from retrieval.tables import chunks_table, documents_table

BATCH_DOCUMENTS = 64


class AddCounts(Struct, frozen=True):
    """What adding documents did."""

    added: int
    replaced: int
    unchanged: int
    chunks: int
    """Chunks written."""
    epoch: int


class DocumentRow(Struct, frozen=True):
    """A document as lists show it."""

    id: str
    title: str
    source: str
    chunks: int


def add_documents(
    engine: Engine, domain: str, documents: Sequence[Document], embedder: Embedder, progress: Progress
) -> AddCounts:
    """Add documents to a domain, made if new; one with an id that is there already replaces it.

    Args:
        progress: called with (documents done, documents in all, note) after every batch.
    """
    with engine.begin() as connection:
        epoch = ensure_domain(connection, domain).epoch
        known = {document.id: document for document in _load_documents(connection, domain)}
        current = _embedded_documents(connection, domain, embedder.name)
    new = [document for document in documents if known.get(document.id) != document or document.id not in current]
    num_chunks = 0
    done = len(documents) - len(new)
    for start in range(0, len(new), BATCH_DOCUMENTS):
        batch = new[start : start + BATCH_DOCUMENTS]
        chunks = [cut_chunks(document) for document in batch]
        flat = [chunk for of_document in chunks for chunk in of_document]
        vectors = embedder.embed([text_to_embed(chunk) for chunk in flat])
        with engine.begin() as connection:
            _write(connection, domain, batch, chunks, vectors, embedder.name)
            epoch = advance_epoch(connection, domain)
        num_chunks += len(flat)
        done += len(batch)
        progress(done, len(documents), f"{num_chunks} chunks")
    replaced = sum(document.id in known for document in new)
    return AddCounts(len(new) - replaced, replaced, len(documents) - len(new), num_chunks, epoch)


def remove_documents(engine: Engine, domain: str, ids: Sequence[str]) -> int:
    """Remove documents, all or none.

    Returns:
        The new epoch.

    Raises:
        NotFound: names the ids that do not exist.
    """
    with engine.begin() as connection:
        find_domain(connection, domain)
        missing = set(ids) - document_ids(connection, domain)
        if missing:
            raise NotFound(f"domain {domain!r} holds no document {', '.join(sorted(missing))}; nothing was removed")
        _delete(connection, domain, ids)
        return advance_epoch(connection, domain)


def list_documents(connection: Connection, domain: str) -> list[DocumentRow]:
    """Every document of the domain, by id.

    Raises:
        NotFound: no such domain.
    """
    find_domain(connection, domain)
    table = documents_table.c
    num_chunks = func.count(chunks_table.c.chunk_id)
    rows = connection.execute(
        select(table.id, table.title, table.source, num_chunks)
        .outerjoin(chunks_table, (chunks_table.c.domain == table.domain) & (chunks_table.c.document_id == table.id))
        .where(table.domain == domain)
        .group_by(table.id, table.title, table.source)
        .order_by(table.id)
    )
    return [DocumentRow(*row) for row in rows]


def document_ids(connection: Connection, domain: str) -> set[str]:
    """Ids of the domain's documents; empty where there is no such domain."""
    query = select(documents_table.c.id).where(documents_table.c.domain == domain)
    return set(connection.scalars(query))


def count_documents(connection: Connection, domain: str) -> int:
    """How many documents the domain holds."""
    return connection.scalar(select(func.count()).where(documents_table.c.domain == domain)) or 0


def find_document(connection: Connection, domain: str, document_id: str) -> tuple[Document, list[Chunk]]:
    """One document and its chunks, in order.

    Raises:
        NotFound: the domain holds no such document.
    """
    here = (documents_table.c.domain == domain, documents_table.c.id == document_id)
    row = connection.execute(select(documents_table).where(*here)).mappings().first()
    if row is None:
        raise NotFound(f"domain {domain!r} holds no document {document_id!r}")
    chunk_rows = connection.execute(
        select(chunks_table.c.chunk_id, chunks_table.c.text)
        .where(chunks_table.c.domain == domain, chunks_table.c.document_id == document_id)
        .order_by(chunks_table.c.position)
    )
    document = Document(row["id"], row["title"], row["text"], row["source"])
    return document, [Chunk(chunk_id, document.id, document.title, text) for chunk_id, text in chunk_rows]


def load_vectors(connection: Connection, domain: str, embedder: str) -> tuple[list[str], Vectors]:
    """Every chunk's id and vector, in a stable order.

    Returns:
        (chunk ids, (n, dim) float32 of unit length); vectors of another embedder are left out.
    """
    rows = connection.execute(
        select(chunks_table.c.chunk_id, chunks_table.c.vector)
        .where(chunks_table.c.domain == domain, chunks_table.c.embedder == embedder)
        .order_by(chunks_table.c.document_id, chunks_table.c.position)
    ).all()
    return [chunk_id for chunk_id, _ in rows], stack_vectors([vector for _, vector in rows])


def other_embedders(connection: Connection, domain: str, embedder: str) -> list[str]:
    """Names of the embedders, beside this one, that embedded chunks of the domain."""
    table = chunks_table.c
    query = select(table.embedder).where(table.domain == domain, table.embedder != embedder).distinct()
    return sorted(connection.scalars(query))


def stack_vectors(blobs: Sequence[bytes]) -> Vectors:
    """Turn stored vectors into one array, (n, dim) float32; (0, 0) for none."""
    if not blobs:
        return np.zeros((0, 0), np.float32)
    return np.frombuffer(b"".join(blobs), np.float32).reshape(len(blobs), -1)


def load_chunks(connection: Connection, domain: str, chunk_ids: Sequence[str]) -> dict[str, Chunk]:
    """The chunks of these ids that exist."""
    rows = connection.execute(
        select(chunks_table.c.chunk_id, chunks_table.c.document_id, documents_table.c.title, chunks_table.c.text)
        .join(
            documents_table,
            (documents_table.c.domain == chunks_table.c.domain) & (documents_table.c.id == chunks_table.c.document_id),
        )
        .where(chunks_table.c.domain == domain, chunks_table.c.chunk_id.in_(chunk_ids))
    )
    return {row[0]: Chunk(*row) for row in rows}


def _load_documents(connection: Connection, domain: str) -> Iterator[Document]:
    table = documents_table.c
    rows = connection.execute(select(table.id, table.title, table.text, table.source).where(table.domain == domain))
    return (Document(*row) for row in rows)


def _embedded_documents(connection: Connection, domain: str, embedder: str) -> set[str]:
    table = chunks_table.c
    query = select(table.document_id).where(table.domain == domain, table.embedder == embedder).distinct()
    return set(connection.scalars(query))


def _write(
    connection: Connection,
    domain: str,
    documents: Sequence[Document],
    chunks: Sequence[Sequence[Chunk]],
    vectors: Vectors,
    embedder: str,
) -> None:
    _delete(connection, domain, [document.id for document in documents])
    connection.execute(
        insert(documents_table),
        [
            {"domain": domain, "id": doc.id, "title": doc.title, "text": doc.text, "source": doc.source}
            for doc in documents
        ],
    )
    placed = [(position, chunk) for of_document in chunks for position, chunk in enumerate(of_document)]
    connection.execute(
        insert(chunks_table),
        [
            {
                "domain": domain,
                "chunk_id": chunk.chunk_id,
                "document_id": chunk.document_id,
                "position": position,
                "text": chunk.text,
                "embedder": embedder,
                "vector": vector.tobytes(),
            }
            for (position, chunk), vector in zip(placed, vectors, strict=True)
        ],
    )


def _delete(connection: Connection, domain: str, ids: Sequence[str]) -> None:
    for document_id in ids:
        here = (documents_table.c.domain == domain, documents_table.c.id == document_id)
        connection.execute(delete(documents_table).where(*here))
