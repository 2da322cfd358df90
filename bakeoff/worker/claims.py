"""Who runs which job: taken, kept alive, handed back and ended, each in one transaction.

A job that runs belongs to the worker named in its row, and only that worker may write to it. A worker that lost a job
(it stood still for too long, and another took the job over) finds that out at its next sign of life.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins
from sqlalchemy import Connection, select, update

from bakeoff.jobs import Job, JobProgress, JobStatus, add_event, find_job, jobs_table

MAX_ATTEMPTS = 3
"""Starts after which a job whose process or worker died every time is given up."""
STALE_S = 30.0
"""Without a sign of life for so long, a worker counts as dead."""
_STARTED_HERE: set[str] = set()


class WorkerName(Struct, frozen=True):
    """One start of one worker."""

    machine: str
    """Host and process namespace: within it, a process number says whether a worker lives."""
    pid: int
    start: str
    """Random, for numbers come again."""

    def __str__(self) -> str:
        return f"{self.machine} {self.pid} {self.start}"

    def is_dead(self, other: str) -> bool:
        """Whether a worker that ran on this machine is gone for sure; False where that cannot be known from here."""
        parts = other.split(" ")
        if len(parts) != 3 or parts[0] != self.machine:
            return False
        pid = int(parts[1])
        if pid == self.pid:
            return parts[2] not in _STARTED_HERE
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def name_worker() -> WorkerName:
    """The name of this process as a worker."""
    namespace = Path("/proc/self/ns/pid")
    place = str(namespace.readlink()) if namespace.is_symlink() else ""
    start = secrets.token_hex(4)
    _STARTED_HERE.add(start)
    return WorkerName(f"{socket.gethostname()}/{place}".replace(" ", "_"), os.getpid(), start)


def has_queued(connection: Connection, *, is_heavy: bool) -> bool:
    """Whether a job of this weight waits; reads only, so that an idle worker keeps nobody from writing."""
    table = jobs_table.c
    query = select(table.id).where(table.status == "queued", table.is_heavy == is_heavy).limit(1)
    return connection.execute(query).first() is not None


def claim_job(connection: Connection, worker: str, *, is_heavy: bool) -> Job | None:
    """Take the oldest queued job of this weight; None where there is none that nobody else is taking.

    Args:
        connection: in a transaction of `bakeoff.database.writing`.
    """
    table = jobs_table.c
    query = (
        select(table.id)
        .where(table.status == "queued", table.is_heavy == is_heavy)
        .order_by(table.created_at, table.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = connection.scalar(query)
    if job_id is None:
        return None
    job = find_job(connection, job_id)
    now = datetime.now(UTC)
    connection.execute(
        update(jobs_table)
        .where(table.id == job_id)
        .values(
            status="running",
            wish="",
            worker=worker,
            attempts=job.attempts + 1,
            started_at=job.started_at or now,
            heartbeat_at=now,
            error=None,
        )
    )
    add_event(connection, job_id, "started" if job.started_at is None else "started again")
    return find_job(connection, job_id)


def beat(connection: Connection, worker: str, job_id: str, progress: JobProgress) -> str | None:
    """Give a sign of life, and say how far the job is.

    Returns:
        what is wished of it, "" for nothing; None if the job is not this worker's any more.
    """
    values: dict[str, Any] = {"heartbeat_at": datetime.now(UTC), "progress": to_builtins(progress)}
    if not _change(connection, worker, job_id, values):
        return None
    return str(connection.scalar(select(jobs_table.c.wish).where(jobs_table.c.id == job_id)))


def end_job(
    connection: Connection,
    worker: str,
    job_id: str,
    status: JobStatus,
    *,
    result: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> bool:
    """Write down how a run ended; `queued` and `paused` are ends of a run too, not of the job.

    Returns:
        whether it was still this worker's to end.
    """
    values: dict[str, Any] = {"status": status, "wish": "", "heartbeat_at": None}
    if status in ("succeeded", "failed", "cancelled"):
        values |= {"finished_at": datetime.now(UTC), "error": error}
    if result is not None:
        values["result"] = dict(result)
    if status == "paused":
        values["attempts"] = 0
    if not _change(connection, worker, job_id, values):
        return False
    add_event(connection, job_id, error or status, level="error" if status == "failed" else "info")
    return True


def hand_back(connection: Connection, worker: str, job_id: str) -> bool:
    """Queue a job again that this worker does not finish, because it ends; that is no failed attempt."""
    values: dict[str, Any] = {"status": "queued", "heartbeat_at": None, "attempts": jobs_table.c.attempts - 1}
    if not _change(connection, worker, job_id, values):
        return False
    add_event(connection, job_id, "handed back: the worker ends")
    return True


def give_up_or_requeue(connection: Connection, job: Job, reason: str) -> JobStatus:
    """Decide about a job whose process or worker died: as was wished, queued again, or failed after three starts.

    Args:
        job: a row that the caller has locked.
    """
    status: JobStatus = "queued"
    if job.wish:
        status = "cancelled" if job.wish == "cancel" else "paused"
    elif job.attempts >= MAX_ATTEMPTS:
        status = "failed"
        reason = f"{reason}; it was started {job.attempts} times and is given up"
    values: dict[str, Any] = {"status": status, "wish": "", "heartbeat_at": None}
    if status in ("failed", "cancelled"):
        values |= {"finished_at": datetime.now(UTC), "error": reason if status == "failed" else None}
    connection.execute(update(jobs_table).where(jobs_table.c.id == job.id).values(**values))
    level: Any = "error" if status == "failed" else "warn"
    add_event(connection, job.id, f"{reason}: {status}" if status != "failed" else reason, level=level)
    return status


def recover_jobs(connection: Connection, me: WorkerName) -> list[str]:
    """Take care of jobs whose worker is dead; return their ids.

    Args:
        connection: in a transaction of `bakeoff.database.writing`.
    """
    table = jobs_table.c
    query = select(table.id).where(table.status == "running").with_for_update(skip_locked=True)
    recovered = []
    for job_id in connection.scalars(query).all():
        job = find_job(connection, job_id)
        seen = job.heartbeat_at
        is_stale = seen is None or datetime.now(UTC) - seen > timedelta(seconds=STALE_S)
        if job.worker != str(me) and (is_stale or me.is_dead(job.worker)):
            give_up_or_requeue(connection, job, "its worker died")
            recovered.append(job_id)
    return recovered


def _change(connection: Connection, worker: str, job_id: str, values: Mapping[str, Any]) -> bool:
    mine = (jobs_table.c.id == job_id) & (jobs_table.c.worker == worker) & (jobs_table.c.status == "running")
    return connection.execute(update(jobs_table).where(mine).values(**values)).rowcount == 1
