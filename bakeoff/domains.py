"""A domain: one knowledge area, with its documents, examples, adapters and runs.

Its row carries the two things that change what an answer is: the epoch of its documents and its promoted adapter.
"""

from datetime import UTC, datetime

from advanced_alchemy.types import DateTimeUTC
from msgspec import Struct
from sqlalchemy import Column, Connection, Integer, String, Table, delete, insert, select, update

from bakeoff.database import metadata
from bakeoff.errors import NotFound
from bakeoff.modes import check_domain_name

domains_table = Table(
    "domains",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("permissions", Integer, nullable=False, default=0),
    Column("purged", Integer, nullable=False, default=0),
    Column("adapter", String(64)),
    Column("created_at", DateTimeUTC, nullable=False),
)


class Domain(Struct, frozen=True):
    """One row."""

    name: str
    epoch: int
    """Counts the changes of its documents; 0 for none yet."""
    permissions: int
    """Counts the changes of who may see them."""
    purged: int
    """The epoch of the last purge: what was derived from documents before it may hold what was erased."""
    adapter: str | None
    """Digest of the promoted adapter."""
    created_at: datetime

    @property
    def generation(self) -> str:
        """What was derived from the documents of another generation may hold what was erased since."""
        return f"{self.created_at.isoformat()} {self.purged}"


def list_domains(connection: Connection) -> list[Domain]:
    """Every domain, by name."""
    rows = connection.execute(select(domains_table).order_by(domains_table.c.name))
    return [Domain(**row) for row in rows.mappings()]


def find_domain(connection: Connection, name: str) -> Domain:
    """Return the domain.

    Raises:
        NotFound: names the command that makes it.
    """
    row = connection.execute(select(domains_table).where(domains_table.c.name == name)).mappings().first()
    if row is None:
        raise NotFound(f"domain {name!r} does not exist; make it with: bakeoff documents add PATH --domain {name}")
    return Domain(**row)


def lock_domain(connection: Connection, name: str) -> Domain:
    """Return the domain; nobody else changes it, its documents or who may see them until the transaction ends.

    Raises:
        NotFound: as `find_domain`.
    """
    connection.execute(select(domains_table.c.name).where(domains_table.c.name == name).with_for_update())
    return find_domain(connection, name)


def ensure_domain(connection: Connection, name: str) -> Domain:
    """Return the domain, made now if it is new.

    Raises:
        BadInput: not a name a domain can have.
    """
    check_domain_name(name)
    if connection.execute(select(domains_table.c.name).where(domains_table.c.name == name)).first() is None:
        connection.execute(
            insert(domains_table).values(name=name, epoch=0, permissions=0, purged=0, created_at=datetime.now(UTC))
        )
    return find_domain(connection, name)


def advance_epoch(connection: Connection, name: str) -> int:
    """Count one change of the domain's documents, in the caller's transaction; return the new epoch.

    Called before anything is read or written for the change: the row stays locked until the transaction ends, so that
    the changes of one domain come one after another.
    """
    rows = domains_table.c.name == name
    connection.execute(update(domains_table).where(rows).values(epoch=domains_table.c.epoch + 1))
    return find_domain(connection, name).epoch


def advance_permissions(connection: Connection, name: str) -> int:
    """Count one change of who may see what, in the caller's transaction; return the new count."""
    rows = domains_table.c.name == name
    connection.execute(update(domains_table).where(rows).values(permissions=domains_table.c.permissions + 1))
    return find_domain(connection, name).permissions


def delete_domain(connection: Connection, name: str) -> None:
    """Delete the domain's row and, by cascade, every row that belongs to it.

    Raises:
        NotFound: there is none.
    """
    find_domain(connection, name)
    connection.execute(delete(domains_table).where(domains_table.c.name == name))
