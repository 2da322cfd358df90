"""Jobs as callers see them: whoever ordered one may see it, and whoever manages may see and change every one."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine

from bakeoff.database import reading, writing
from bakeoff.jobs import Job, JobEvent, JobKind, JobStatus, find_job, list_job_events, list_jobs, resume_job, wish_job
from service.callers import Caller


class JobBoard:
    """The jobs of the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, job_id: str, caller: Caller) -> Job:
        """The job.

        Raises:
            NotFound: there is none, or the caller may not see it.
        """
        with reading(self._engine) as connection:
            job = find_job(connection, job_id)
        if not caller.manages:
            caller.check_owns(job.owner, f"job {job_id!r}")
        return job

    def list_seen(self, caller: Caller, kind: JobKind | None = None, status: JobStatus | None = None) -> Sequence[Job]:
        """The jobs that the caller may see, newest first."""
        owner = "" if caller.manages else caller.key_id
        with reading(self._engine) as connection:
            return list_jobs(connection, kind, (status,) if status else (), owner=owner)

    def list_own(self, caller: Caller, prefix: str) -> Sequence[Job]:
        """The jobs that the caller's key ordered, every job where there are no keys, newest first.

        Args:
            prefix: of their ids.
        """
        with reading(self._engine) as connection:
            return list_jobs(connection, prefix=prefix, owner=caller.key_id)

    def find_own(self, job_id: str, caller: Caller) -> Job:
        """The job, if the caller's key ordered it.

        Raises:
            NotFound: there is none, or it belongs to another key.
        """
        with reading(self._engine) as connection:
            job = find_job(connection, job_id)
        caller.check_owns(job.owner, f"job {job_id!r}")
        return job

    def events(self, job_id: str, after: int = 0) -> tuple[Job, Sequence[JobEvent]]:
        """The job, and what happened to it after an event of this key; both of one moment.

        Raises:
            NotFound: there is no such job any more.
        """
        with reading(self._engine) as connection:
            return find_job(connection, job_id), list_job_events(connection, job_id, after)

    def cancel(self, job_id: str) -> Job:
        """End it for good; see `jobs.wish_job`."""
        return self.write(lambda connection: wish_job(connection, job_id, "cancel"))

    def pause(self, job_id: str) -> Job:
        """Stop it until it is resumed; see `jobs.wish_job`."""
        return self.write(lambda connection: wish_job(connection, job_id, "pause"))

    def resume(self, job_id: str) -> Job:
        """Let it go on; see `jobs.resume_job`."""
        return self.write(lambda connection: resume_job(connection, job_id))

    def write(self, change: Callable[[Connection], Job]) -> Job:
        """Change jobs, or order one, in a transaction."""
        with writing(self._engine) as connection:
            return change(connection)
