"""Taking files out of vector stores, and what they have become out of the domain.

A file that leaves a store leaves the domain's newest epoch, unless another store over the same domain holds it too. A
file that is deleted is erased from every epoch of every domain: deleted means deleted.
"""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from bakeoff.adapters import list_adapters
from bakeoff.artefacts import indexes_dir, runs_dir
from bakeoff.database import writing
from bakeoff.domains import delete_domain, list_domains
from bakeoff.errors import NotFound
from bakeoff.examples import load_examples
from retrieval.catalogue import document_ids, documents_of_upload
from retrieval.history import purge_documents
from retrieval.retriever import snapshots_folder
from retrieval.store import remove_documents
from service.archive import erase_answers_from
from service.openai.vector_stores.records import (
    Store,
    delete_entries,
    delete_store_row,
    list_entries,
    list_stores,
    stores_of_domain,
    stores_of_file,
    update_store,
)


def remove_files(engine: Engine, store: Store, file_ids: Sequence[str]) -> None:
    """Take files out of a store, and their documents out of its domain."""
    with writing(engine) as connection:
        delete_entries(connection, store.id, file_ids)
    drop_documents(engine, store.domain, file_ids)


def drop_documents(engine: Engine, domain: str, file_ids: Sequence[str]) -> None:
    """Remove the documents of files that no store over the domain holds any more, or wants to."""
    with engine.connect() as connection:
        over_domain = {store.id for store in stores_of_domain(connection, domain)}
        gone = [
            file_id
            for file_id in file_ids
            if not over_domain.intersection(stores_of_file(connection, file_id, ("in_progress", "completed")))
        ]
        ids = [name for file_id in gone for name in documents_of_upload(connection, domain, file_id)]
    if ids:
        with suppress(NotFound):  # somebody else has just removed them
            remove_documents(engine, domain, ids)


def detach_file(engine: Engine, home: Path, file_id: str) -> None:
    """Take a file out of every store; erase its documents from every epoch, and the answers made from them."""
    with writing(engine) as connection:
        for store_id in stores_of_file(connection, file_id):
            delete_entries(connection, store_id, [file_id])
    with engine.connect() as connection:
        held = {
            domain.name: documents_of_upload(connection, domain.name, file_id, ever=True)
            for domain in list_domains(connection)
        }
    for domain, ids in held.items():
        if ids:
            with suppress(NotFound):
                purged = purge_documents(engine, domain, ids, snapshots_folder(indexes_dir(home), domain))
                erase_answers_from(engine, domain, purged.chunk_ids)


def delete_store(engine: Engine, home: Path, store: Store) -> None:
    """Delete a store with its documents, and its domain where that was made for it and serves nothing else."""
    with writing(engine) as connection:
        file_ids = [entry.file_id for entry in list_entries(connection, store.id)]
        delete_store_row(connection, store.id)
        others = stores_of_domain(connection, store.domain)
        if store.made_domain and others:
            update_store(connection, others[0].id, made_domain=True)
        goes = store.made_domain and not others and _serves_nothing_else(connection, home, store.domain, file_ids)
        if goes:
            delete_domain(connection, store.domain)
    if goes:
        shutil.rmtree(indexes_dir(home) / store.domain, ignore_errors=True)
        shutil.rmtree(runs_dir(home, store.domain), ignore_errors=True)
    else:
        drop_documents(engine, store.domain, file_ids)


def clear_expired_stores(engine: Engine, now: datetime) -> int:
    """Empty the stores that have expired; their rows stay and say so.

    Returns:
        Stores emptied.
    """
    num_emptied = 0
    with engine.connect() as connection:
        expired = [store for store in list_stores(connection) if store.is_expired(now)]
        held = {store.id: [entry.file_id for entry in list_entries(connection, store.id)] for store in expired}
    for store in expired:
        if held[store.id]:
            remove_files(engine, store, held[store.id])
            num_emptied += 1
    return num_emptied


def _serves_nothing_else(connection: Connection, home: Path, domain: str, file_ids: Sequence[str]) -> bool:
    uploads = set(file_ids)
    return (
        not load_examples(connection, domain)
        and not list_adapters(connection, home, domain)
        and all(name.partition("#")[0] in uploads for name in document_ids(connection, domain))
    )
