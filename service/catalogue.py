"""Which models there are, and whether each can answer this caller now: every mode of every domain.

A request must see what the database says at that moment, and must not cost a query for it. So states are kept for as
long as the database has not changed: SQLite counts the commits of others in a number that costs microseconds to read.
Where a database has no such number, every request asks.
"""

import threading
from pathlib import Path

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine

from bakeoff.adapters import find_adapter
from bakeoff.domains import Domain, find_domain, list_domains
from bakeoff.errors import BakeoffError
from bakeoff.modes import MODES, Mode, ModelName
from retrieval.audience import describe_restrictions
from retrieval.shots import hash_shots
from service.audience import Audiences

MAX_KEPT = 10_000
"""States kept: one for every pair of a model and a set of groups that was asked for since the last change."""


class Lack(Struct, frozen=True):
    """Why a mode cannot answer yet."""

    reason: str
    command: str
    """What makes it ready, typed into a terminal."""

    def __str__(self) -> str:
        return f"{self.reason}; make it ready with: {self.command}"


class ModelState(Struct, frozen=True):
    """One mode of one domain, and whether it can answer now."""

    domain: Domain
    mode: Mode
    lack: Lack | None
    """What keeps it from answering; None when it can."""
    shots: str | None = None
    """Digest of the examples that a mode with shots chooses from."""
    num_leaks: int = 0
    """Pairs of a test question and a training example that its adapter was allowed to learn from."""


class Catalogue:
    """Finds and lists models; thread-safe."""

    def __init__(self, engine: Engine, home: Path, embedder_name: str) -> None:
        """Read this database and the adapters of this home."""
        self._engine = engine
        self._home = home
        self._embedder_name = embedder_name
        self._audiences = Audiences(home)
        self._changes = ChangeCount(engine)
        self._kept: dict[tuple[str, Mode, str | None, frozenset[str]], ModelState] = {}
        self._kept_at: int | None = None
        self._lock = threading.Lock()

    def peek(self, model: ModelName, groups: frozenset[str]) -> ModelState | None:
        """The state of a model if that is known without a query, and nothing has changed since."""
        count = self._changes.read()
        if count is None or count != self._kept_at:
            return None
        return self._kept.get((model.domain, model.mode, model.adapter, groups))

    def find(self, model: ModelName, groups: frozenset[str]) -> ModelState:
        """The state of one model, as a caller of these groups finds it.

        Raises:
            NotFound: no such domain or pinned adapter.
        """
        known = self.peek(model, groups)
        if known is not None:
            return known
        count = self._changes.read()  # before the queries: a change in between is seen next time
        with self._engine.connect() as connection:
            domain = find_domain(connection, model.domain)
            if model.adapter:
                pinned = find_adapter(connection, self._home, model.domain, model.adapter).digest
                domain = msgspec.structs.replace(domain, adapter=pinned)
        state = next(state for state in self._states(domain, groups) if state.mode == model.mode)
        with self._lock:
            if count != self._kept_at or len(self._kept) >= MAX_KEPT:
                self._kept, self._kept_at = {}, count
            self._kept[model.domain, model.mode, model.adapter, groups] = state
        return state

    def list_all(self, groups: frozenset[str]) -> list[ModelState]:
        """Every mode of every domain, as a caller of these groups finds it."""
        with self._engine.connect() as connection:
            domains = list_domains(connection)
        return [state for domain in domains for state in self._states(domain, groups)]

    def _states(self, domain: Domain, groups: frozenset[str]) -> list[ModelState]:
        shots = hash_shots(self._engine, domain.name, self._embedder_name)
        with self._engine.connect() as connection:
            adapter_lack = self._adapter_lack(connection, domain, groups)
        states = []
        for mode in MODES.values():
            lack = adapter_lack if mode.uses_adapter else None
            if mode.uses_shots:
                lack = lack or _shots_lack(domain, shots)
            num_leaks = self._audiences.num_leaks(domain.adapter) if mode.uses_adapter else 0
            states.append(ModelState(domain, mode, lack, shots if mode.uses_shots else None, num_leaks))
        return states

    def _adapter_lack(self, connection: Connection, domain: Domain, groups: frozenset[str]) -> Lack | None:
        """Why the domain's adapter cannot answer this caller."""
        digest = domain.adapter
        if digest is None:
            return Lack(f"no adapter is trained for {domain.name} yet", f"bakeoff train --domain {domain.name}")
        try:
            against = self._audiences.restrictions(connection, domain, digest, groups)
        except BakeoffError as error:  # one domain's damaged adapter must not keep the others from being listed
            return Lack(str(error), f"bakeoff adapters rollback --domain {domain.name}")
        if not against:
            return None
        return Lack(
            f"adapter {digest} {describe_restrictions(against)}, so it does not answer this caller unless an "
            "administrator lets it",
            f"bakeoff adapters open {digest} --domain {domain.name} --reason TEXT",
        )


class ChangeCount:
    """A number that is another one whenever somebody else has committed to the database."""

    def __init__(self, engine: Engine) -> None:
        """Take a connection of its own: it must not commit itself, for it would not count that."""
        self._engine = engine
        self._lock = threading.Lock()
        self._cursor = None
        if engine.dialect.name == "sqlite":
            self._connection = engine.raw_connection()
            self._connection.detach()  # the pool must not hand it to a writer
            self._cursor = self._connection.cursor()
            self._cursor.execute("PRAGMA busy_timeout=0")  # it is read on the event loop, which must not wait

    def read(self) -> int | None:
        """The number now; None where the database has none, or does not tell at the moment."""
        if self._cursor is None:
            return None
        with self._lock:
            try:
                [(count,)] = self._cursor.execute("PRAGMA data_version").fetchall()
            except self._engine.dialect.loaded_dbapi.Error:
                return None
            return int(count)


def _shots_lack(domain: Domain, shots: str | None) -> Lack | None:
    if shots is not None:
        return None
    command = f"bakeoff examples import FILE --domain {domain.name} --split train"
    return Lack(f"{domain.name} has no training examples yet", command)
