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

import numpy as np
from msgspec import Struct
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from bakeoff.database import reading
from bakeoff.domains import Domain, find_domain
from bakeoff.errors import BadInput, BakeoffError
from retrieval.embedder import Vectors
from retrieval.index.building import build_base
from retrieval.index.opening import check_embedder, open_view, read_epoch
from retrieval.index.rows import (
    Loaded,
    load_deaths,
    load_grants,
    load_rows,
    load_start,
)
from retrieval.index.snapshot import Manifest, remove_snapshots, write_snapshot
from retrieval.index.terms import TERMS_VERSION
from retrieval.index.vectors import EXACT_ROWS, Built, VectorIndex
from retrieval.index.view import Base, View
from retrieval.shots import load_questions
from retrieval.tables import ALIVE

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 60.0
_MAX_PAST = 2
"""Epochs of the past, before the base, that are kept in memory; the least recently searched makes room."""


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
        self._past_lock = threading.Lock()
        self._past: dict[int, View] = {}

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
        with self._past_lock, reading(self._engine) as connection:
            domain = find_domain(connection, self._domain)
            view = self._past.pop(epoch, None)
            if view is None or view.generation != domain.generation:
                view = read_epoch(connection, domain, self._embedder, epoch)
            elif view.permissions != domain.permissions:
                view.base.documents.grant(load_grants(connection, self._domain, view.permissions))
                view = View(view.base, epoch, view.size, None, domain.permissions, domain.generation)
            self._past[epoch] = view
            while len(self._past) > _MAX_PAST:
                del self._past[next(iter(self._past))]
            return view

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
                view = open_view(connection, domain, self._embedder, self._folder)
            self._view = self._catch_up(connection, domain, view)
        return self._view

    def _catch_up(self, connection: Connection, domain: Domain, view: View) -> View:
        """Read everything that changed first, then change the base: a read that fails leaves it as it was."""
        base = view.base
        grants = load_grants(connection, self._domain, view.permissions)
        if view.epoch == domain.epoch:
            base.documents.grant(grants)
            return View(base, view.epoch, view.size, view.fresh, domain.permissions, domain.generation)
        check_embedder(connection, domain, self._embedder, domain.epoch, after=view.epoch)
        deaths = load_deaths(connection, self._domain, view.epoch)
        loaded = load_rows(connection, self._domain, self._embedder, base.documents, after=view.epoch)
        base.documents.grant(grants)
        base.rows.bury(deaths)
        fresh = self._append(base, view.fresh, loaded)
        return View(base, domain.epoch, base.rows.size, fresh, domain.permissions, domain.generation)

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
                logger.error("index not built anew, what is there serves on domain=%s error=%s", self._domain, error)
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
        new = build_base(view, load_questions(self._engine, self._domain, self._embedder))
        with self._lock, reading(self._engine) as connection:
            domain = find_domain(connection, self._domain)
            if domain.generation != view.generation:
                raise RuntimeError("documents were purged while the index was built")
            at_build = View(new, view.epoch, new.num_based, None, view.permissions, view.generation)
            self._view = self._catch_up(connection, domain, at_build)
        if new.vectors is None:
            return Built("Flat", 0, 0, 1.0, 0)
        if new.num_based >= self._limits.snapshot_rows:
            self._write(view, new, new.vectors)
        return new.vectors.built

    def _write(self, view: View, base: Base, vectors: VectorIndex) -> None:
        columns = base.rows.columns(np.arange(base.num_based))
        columns["died"][:] = ALIVE  # deaths since are read from the database
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
            base.num_based,
            vectors.built,
            {},
        )
        try:
            write_snapshot(self._folder, manifest, base.documents.names, columns, base.postings, vectors)
        except OSError as error:
            raise OSError(f"the new index serves, but its snapshot could not be written: {error}") from error
        base.is_snapshotted = True
        with self._engine.connect() as connection:
            if find_domain(connection, self._domain).generation != view.generation:
                remove_snapshots(self._folder)  # a purge came while it was written
