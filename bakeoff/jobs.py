"""Jobs: long work (ingest, train, eval) that the service orders and a worker does. A job is a command line.

This table is the truth about every job, whoever asks; the queue only wakes a worker. What a client wishes (cancel,
pause) is written beside what is (the status), and the worker brings the two together. Events are only ever added.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from advanced_alchemy.types import DateTimeUTC, JsonB
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    insert,
    select,
    update,
)

from bakeoff.database import metadata
from bakeoff.errors import BadInput, NotFound

JobKind = Literal["ingest", "train", "eval"]
JobStatus = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
ENDED: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")

jobs_table = Table(
    "jobs",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("domain", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("arguments", JsonB, nullable=False),
    Column("is_heavy", Boolean, nullable=False),
    Column("details", JsonB, nullable=False),
    Column("status", String(16), nullable=False),
    Column("wish", String(16), nullable=False),
    Column("worker", String(200), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("progress", JsonB, nullable=False),
    Column("result", JsonB),
    Column("error", Text),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("started_at", DateTimeUTC),
    Column("finished_at", DateTimeUTC),
    Column("heartbeat_at", DateTimeUTC),
    Index("ix_jobs_status_created_at", "status", "created_at"),
)

job_events_table = Table(
    "job_events",
    metadata,
    Column("key", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("at", DateTimeUTC, nullable=False),
    Column("level", String(8), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JsonB, nullable=False),
    Index("ix_job_events_job_id_key", "job_id", "key"),
    sqlite_autoincrement=True,
)


class JobProgress(Struct, frozen=True):
    """How far a job is; as `bakeoff.progress.Progress` is told, with the title of the step."""

    title: str = ""
    done: int = 0
    total: int = 0
    note: str = ""


class Job(Struct, frozen=True):
    """One row."""

    id: str
    kind: JobKind
    domain: str
    owner: str
    """Id of the API key that ordered it; empty for the command line and where no keys are asked for."""
    arguments: tuple[str, ...]
    """Words after `bakeoff`."""
    is_heavy: bool
    """Whether it wants the machine for itself: one of these runs at a time on a machine."""
    details: dict[str, Any]
    """What whoever ordered it wants to find again; the worker does not read it."""
    status: JobStatus
    wish: Literal["", "cancel", "pause"]
    worker: str
    """Host and process that runs it, or ran it last."""
    attempts: int
    """Times it was started and neither stopped by a wish nor handed back; see `bakeoff.worker.claims`."""
    progress: JobProgress
    result: dict[str, Any] | None
    """What the command printed with --json."""
    error: str | None
    """Why it failed: the command's own sentence."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    heartbeat_at: datetime | None
    """Last sign of life of the worker that runs it."""


class JobEvent(Struct, frozen=True):
    """Something that happened to a job."""

    key: int
    job_id: str
    at: datetime
    level: Literal["info", "warn", "error"]
    kind: Literal["message", "metrics"]
    message: str
    data: dict[str, Any]


def new_job_id(prefix: str = "job-") -> str:
    """A random id."""
    return prefix + secrets.token_hex(12)


def submit_job(
    connection: Connection,
    kind: JobKind,
    domain: str,
    arguments: Sequence[str],
    *,
    is_heavy: bool,
    owner: str = "",
    details: Mapping[str, Any] | None = None,
    job_id: str | None = None,
) -> Job:
    """Write a job down as queued; a worker that sees it runs it.

    Args:
        arguments: words after `bakeoff`; the worker adds --json and reads the result from stdout.
        job_id: from `new_job_id`, where it had to be known before.
    """
    job_id = job_id or new_job_id()
    connection.execute(
        insert(jobs_table).values(
            id=job_id,
            kind=kind,
            domain=domain,
            owner=owner,
            arguments=list(arguments),
            is_heavy=is_heavy,
            details=dict(details or {}),
            status="queued",
            wish="",
            worker="",
            attempts=0,
            progress={},
            created_at=datetime.now(UTC),
        )
    )
    add_event(connection, job_id, "created")
    return find_job(connection, job_id)


