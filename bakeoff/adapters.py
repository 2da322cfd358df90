"""Adapters and what happened to them: registered, promoted, refused, removed; who did it, and why.

Events are only ever added, in the transaction of the change that they tell of, and they stay when the adapter goes.
Which adapter serves a domain is one digest in the domain's row: see `bakeoff.promotions`. What an adapter's folder has
to be is in `bakeoff.adapter_files`.
"""

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from advanced_alchemy.types import DateTimeUTC, JsonB
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Select,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
)

from bakeoff.artefacts import adapters_dir
from bakeoff.database import metadata
from bakeoff.domains import domains_table, lock_domain
from bakeoff.errors import BadInput, NotFound

EventName = Literal[
    "registered", "promoted", "rolled back", "refused", "removed", "opened", "closed", "audited", "imported"
]

adapters_table = Table(
    "adapters",
    metadata,
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("created_at", DateTimeUTC, nullable=False),
)

adapter_events_table = Table(
    "adapter_events",
    metadata,
    Column("key", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("event", String(16), nullable=False),
    Column("at", DateTimeUTC, nullable=False),
    Column("by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", JsonB, nullable=False),
    Index("ix_adapter_events_domain_digest", "domain", "digest"),
    sqlite_autoincrement=True,
)


class Adapter(Struct, frozen=True):
    """An adapter as the command line lists it."""

    digest: str
    domain: str
    path: Path
    created_at: datetime
    promoted: bool


class AdapterEvent(Struct, frozen=True):
    """Something that happened to an adapter of a domain."""

    domain: str
    digest: str
    event: str
    """One of `EventName`."""
    at: datetime
    by: str
    """The user's name on the machine it was done on."""
    reason: str
    """As it was given; empty where none was asked for."""
    details: dict[str, Any]
    """Figures: the gate's report under `gate`, an audit's under names of its own."""


class Check(Struct, frozen=True):
    """One measure of the gate."""

    name: str
    """`parity`, `differs`, `validation` or `forgetting`."""
    passed: bool
    sentence: str
    """What was measured, with figures and tolerance, and what to do if it failed."""
    figures: Mapping[str, float | None] = {}


class GateReport(Struct, frozen=True):
    """What the gate found before a promotion."""

    adapter: str
    against: str | None
    """Digest of the adapter that served then; None: the base model."""
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed. A gate that checked nothing lets nothing through."""
        return bool(self.checks) and all(check.passed for check in self.checks)


def record_event(
    connection: Connection,
    domain: str,
    digest: str,
    event: EventName,
    *,
    reason: str = "",
    details: Mapping[str, Any] | None = None,
    by: str | None = None,
) -> None:
    """Add to the history of an adapter, in the caller's transaction.

    Args:
        details: anything msgspec turns into JSON.
        by: whose doing; the user of this process by default.
    """
    connection.execute(
        insert(adapter_events_table).values(
            domain=domain,
            digest=digest,
            event=event,
            at=datetime.now(UTC),
            by=by or _user(),
            reason=" ".join(reason.split()),  # one line, or it could pass for other events on a card
            details=msgspec.to_builtins(details or {}),
        )
    )


def list_events(connection: Connection, domain: str, digest: str | None = None) -> list[AdapterEvent]:
    """What happened to a domain's adapters, or to one of them, the oldest first."""
    table = adapter_events_table.c
    query = _select_events().where(table.domain == domain)
    if digest is not None:
        query = query.where(table.digest == digest)
    return [AdapterEvent(**row) for row in connection.execute(query).mappings()]


def tell_history(connection: Connection, digest: str) -> list[AdapterEvent]:
    """What happened to an adapter in any domain, the oldest first; also when another one took its place."""
    found = [AdapterEvent(**row) for row in connection.execute(_select_events()).mappings()]
    return [event for event in found if digest in (event.digest, event.details.get("from"))]


def is_registered(connection: Connection, domain: str, digest: str) -> bool:
    """Whether the domain has this adapter."""
    table = adapters_table.c
    query = select(table.digest).where(table.domain == domain, table.digest == digest)
    return connection.execute(query).first() is not None


def register_adapter(connection: Connection, domain: str, digest: str, *, event: EventName = "registered") -> None:
    """Record a finished adapter, once. It serves nobody until it is promoted."""
    if not is_registered(connection, domain, digest):
        connection.execute(insert(adapters_table).values(domain=domain, digest=digest, created_at=datetime.now(UTC)))
        record_event(connection, domain, digest, event)


def unregister_adapter(
    connection: Connection, domain: str, digest: str, reason: str = "", by: str | None = None
) -> bool:
    """Take an adapter out of a domain; its events stay.

    Returns:
        Whether no other domain has it, so that its files can go.

    Raises:
        NotFound: the domain has no such adapter.
        BadInput: it serves the domain.
    """
    if lock_domain(connection, domain).adapter == digest:
        raise BadInput(
            f"adapter {digest} serves {domain} and cannot be removed; promote another one first, or go back with: "
            f"bakeoff adapters rollback --domain {domain}"
        )
    if not is_registered(connection, domain, digest):
        raise NotFound(f"domain {domain!r} has no adapter {digest}; see: bakeoff adapters list --domain {domain}")
    table = adapters_table.c
    connection.execute(delete(adapters_table).where(table.domain == domain, table.digest == digest))
    record_event(connection, domain, digest, "removed", reason=reason, by=by)
    return connection.execute(select(table.domain).where(table.digest == digest)).first() is None


def is_open(connection: Connection, domain: str, digest: str) -> bool:
    """Whether an administrator let the adapter serve callers who may not see all that it learned from."""
    table = adapter_events_table.c
    query = (
        select(table.event)
        .where(table.domain == domain, table.digest == digest, table.event.in_(("opened", "closed")))
        .order_by(table.key.desc())
        .limit(1)
    )
    return connection.execute(query).scalar() == "opened"


def list_adapters(connection: Connection, home: Path, domain: str | None = None) -> list[Adapter]:
    """Adapters, newest first, of one domain or of all."""
    query = select(adapters_table, domains_table.c.adapter).join(
        domains_table, domains_table.c.name == adapters_table.c.domain
    )
    if domain is not None:
        query = query.where(adapters_table.c.domain == domain)
    rows = connection.execute(query.order_by(adapters_table.c.created_at.desc())).mappings()
    return [
        Adapter(
            row["digest"],
            row["domain"],
            adapters_dir(home) / row["digest"],
            row["created_at"],
            row["adapter"] == row["digest"],
        )
        for row in rows
    ]


def registered_digests(connection: Connection) -> set[str]:
    """Digests of the adapters of every domain."""
    return set(connection.scalars(select(adapters_table.c.digest)))


def find_adapter(connection: Connection, home: Path, domain: str, digest: str) -> Adapter:
    """Find one of the domain's adapters by its digest, or the first eight or more digits of it.

    Raises:
        NotFound: none, or several, of this domain begin so.
    """
    found = [adapter for adapter in list_adapters(connection, home, domain) if adapter.digest.startswith(digest)]
    if len(found) != 1:
        raise NotFound(f"{len(found)} adapters of domain {domain!r} begin with {digest!r}; see: bakeoff adapters list")
    return found[0]


def _select_events() -> Select[Any]:
    table = adapter_events_table.c
    return select(*(column for column in table if column is not table.key)).order_by(table.key)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
