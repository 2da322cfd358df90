"""Ordering the work on a vector store: a job that puts its waiting files into the domain.

A job takes every file of the store that is in progress when it looks, and looks until there are none; so one that is
queued already does for later files too, and a store never has more than one that runs and one that waits.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from bakeoff.errors import BadInput
from bakeoff.jobs import jobs_table, submit_job
from service.openai.vector_stores.records import (
    Entry,
    LastError,
    Store,
    list_entries,
    put_entries,
    settle_entry,
    update_store,
)

DETAIL = "vector_store_id"
"""Where a job's details name its store."""


def order_files(
    connection: Connection,
    store: Store,
    files: Sequence[tuple[str, dict[str, Any]]],
    strategy: dict[str, Any],
    batch_id: str | None = None,
) -> None:
    """Put files into a store as in progress, and make sure that a job takes them up.

    Args:
        files: ids with attributes; an id that comes twice counts as it came last.

    Raises:
        BadInput: the store has expired.
    """
    now = datetime.now(UTC)
    if store.is_expired(now):
        raise BadInput(
            f"vector store {store.id!r} expired at {store.expires_at:%Y-%m-%d %H:%M} UTC; make another, or give it "
            "another expires_after",
            param="vector_store_id",
        )
    entries = [
        Entry(store.id, file_id, batch_id, now, "in_progress", None, attributes, strategy, 0)
        for file_id, attributes in dict(files).items()
    ]
    put_entries(connection, entries)
    update_store(connection, store.id, last_active_at=now)
    if not entries or _jobs(connection, store, ("queued",), locks=True):
        return
    submit_job(
        connection,
        "ingest",
        store.domain,
        ["vector-stores", "ingest", store.id],
        is_heavy=False,
        owner=store.owner,
        details={DETAIL: store.id},
    )


def has_abandoned(connection: Connection, store: Store) -> bool:
    """Whether files are in progress that no job will ever take up."""
    return bool(
        list_entries(connection, store.id, status="in_progress")
        and not _jobs(connection, store, ("queued", "running", "paused"))
    )


def fail_abandoned(connection: Connection, store: Store) -> None:
    """Give up the files in progress that no job will ever take up, so that nobody polls for ever."""
    if not has_abandoned(connection, store):
        return
    waiting = list_entries(connection, store.id, status="in_progress")
    ended = _jobs(connection, store, ("failed", "cancelled"))
    reason = (ended[0] or "its job was cancelled") if ended else "its job is gone"
    for entry in waiting:
        settle_entry(connection, entry, "failed", LastError("server_error", f"not indexed: {reason}"))


def _jobs(connection: Connection, store: Store, statuses: Sequence[str], *, locks: bool = False) -> list[str]:
    """The errors of the store's jobs in these states, newest first.

    Args:
        locks: keep a worker from beginning them until the transaction ends, so that it sees what this one writes.
    """
    table = jobs_table.c
    query = (
        select(table.details, table.error)
        .where(table.kind == "ingest", table.domain == store.domain, table.status.in_(statuses))
        .order_by(table.created_at.desc())
    )
    rows = connection.execute(query.with_for_update() if locks else query)
    return [error or "" for details, error in rows if details.get(DETAIL) == store.id]
