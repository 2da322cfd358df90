"""The epochs of a domain: how they begin, going back to one, and erasing documents from all of them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, func, insert, literal, select, update

from bakeoff.database import erase_traces, writing
from bakeoff.domains import advance_epoch, domains_table, find_domain, lock_domain
from bakeoff.errors import BadInput, NotFound
from retrieval.index.snapshot import remove_snapshots
from retrieval.permissions import erase_groups
from retrieval.tables import ALIVE, chunks_table, documents_table, epochs_table


class Epoch(Struct, frozen=True):
    """One change of a domain's documents."""

    epoch: int
    created_at: datetime
    action: str
    """`add`, `remove`, `rollback` or `purge`."""
    num_documents: int
    """How many documents it changed."""


class Purged(Struct, frozen=True):
    """What a purge erased."""

    documents: int
    chunk_ids: tuple[str, ...]
    """Of every version of them."""
    epoch: int


def begin_epoch(connection: Connection, domain: str, action: str, num_documents: int) -> int:
    """Begin a new epoch in the caller's transaction, before anything else is read or written for it."""
    epoch = advance_epoch(connection, domain)
    values = {"action": action, "num_documents": num_documents, "created_at": datetime.now(UTC)}
    connection.execute(insert(epochs_table).values(domain=domain, epoch=epoch, **values))
    return epoch


def list_epochs(connection: Connection, domain: str) -> list[Epoch]:
    """Every epoch of the domain, the newest first.

    Raises:
        NotFound: no such domain.
    """
    find_domain(connection, domain)
    table = epochs_table.c
    query = select(table.epoch, table.created_at, table.action, table.num_documents).where(table.domain == domain)
    return [Epoch(*row) for row in connection.execute(query.order_by(table.epoch.desc()))]


def roll_back(engine: Engine, domain: str, epoch: int) -> int:
    """Begin a new epoch that holds what an earlier one held; what came between stays reachable.

    Who may see a document is not rolled back, and what was purged does not come back.

    Returns:
        The new epoch.

    Raises:
        NotFound: no such domain.
        BadInput: the domain never had this epoch.
    """
    with writing(engine) as connection:
        now = lock_domain(connection, domain).epoch
        if not 0 <= epoch <= now:
            raise BadInput(f"domain {domain!r} has the epochs 0 to {now}, not {epoch}; see: bakeoff documents epochs")
        new = begin_epoch(connection, domain, "rollback", 0)
        num_changed = _count_changed(connection, domain, epoch)
        _restore(connection, documents_table, domain, epoch, new)
        _restore(connection, chunks_table, domain, epoch, new)
        table = epochs_table.c
        row = (table.domain == domain, table.epoch == new)
        connection.execute(update(epochs_table).where(*row).values(num_documents=num_changed))
    return new


def purge_documents(engine: Engine, domain: str, ids: Iterable[str], snapshots: Path) -> Purged:
    """Erase documents from every epoch, with their chunks, vectors and groups; no rollback brings them back.

    The order makes a crash harmless: once the rows are gone, snapshots of before are refused by every process, whether
    they are still on the disk or not.

    Args:
        snapshots: folder of the domain's snapshots.

    Raises:
        NotFound: names the ids that the domain never held.
    """
    wanted = sorted(set(ids))
    with writing(engine) as connection:
        lock_domain(connection, domain)
        of_document = (chunks_table.c.domain == domain, chunks_table.c.document_id.in_(wanted))
        here = (documents_table.c.domain == domain, documents_table.c.id.in_(wanted))
        known = set(connection.scalars(select(documents_table.c.id).where(*here)))
        if missing := sorted(set(wanted) - known):
            raise NotFound(f"domain {domain!r} holds no document {', '.join(missing)}; nothing was purged")
        epoch = begin_epoch(connection, domain, "purge", len(wanted))
        chunk_ids = tuple(sorted(set(connection.scalars(select(chunks_table.c.chunk_id).where(*of_document)))))
        connection.execute(delete(chunks_table).where(*of_document))
        connection.execute(delete(documents_table).where(*here))
        erase_groups(connection, domain, wanted)
        connection.execute(update(domains_table).where(domains_table.c.name == domain).values(purged=epoch))
    remove_snapshots(snapshots)
    erase_traces(engine)
    return Purged(len(wanted), chunk_ids, epoch)


def alive_at(table: Table, epoch: int) -> ColumnElement[bool]:
    """Which rows of documents or chunks live in an epoch."""
    return (table.c.born <= epoch) & (table.c.died > epoch)


def _count_changed(connection: Connection, domain: str, epoch: int) -> int:
    """How many documents are not now what they were in `epoch`."""
    table = documents_table.c
    then = alive_at(documents_table, epoch)
    differs = (then & (table.died != ALIVE)) | (~then & (table.died == ALIVE))
    return connection.scalar(select(func.count(table.id.distinct())).where(table.domain == domain, differs)) or 0


def _restore(connection: Connection, table: Table, domain: str, epoch: int, new: int) -> None:
    """Let die what lives now and did not in `epoch`, and bear again what lived then and does not now."""
    here = table.c.domain == domain
    then = alive_at(table, epoch)
    lost = here & then & (table.c.died != ALIVE)
    columns = [column for column in table.columns if column.name not in ("key", "born", "died")]
    source = select(*columns, literal(new), literal(ALIVE)).where(lost).order_by(table.c.key)
    connection.execute(update(table).where(here & ~then & (table.c.died == ALIVE)).values(died=new))
    connection.execute(insert(table).from_select([*(column.name for column in columns), "born", "died"], source))
