"""`bakeoff jobs`: what is queued, what runs, and how it goes."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, get_args

import click
import msgspec

from bakeoff.cli.output import json_option, print_json, say
from bakeoff.cli.workspace import Workspace
from bakeoff.database import reading, writing
from bakeoff.errors import BakeoffError
from bakeoff.jobs import (
    ENDED,
    Job,
    JobEvent,
    JobKind,
    JobStatus,
    find_job,
    list_job_events,
    list_jobs,
    resume_job,
    wish_job,
)

LOOK_EVERY_S = 0.5
DEFAULT_LIMIT = 50


@click.group("jobs")
def jobs_command() -> None:
    """List, follow, cancel, pause and resume what is queued: train, eval, ingest."""


@jobs_command.command("list")
@click.option("--kind", type=click.Choice(get_args(JobKind)), help="Only of this kind.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(get_args(JobStatus)), help="May be repeated.")
@click.option("--limit", default=DEFAULT_LIMIT, show_default=True, type=click.IntRange(1), help="The newest ones.")
@json_option()
def show_list(kind: JobKind | None, statuses: tuple[JobStatus, ...], limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    with reading(Workspace().engine) as connection:
        jobs = list_jobs(connection, kind, statuses, limit=limit)
    if as_json:
        print_json({"jobs": jobs})
        return
    for job in jobs:
        click.echo(f"{job.id}\t{job.status}\t{job.kind}\t{job.domain}\t{_time(job.created_at)}\t{_progress(job)}")


@jobs_command.command("show")
@click.argument("job_id", metavar="JOB")
@json_option()
def show(job_id: str, as_json: bool) -> None:
    """Show a job and everything that happened to it."""
    with reading(Workspace().engine) as connection:
        job = find_job(connection, job_id)
        events = list_job_events(connection, job_id)
    if as_json:
        print_json({**msgspec.structs.asdict(job), "events": events})
        return
    click.echo(f"{job.id}: {job.status}, {job.kind} of {job.domain}\n  bakeoff {' '.join(job.arguments)}")
    if _progress(job):
        click.echo(f"  {_progress(job)}")
    if job.error:
        click.echo(f"  {job.error}")
    for event in events:
        _tell(event)


@jobs_command.command("follow")
@click.argument("job_id", metavar="JOB")
@json_option()
def follow(job_id: str, as_json: bool) -> None:
    """Tell what happens to a job until it ends; exit status 1 if it did not succeed.

    With --json, each event is a line, and the last line is the job.
    """
    engine = Workspace().engine
    seen, told = 0, ""
    while True:
        with reading(engine) as connection:
            job = find_job(connection, job_id)
            events = list_job_events(connection, job_id, seen)
        for event in events:
            seen = event.key
            print_json(event) if as_json else _tell(event)
        if not as_json and job.status == "running" and _progress(job) != told:
            told = _progress(job)
            say(f"  {told}")
        if job.status in ENDED:
            break
        time.sleep(LOOK_EVERY_S)
    if as_json:
        print_json(job)
    if job.status != "succeeded":
        raise BakeoffError(f"job {job.id} is {job.status}" + (f": {job.error}" if job.error else ""))


@jobs_command.command("cancel")
@click.argument("job_id", metavar="JOB")
@json_option()
def cancel(job_id: str, as_json: bool) -> None:
    """End a job for good."""
    _change(lambda connection: wish_job(connection, job_id, "cancel"), as_json)


@jobs_command.command("pause")
@click.argument("job_id", metavar="JOB")
@json_option()
def pause(job_id: str, as_json: bool) -> None:
    """Stop a job so that it can go on later; a training goes on from its last checkpoint."""
    _change(lambda connection: wish_job(connection, job_id, "pause"), as_json)


@jobs_command.command("resume")
@click.argument("job_id", metavar="JOB")
@json_option()
def resume(job_id: str, as_json: bool) -> None:
    """Queue a paused job again."""
    _change(lambda connection: resume_job(connection, job_id), as_json)


def _change(change: Callable[[Any], Job], as_json: bool) -> None:
    with writing(Workspace().engine) as connection:
        job = change(connection)
    if as_json:
        print_json(job)
    else:
        click.echo(f"{job.id}: {job.status}" + (f", {job.wish} asked for" if job.wish else ""))


def _progress(job: Job) -> str:
    progress = job.progress
    count = f" {progress.done}/{progress.total}" if progress.total else ""
    return f"{progress.title}{count} {progress.note}".strip()


def _tell(event: JobEvent) -> None:
    mark = {"info": " ", "warn": "!", "error": "!"}[event.level]
    click.echo(f"{mark} {_time(event.at)}  {event.message}")


def _time(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
