"""What the job of a vector store does: its waiting files -> documents of its domain, one file after another.

Each file's status is written when it is done, so that a client sees progress and a job that was killed goes on with
the next file. A file that is cancelled, or leaves the store, while it is worked on is taken out of the domain again.
"""

import logging
from pathlib import Path

from filelock import FileLock
from msgspec import Struct
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from bakeoff.database import writing
from bakeoff.domains import delete_domain
from bakeoff.errors import BadInput, BakeoffError, NotFound
from bakeoff.keys import list_keys
from bakeoff.progress import Progress
from retrieval.catalogue import count_bytes, document_ids, documents_of_upload
from retrieval.documents import Read, UnsupportedKind, read_upload
from retrieval.embedder import Embedder
from retrieval.formats.converter import Converter
from retrieval.store import add_documents
from service.openai.files.folder import files_dir
from service.openai.files.records import find_file, find_files
from service.openai.vector_stores.records import (
    Entry,
    LastError,
    Store,
    find_entry,
    find_store,
    list_entries,
    settle_entry,
    stores_of_domain,
)
from service.openai.vector_stores.removal import detach_file, drop_documents

logger = logging.getLogger(__name__)


class Ingested(Struct, frozen=True):
    """What has come of a store's files."""

    completed: int = 0
    failed: int = 0
    left: int = 0
    """Cancelled or taken out while they were worked on."""


def ingest(engine: Engine, home: Path, embedder: Embedder, store_id: str, progress: Progress) -> Ingested:
    """Put every waiting file of a store into its domain, those that come meanwhile too.

    Args:
        progress: called with (files done, files known of, name of the next file).

    Raises:
        NotFound: there is no such store.
    """
    counts = {"completed": 0, "failed": 0, "left": 0}
    with engine.connect() as connection:
        store = find_store(connection, store_id)
        groups = next((key.groups for key in list_keys(connection) if key.id == store.owner), ())
    with Converter() as converter:
        while waiting := _waiting(engine, store_id):
            known = sum(counts.values()) + len(waiting)
            for entry in waiting:
                progress(sum(counts.values()), known, entry.file_id)
                with FileLock(home / "ingestion.lock"):  # another job of this store may have the same list
                    if _is_waiting(engine, entry):
                        counts[_put_in(engine, home, embedder, store, entry, groups, converter)] += 1
    progress(sum(counts.values()), sum(counts.values()), "")
    return Ingested(**counts)


def _put_in(
    engine: Engine,
    home: Path,
    embedder: Embedder,
    store: Store,
    entry: Entry,
    groups: tuple[str, ...],
    converter: Converter,
) -> str:
    """Put one file in; returns which of the counts it belongs to."""
    usage_bytes, error = 0, None
    try:
        reads = _read(engine, home, entry.file_id, converter)
        wanted = {read.document.id: read.groups or groups for read in reads if read.groups or groups}
        documents = [read.document for read in reads]
        add_documents(engine, store.domain, documents, embedder, lambda *_: None, wanted)
        with engine.connect() as connection:
            usage_bytes = count_bytes(connection, store.domain, [document.id for document in documents])
    except UnsupportedKind as failure:
        error = LastError("unsupported_file", str(failure))
    except (BadInput, NotFound) as failure:
        error = LastError("invalid_file", str(failure))
    except (BakeoffError, OSError, ValueError, RuntimeError, SQLAlchemyError) as failure:
        logger.exception("file cannot be indexed store=%s file=%s", store.id, entry.file_id)
        what = str(failure) if isinstance(failure, BakeoffError) else type(failure).__name__
        error = LastError("server_error", f"it could not be indexed: {what}; put it in again")
    with writing(engine) as connection:
        if settle_entry(connection, entry, "failed" if error else "completed", error, usage_bytes):
            return "failed" if error else "completed"
    _take_back(engine, home, store, entry.file_id)
    return "left"


def _read(engine: Engine, home: Path, file_id: str, converter: Converter) -> list[Read]:
    with engine.connect() as connection:
        file = find_file(connection, file_id)
    path = files_dir(home) / file.stored_as
    if not path.is_file():
        raise NotFound(f"the content of file {file_id!r} is gone from the disk; upload it again", param="file_id")
    return read_upload(path, file.filename, file.id, converter)


def _take_back(engine: Engine, home: Path, store: Store, file_id: str) -> None:
    """Remove the documents of a file that has left its store, or was cancelled, while they were written.

    Those of a file that was deleted meanwhile are erased, as its deletion would have done.
    """
    with writing(engine) as connection:
        is_orphaned = store.made_domain and not stores_of_domain(connection, store.domain)
        held = set(documents_of_upload(connection, store.domain, file_id))
        if is_orphaned and held == document_ids(connection, store.domain):
            delete_domain(connection, store.domain)  # the store took it along, and writing has made it anew
            return
    with engine.connect() as connection:
        is_deleted = not find_files(connection, [file_id])
    if is_deleted:
        detach_file(engine, home, file_id)
    else:
        drop_documents(engine, store.domain, [file_id])


def _waiting(engine: Engine, store_id: str) -> list[Entry]:
    """The store's files in progress, oldest first; none where the store is gone."""
    with engine.connect() as connection:
        return list_entries(connection, store_id, status="in_progress")


def _is_waiting(engine: Engine, entry: Entry) -> bool:
    with engine.connect() as connection:
        try:
            found = find_entry(connection, entry.store_id, entry.file_id)
        except NotFound:
            return False
    return (found.status, found.created_at) == ("in_progress", entry.created_at)
