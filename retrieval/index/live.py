"""The index of one domain, kept level with the database while it is searched.

A search asks for a view: the database's epoch is read, and what was born or died since is appended, which takes
milliseconds, however large the domain is. A base (FAISS, postings) is built once from many rows; rows that came
after it are fresh and searched one by one. When too many are fresh or dead, a new base is built in the background,
while the old one serves on; a build that fails is logged and changes nothing. Bases of some size are snapshotted.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from bakeoff.database import reading
from bakeoff.domains import Domain, find_domain
from bakeoff.errors import BadInput, BakeoffError, Mismatch
from retrieval.embedder import Vectors
from retrieval.index.lexical import Postings, build_postings, merge_postings
from retrieval.index.rows import (
    Documents,
    Loaded,
    Rows,
    load_deaths,
    load_grants,
    load_rows,
    load_start,
    other_embedders,
)
from retrieval.index.snapshot import Manifest, read_snapshot, remove_snapshots, write_snapshot
from retrieval.index.terms import TERMS_VERSION
from retrieval.index.vectors import EXACT_ROWS, Built, VectorIndex, build_exact, build_vectors
from retrieval.index.view import Base, View
from retrieval.shots import load_questions
from retrieval.tables import ALIVE

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 60.0
_BATCH = 16_384


class Limits(Struct, frozen=True):
    """When a base is built anew, and when it is worth a snapshot."""

    snapshot_rows: int = 5_000
    fresh_rows: int = 2_048
    """Fresh rows that are searched one by one before a new base is built; a fifth of the base, if that is more."""
    dead_share: float = 0.3
    """Share of dead rows in a base before a new one is built."""


class LiveIndex:
    """Thread-safe. One for a domain and a process; any number of processes may stand on one database."""

    def __init__(
        self, engine: Engine, domain: str, embedder: str, folder: Path, limits: Limits, *, keeps: bool
    ) -> None:
        """Open nothing yet.

        Args:
            folder: of the domain's snapshots.
            keeps: whether bases are built anew in the background; a command that ends soon does not.
        """
        self._engine = engine
        self._domain = domain
        self._embedder = embedder
        self._folder = folder
        self._limits = limits
        self._keeps = keeps
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._next_build = 0.0
        self._view: View | None = None

    def view(self) -> View:
        """The newest epoch, whole.

        Raises:
            NotFound: the domain is gone.
            Mismatch: its documents were embedded by another embedder.
        """
        with self._engine.connect() as connection:
            domain = find_domain(connection, self._domain)
        view = self._view
        if view is None or not view.is_level_with(domain):
            with self._lock:
                view = self._level()
        self._tend(view)
        return view

    def past_view(self, epoch: int) -> View:
        """An epoch of the past, with the permissions of today.

        Raises:
            BadInput: there is no such epoch.
            Mismatch: its documents were embedded by another embedder.
        """
        now = self.view()
        if not 1 <= epoch <= now.epoch:
            raise BadInput(f"domain {self._domain!r} has the epochs 1 to {now.epoch}, not {epoch}", param="epoch")
        if epoch >= now.base.floor:
            return now.at(epoch)
        with reading(self._engine) as connection:
            return self._read_database(connection, find_domain(connection, self._domain), epoch)

    def build(self) -> Built:
        """Build a new base of the newest epoch now, put it in place and snapshot it.

        Raises:
            OSError: the snapshot could not be written; the new base is in place all the same.
        """
        with self._building:
            return self._build(self.view_untended())

    def build_if_due(self) -> Built | None:
        """Build a new base where it is time for one; see `build`."""
        return self.build() if self._is_due(self.view_untended()) else None

    def view_untended(self) -> View:
        """The newest epoch, without starting a build."""
        with self._lock:
            return self._level()

    def _level(self) -> View:
        """Bring the view level with the database; the lock is held."""
        with reading(self._engine) as connection:
            domain = find_domain(connection, self._domain)
            view = self._view
            if view is None or view.generation != domain.generation:
                view = self._open(connection, domain)
            self._view = self._catch_up(connection, domain, view)
        return self._view

    def _open(self, connection: Connection, domain: Domain) -> View:
        snapshot = read_snapshot(self._folder, self._domain, self._embedder, TERMS_VERSION, domain.generation)
        if snapshot is None or not self._is_of_this_past(connection, snapshot.manifest):
            return self._read_database(connection, domain, domain.epoch)
        documents = Documents(snapshot.names)
        documents.grant(load_grants(connection, self._domain))
        rows = Rows(snapshot.columns)
        epoch = snapshot.manifest.epoch
        vectors = snapshot.vectors
        if vectors is None:
            loaded = load_rows(connection, self._domain, self._embedder, documents, alive_at=epoch)
            if not np.array_equal(loaded.columns["keys"], rows.keys):
                return self._read_database(connection, domain, domain.epoch)
            vectors = build_exact(loaded.vectors)
        base = Base(epoch, rows, vectors, snapshot.postings, documents)
        base.is_snapshotted = snapshot.vectors is not None
        return View(base, epoch, rows.size, None, domain.permissions, domain.generation)

    def _is_of_this_past(self, connection: Connection, manifest: Manifest) -> bool:
        """Whether the database went through the epoch of a snapshot; not so when a backup was put in its place."""
        if load_start(connection, self._domain, manifest.epoch) == manifest.start:
            return True
        logger.warning("snapshot not used, the database never was in its state domain=%s", self._domain)
        return False

    def _read_database(self, connection: Connection, domain: Domain, epoch: int) -> View:
        """Read an epoch into a base that searches exactly: there at once, at any size."""
        self._check_embedder(connection, epoch)
        documents = Documents()
        documents.grant(load_grants(connection, self._domain))
        loaded = load_rows(connection, self._domain, self._embedder, documents, alive_at=epoch)
        rows = Rows(loaded.columns)
        vectors = build_exact(loaded.vectors) if rows.size else None
        base = Base(epoch, rows, vectors, build_postings(loaded.terms), documents)
        return View(base, epoch, rows.size, None, domain.permissions, domain.generation)

    def _catch_up(self, connection: Connection, domain: Domain, view: View) -> View:
        """Read everything that changed first, then change the base: a read that fails leaves it as it was."""
        base = view.base
        grants = load_grants(connection, self._domain, view.permissions)
        if view.epoch == domain.epoch:
            base.documents.grant(grants)
            return View(base, view.epoch, view.size, view.fresh, domain.permissions, domain.generation)
        self._check_embedder(connection, domain.epoch, after=view.epoch)
        deaths = load_deaths(connection, self._domain, view.epoch)
        loaded = load_rows(connection, self._domain, self._embedder, base.documents, after=view.epoch)
        base.documents.grant(grants)
        base.rows.bury(deaths)
        fresh = self._append(base, view.fresh, loaded)
        return View(base, domain.epoch, base.rows.size, fresh, domain.permissions, domain.generation)

    def _check_embedder(self, connection: Connection, epoch: int, *, after: int = 0) -> None:
        if others := other_embedders(connection, self._domain, self._embedder, epoch, after=after):
            raise Mismatch(
                f"documents of domain {self._domain!r} are embedded by {', '.join(others)}, not by {self._embedder}; "
                f"embed them again with: bakeoff documents reindex --domain {self._domain}, "
                "or set BAKEOFF_EMBEDDER back"
            )

    def _append(self, base: Base, fresh: Vectors | None, loaded: Loaded) -> Vectors | None:
        """Append rows to a base's columns; returns the vectors of all fresh rows."""
        if not loaded.terms:
            return fresh
        for row, blob in enumerate(loaded.terms, start=base.rows.size):
            base.fresh_postings.append(row, blob)
        base.fresh_terms.extend(loaded.terms)
        base.rows.append(loaded.columns)
        return loaded.vectors if fresh is None else np.concatenate([fresh, loaded.vectors])

    def _tend(self, view: View) -> None:
        """Start a build in the background when it is time for one."""
        if not self._keeps or time.monotonic() < self._next_build or not self._is_due(view):
            return
        if not self._building.acquire(blocking=False):
            return

        def build() -> None:
            try:
                self._build(view)
            except (OSError, RuntimeError, MemoryError, SQLAlchemyError, BakeoffError) as error:
                logger.error("index not built, the old one serves on domain=%s error=%s", self._domain, error)
                self._next_build = time.monotonic() + RETRY_AFTER_S
            finally:
                self._building.release()

        threading.Thread(target=build, name=f"build-{self._domain}", daemon=True).start()

    def _is_due(self, view: View) -> bool:
        num_based = view.base.num_based
        num_fresh = view.size - num_based
        if num_based >= self._limits.snapshot_rows and not view.base.is_snapshotted:
            return True
        if num_based > EXACT_ROWS and view.base.vectors is not None and not view.base.vectors.built.num_probes:
            return True
        if num_fresh > max(self._limits.fresh_rows, num_based // 5):
            return True
        return view.size > self._limits.fresh_rows and view.num_dead > self._limits.dead_share * view.size

    def _build(self, view: View) -> Built:
        base = view.base
        kept = np.flatnonzero(base.rows.alive(view.epoch, view.size))
        columns = base.rows.columns(kept)
        based = kept[kept < base.num_based]
        fresh = kept[kept >= base.num_based]
        terms = [base.fresh_terms[row - base.num_based] for row in fresh.tolist()]
        postings = merge_postings(base.postings, based, terms)
        vectors = self._build_vectors(view, based, fresh)
        new = Base(view.epoch, Rows(columns), vectors, postings, base.documents)
        with self._lock, reading(self._engine) as connection:
            domain = find_domain(connection, self._domain)
            if domain.generation != view.generation:
                raise RuntimeError("documents were purged while the index was built")
            at_build = View(new, view.epoch, len(kept), None, view.permissions, view.generation)
            self._view = self._catch_up(connection, domain, at_build)
        built = vectors.built if vectors is not None else Built("Flat", 0, 0, 1.0, 0)
        if vectors is not None and len(kept) >= self._limits.snapshot_rows:
            self._write(view, new, columns, postings, vectors)
        return built

    def _write(
        self, view: View, base: Base, columns: dict[str, NDArray[Any]], postings: Postings, vectors: VectorIndex
    ) -> None:
        columns = columns | {"died": np.full(len(columns["keys"]), ALIVE)}  # later deaths are read from the database
        with self._engine.connect() as connection:
            start = load_start(connection, self._domain, view.epoch)
        manifest = Manifest(
            1,
            self._domain,
            view.epoch,
            start,
            view.generation,
            self._embedder,
            TERMS_VERSION,
            len(columns["keys"]),
            vectors.built,
            {},
        )
        write_snapshot(self._folder, manifest, base.documents.names, columns, postings, vectors)
        base.is_snapshotted = True
        with self._engine.connect() as connection:
            if find_domain(connection, self._domain).generation != view.generation:
                remove_snapshots(self._folder)  # a purge came while it was written

    def _build_vectors(self, view: View, based: NDArray[np.int64], fresh: NDArray[np.int64]) -> VectorIndex | None:
        if not len(based) and not len(fresh):
            return None
        old = view.base.vectors
        dim = old.index.d if old is not None else view.fresh.shape[1]  # type: ignore[union-attr]

        def batches() -> Any:
            for start in range(0, len(based), _BATCH):
                assert old is not None
                yield old.index.reconstruct_batch(based[start : start + _BATCH])
            if len(fresh):
                assert view.fresh is not None
                yield view.fresh[fresh - view.base.num_based]

        return build_vectors(
            batches, len(based) + len(fresh), dim, load_questions(self._engine, self._domain, self._embedder)
        )
