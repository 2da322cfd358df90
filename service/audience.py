"""Which adapter may answer which caller, cheaply enough to ask at every request.

What an adapter learned from never changes; who may see it does, and the domain counts these changes. So the documents
of an adapter are gone through once for every change, and a request costs two look-ups.
"""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Connection

from bakeoff.adapter_files import KIND
from bakeoff.adapters import is_open
from bakeoff.artefacts import adapters_dir, peek_manifest
from bakeoff.domains import Domain, find_domain
from bakeoff.errors import Mismatch, NotFound
from retrieval.audience import Restrictions, restricting_groups, restrictions_for

State = tuple[datetime, int] | None
"""When the domain was made, and how often it was changed who may see what; None: it is gone."""


class _Known(Struct, frozen=True):
    learned_in: str
    state: State
    restrictions: Restrictions
    num_leaks: int


class Audiences:
    """Remembers, for each adapter, what keeps it from some callers."""

    def __init__(self, home: Path) -> None:
        self._folder = adapters_dir(home)
        self._known: dict[str, _Known] = {}

    def restrictions(
        self, connection: Connection, domain: Domain, digest: str, groups: Collection[str]
    ) -> Restrictions:
        """What stands against this adapter of the domain answering a caller of these groups; empty: nothing does.

        Raises:
            NotFound: its folder is gone.
            Mismatch: its manifest does not say what it learned from.
        """
        known = self._known.get(digest)
        state = _state(connection, domain, known.learned_in) if known else None
        if known is None or known.state != state:
            known = self._known[digest] = self._look(connection, domain, digest)
        against = restrictions_for(known.restrictions, groups)
        return {} if against and is_open(connection, domain.name, digest) else against

    def num_leaks(self, digest: str | None) -> int:
        """Leaks that the adapter was allowed to learn from; `restrictions` was asked for it before."""
        known = self._known.get(digest) if digest else None
        return known.num_leaks if known else 0

    def _look(self, connection: Connection, domain: Domain, digest: str) -> _Known:
        facts = peek_manifest(self._folder / digest, KIND)
        lineage = facts.get("lineage")
        if not isinstance(lineage, dict) or "documents" not in lineage:
            raise Mismatch(f"adapter {digest} does not say what it learned from: its manifest has no lineage")
        learned_in = str(facts.get("domain", domain.name))
        state = _state(connection, domain, learned_in)  # before the groups: a change in between is seen next time
        leaks = facts.get("leaks") or ()
        return _Known(learned_in, state, restricting_groups(connection, learned_in, lineage), len(leaks))


def _state(connection: Connection, domain: Domain, name: str) -> State:
    if name != domain.name:
        try:
            domain = find_domain(connection, name)
        except NotFound:
            return None
    return domain.created_at, domain.permissions