def find_job(connection: Connection, job_id: str) -> Job:
    """The job.

    Raises:
        NotFound: there is none.
    """
    row = connection.execute(select(jobs_table).where(jobs_table.c.id == job_id)).mappings().first()
    if row is None:
        raise NotFound(f"there is no job {job_id!r}; see them all with: bakeoff jobs list", param="job_id")
    return _job(dict(row))


def list_jobs(
    connection: Connection,
    kind: JobKind | None = None,
    statuses: Sequence[JobStatus] = (),
    *,
    prefix: str = "",
    owner: str = "",
    limit: int | None = None,
) -> list[Job]:
    """Jobs, newest first.

    Args:
        kind: only of this kind.
        statuses: only of these; all where empty.
        prefix: only those whose id begins so.
        owner: only those that this key ordered; all where empty.
        limit: most that are wanted.
    """
    query = select(jobs_table).order_by(jobs_table.c.created_at.desc(), jobs_table.c.id.desc()).limit(limit)
    if kind is not None:
        query = query.where(jobs_table.c.kind == kind)
    if statuses:
        query = query.where(jobs_table.c.status.in_(statuses))
    if prefix:
        query = query.where(jobs_table.c.id.startswith(prefix, autoescape=True))
    if owner:
        query = query.where(jobs_table.c.owner == owner)
    return [_job(dict(row)) for row in connection.execute(query).mappings()]


def wish_job(connection: Connection, job_id: str, wish: Literal["cancel", "pause"]) -> Job:
    """Ask for a job to be cancelled or paused; one that no worker has begun is so at once. The last wish counts.

    Raises:
        NotFound: there is no such job.
        BadInput: it has ended already, otherwise than wished.
    """
    job = _lock(connection, job_id)
    wished: JobStatus = "cancelled" if wish == "cancel" else "paused"
    if job.status == wished:
        return job
    if job.status in ENDED:
        raise BadInput(f"job {job_id} is {job.status}: it cannot be {wished} any more")
    rows = jobs_table.c.id == job_id
    if job.status == "running":
        connection.execute(update(jobs_table).where(rows).values(wish=wish))
        add_event(connection, job_id, f"{wish} was asked for")
        return find_job(connection, job_id)
    ended = {"finished_at": datetime.now(UTC)} if wish == "cancel" else {}
    connection.execute(update(jobs_table).where(rows).values(status=wished, wish="", **ended))
    add_event(connection, job_id, wished)
    return find_job(connection, job_id)


def resume_job(connection: Connection, job_id: str) -> Job:
    """Queue a paused job again; it goes on where it stopped. One that waits or runs goes on as it does.

    Raises:
        NotFound: there is no such job.
        BadInput: it has ended.
    """
    job = _lock(connection, job_id)
    if job.status in ENDED:
        raise BadInput(f"job {job_id} is {job.status}: only a paused job can be resumed")
    if job.status != "paused" and not job.wish:
        return job
    status = "queued" if job.status == "paused" else job.status
    connection.execute(update(jobs_table).where(jobs_table.c.id == job_id).values(status=status, wish="", attempts=0))
    add_event(connection, job_id, "resumed")
    return find_job(connection, job_id)


def add_event(
    connection: Connection,
    job_id: str,
    message: str,
    *,
    level: Literal["info", "warn", "error"] = "info",
    kind: Literal["message", "metrics"] = "message",
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write down that something happened."""
    connection.execute(
        insert(job_events_table).values(
            job_id=job_id, at=datetime.now(UTC), level=level, kind=kind, message=message, data=dict(data or {})
        )
    )


def list_job_events(connection: Connection, job_id: str, after: int = 0) -> list[JobEvent]:
    """What happened to a job, oldest first.

    Args:
        after: only events with a greater key.
    """
    table = job_events_table
    query = select(table).where(table.c.job_id == job_id, table.c.key > after).order_by(table.c.key)
    return [JobEvent(**row) for row in connection.execute(query).mappings()]


def _lock(connection: Connection, job_id: str) -> Job:
    connection.execute(select(jobs_table.c.id).where(jobs_table.c.id == job_id).with_for_update())
    return find_job(connection, job_id)


def _job(row: dict[str, Any]) -> Job:
    return Job(**{**row, "arguments": tuple(row["arguments"]), "progress": JobProgress(**row["progress"])})
