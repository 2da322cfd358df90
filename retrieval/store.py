"""Writing documents: a document, its chunks, their vectors, its groups and the epoch, in one transaction.

What is to be written is cut and embedded first, so that the database is locked for milliseconds. A chunk whose id is
known keeps its vector, so an edit embeds only what it changed. A batch that was written stays written, and adding the
same documents again passes over those that have not changed.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from sqlalchemy import Connection, Engine, insert, select, update

from bakeoff.database import in_parts, reading, writing
from bakeoff.domains import ensure_domain, find_domain, lock_domain
from bakeoff.errors import NotFound
from bakeoff.progress import Progress
from bakeoff.records import Document
from retrieval.embedder import Embedder
from retrieval.history import begin_epoch
from retrieval.permissions import check_groups, load_groups, write_groups
from retrieval.preparing import PreparedChunk, prepare_chunks, recipe_of
from retrieval.tables import ALIVE, EVERYONE, chunks_table, documents_table, grants_table

BATCH_DOCUMENTS = 64


class AddCounts(Struct, frozen=True):
    """What adding documents did."""

    added: int
    replaced: int
    unchanged: int
    chunks: int
    """Chunks written."""
    embedded: int
    """Chunks that had to be embedded: the others' vectors were there."""
    epoch: int


def add_documents(
    engine: Engine,
    domain: str,
    documents: Sequence[Document],
    embedder: Embedder,
    progress: Progress,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> AddCounts:
    """Add documents to a domain, made if new; one with an id that is there already replaces it.

    Args:
        progress: called with (documents done, documents in all, note) after every batch.
        groups: document id -> the groups that may see it, and no others. A document that is not named keeps the groups
            it has, or had when it was removed; a new one is for everyone.

    Raises:
        BadInput: a name that a domain or a group cannot have; nothing is written then.
    """
    groups = {document_id: check_groups(names) for document_id, names in (groups or {}).items()}
    with writing(engine) as connection:
        ensure_domain(connection, domain)
    return _add_all(engine, domain, documents, embedder, progress, groups, is_reindex=False)


def remove_documents(engine: Engine, domain: str, ids: Iterable[str]) -> int:
    """Take documents out of the epochs to come, all or none.

    Returns:
        The new epoch.

    Raises:
        NotFound: names the ids that the domain does not hold now.
    """
    wanted = sorted(set(ids))
    with writing(engine) as connection:
        lock_domain(connection, domain)
        missing = set(wanted).difference(*(_alive_documents(connection, domain, part) for part in in_parts(wanted)))
        if missing:
            raise NotFound(f"domain {domain!r} holds no document {', '.join(sorted(missing))}; nothing was removed")
        epoch = begin_epoch(connection, domain, "remove", len(wanted))
        for table, column in ((documents_table, documents_table.c.id), (chunks_table, chunks_table.c.document_id)):
            for part in in_parts(wanted):
                alive = (table.c.domain == domain, column.in_(part), table.c.died == ALIVE)
                connection.execute(update(table).where(*alive).values(died=epoch))
    return epoch


def reindex_documents(engine: Engine, domain: str, embedder: Embedder, progress: Progress) -> AddCounts:
    """Cut and embed again the documents that were indexed with another embedder or by older rules.

    Raises:
        NotFound: no such domain.
    """
    table = documents_table.c
    with reading(engine) as connection:
        find_domain(connection, domain)
        query = select(table.id).where(table.domain == domain, table.died == ALIVE, table.recipe != recipe_of(embedder))
        ids = sorted(connection.scalars(query))
        documents = [
            document
            for start in range(0, len(ids), BATCH_DOCUMENTS)
            for document, _ in _alive_documents(connection, domain, ids[start : start + BATCH_DOCUMENTS]).values()
        ]
    return _add_all(engine, domain, documents, embedder, progress, {}, is_reindex=True)


def _add_all(
    engine: Engine,
    domain: str,
    documents: Sequence[Document],
    embedder: Embedder,
    progress: Progress,
    groups: Mapping[str, Sequence[str]],
    *,
    is_reindex: bool,
) -> AddCounts:
    with reading(engine) as connection:
        counts = AddCounts(0, 0, 0, 0, 0, find_domain(connection, domain).epoch)
    for start in range(0, len(documents), BATCH_DOCUMENTS):
        batch = documents[start : start + BATCH_DOCUMENTS]
        done = _add_batch(engine, domain, batch, embedder, groups, is_reindex=is_reindex)
        counts = AddCounts(
            counts.added + done.added,
            counts.replaced + done.replaced,
            counts.unchanged + done.unchanged,
            counts.chunks + done.chunks,
            counts.embedded + done.embedded,
            done.epoch,
        )
        progress(start + len(batch), len(documents), f"{counts.chunks} chunks")
    return counts


def _add_batch(
    engine: Engine,
    domain: str,
    batch: Sequence[Document],
    embedder: Embedder,
    groups: Mapping[str, Sequence[str]],
    *,
    is_reindex: bool,
) -> AddCounts:
    """Write the documents of a batch that have changed.

    Args:
        is_reindex: the batch was read from the database; what was edited, removed or purged since stays so.
    """
    recipe = recipe_of(embedder)
    ids = [document.id for document in batch]
    with reading(engine) as connection:
        known = _alive_documents(connection, domain, ids)
    new = [document for document in batch if known.get(document.id) != (document, recipe)]
    prepared, num_embedded = prepare_chunks(engine, domain, new, embedder)
    with writing(engine) as connection:
        epoch = lock_domain(connection, domain).epoch
        if is_reindex:
            now = _alive_documents(connection, domain, ids)
            pairs = zip(new, prepared, strict=True)
            still = [(document, chunks) for document, chunks in pairs if now.get(document.id, (None,))[0] == document]
            new, prepared = [document for document, _ in still], [chunks for _, chunks in still]
            ids = [document.id for document in new]
        if new:
            epoch = begin_epoch(connection, domain, "add", len(new))
            for document, chunks in zip(new, prepared, strict=True):
                _write(connection, domain, document, chunks, epoch, embedder.name, recipe)
        write_groups(connection, domain, _wanted_groups(connection, domain, ids, groups))
    replaced = sum(document.id in known for document in new)
    num_chunks = sum(map(len, prepared))
    return AddCounts(len(new) - replaced, replaced, len(batch) - len(new), num_chunks, num_embedded, epoch)


def _wanted_groups(
    connection: Connection, domain: str, ids: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[str]]:
    table = grants_table.c
    query = select(table.document_id).where(table.domain == domain, table.document_id.in_(ids)).distinct()
    ever_granted = set(connection.scalars(query))
    stored = load_groups(connection, domain, ids)
    kept = {document_id: stored[document_id] if document_id in ever_granted else (EVERYONE,) for document_id in ids}
    return kept | {document_id: groups[document_id] for document_id in ids if document_id in groups}


def _write(
    connection: Connection,
    domain: str,
    document: Document,
    chunks: Sequence[PreparedChunk],
    epoch: int,
    embedder: str,
    recipe: str,
) -> None:
    """Write a new version of a document; chunks that stay as and where they are live on."""
    table = documents_table.c
    alive = (table.domain == domain, table.id == document.id, table.died == ALIVE)
    connection.execute(update(documents_table).where(*alive).values(died=epoch))
    values = {name: getattr(document, name) for name in ("id", "title", "text", "source", "origin")}
    row = {"domain": domain, "born": epoch, "died": ALIVE, "recipe": recipe, **values}
    connection.execute(insert(documents_table), [row])
    place = chunks_table.c
    of_document = (place.domain == domain, place.document_id == document.id, place.died == ALIVE)
    query = select(place.key, place.chunk_id, place.position, place.page, place.embedder).where(*of_document)
    stored = {tuple(row[1:]): row[0] for row in connection.execute(query)}
    wanted = {
        (ready.chunk.chunk_id, position, ready.chunk.page, embedder): ready for position, ready in enumerate(chunks)
    }
    dead = [key for found, key in stored.items() if found not in wanted]
    for part in in_parts(dead):
        connection.execute(update(chunks_table).where(place.key.in_(part)).values(died=epoch))
    new = [
        {
            "domain": domain,
            "chunk_id": ready.chunk.chunk_id,
            "document_id": document.id,
            "born": epoch,
            "died": ALIVE,
            "position": found[1],
            "title": ready.chunk.title,
            "heading": ready.chunk.heading,
            "page": ready.chunk.page,
            "text": ready.chunk.text,
            "embedder": embedder,
            "vector": ready.vector,
            "terms": ready.terms,
        }
        for found, ready in wanted.items()
        if found not in stored
    ]
    if new:
        connection.execute(insert(chunks_table), new)


def _alive_documents(connection: Connection, domain: str, ids: Sequence[str]) -> dict[str, tuple[Document, str]]:
    """Id -> the document as it is now, with the recipe of its chunks."""
    table = documents_table.c
    query = select(table.id, table.title, table.text, table.source, table.origin, table.recipe).where(
        table.domain == domain, table.died == ALIVE, table.id.in_(ids)
    )
    return {row[0]: (Document(*row[:5]), row[5]) for row in connection.execute(query)}
