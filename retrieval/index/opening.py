"""The first view of a domain in a process: from its snapshot where one is whole and fits, else from the database."""

import logging
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from bakeoff.domains import Domain
from bakeoff.errors import Mismatch
from retrieval.index.lexical import build_postings
from retrieval.index.rows import Documents, Rows, load_grants, load_rows, load_start, other_embedders
from retrieval.index.snapshot import Manifest, read_snapshot
from retrieval.index.terms import TERMS_VERSION
from retrieval.index.vectors import build_exact
from retrieval.index.view import Base, View

logger = logging.getLogger(__name__)


def open_view(connection: Connection, domain: Domain, embedder: str, folder: Path) -> View:
    """The domain as of its newest snapshot, or as it is now where there is none to use.

    A snapshot of which only the FAISS file is damaged is used without it: the vectors are read from the database and
    searched exactly.

    Args:
        folder: of the domain's snapshots.

    Raises:
        Mismatch: the domain's documents were embedded by another embedder.
    """
    snapshot = read_snapshot(folder, domain.name, embedder, TERMS_VERSION, domain.generation)
    if snapshot is None or not _is_of_this_past(connection, domain, snapshot.manifest):
        return read_epoch(connection, domain, embedder, domain.epoch)
    documents = Documents(snapshot.names)
    documents.grant(load_grants(connection, domain.name))
    rows = Rows(snapshot.columns)
    epoch = snapshot.manifest.epoch
    vectors = snapshot.vectors
    if vectors is None:
        loaded = load_rows(connection, domain.name, embedder, documents, alive_at=epoch)
        if not np.array_equal(loaded.columns["keys"], rows.keys):
            return read_epoch(connection, domain, embedder, domain.epoch)
        vectors = build_exact(loaded.vectors)
    base = Base(epoch, rows, vectors, snapshot.postings, documents)
    base.is_snapshotted = snapshot.vectors is not None
    return View(base, epoch, rows.size, None, domain.permissions, domain.generation)


def read_epoch(connection: Connection, domain: Domain, embedder: str, epoch: int) -> View:
    """Read an epoch from the database into a base that searches exactly: there at once, at any size.

    Raises:
        Mismatch: its documents were embedded by another embedder.
    """
    check_embedder(connection, domain, embedder, epoch)
    documents = Documents()
    documents.grant(load_grants(connection, domain.name))
    loaded = load_rows(connection, domain.name, embedder, documents, alive_at=epoch)
    rows = Rows(loaded.columns)
    vectors = build_exact(loaded.vectors) if rows.size else None
    base = Base(epoch, rows, vectors, build_postings(loaded.terms), documents)
    return View(base, epoch, rows.size, None, domain.permissions, domain.generation)


def check_embedder(connection: Connection, domain: Domain, embedder: str, epoch: int, *, after: int = 0) -> None:
    """Refuse to compare vectors of two embedders.

    Args:
        epoch: whose chunks are looked at.
        after: only those born after this epoch.

    Raises:
        Mismatch: names the other embedder, and the command that helps.
    """
    if others := other_embedders(connection, domain.name, embedder, epoch, after=after):
        raise Mismatch(
            f"documents of domain {domain.name!r} are embedded by {', '.join(others)}, not by {embedder}; "
            f"embed them again with: bakeoff documents reindex --domain {domain.name}, or set BAKEOFF_EMBEDDER back"
        )


def _is_of_this_past(connection: Connection, domain: Domain, manifest: Manifest) -> bool:
    """Whether the database went through the epoch of a snapshot; not so when a backup was put in its place."""
    if load_start(connection, domain.name, manifest.epoch) == manifest.start:
        return True
    logger.warning("snapshot not used, the database never was in its state domain=%s", domain.name)
    return False
