"""`/v1/bakeoff/jobs`: what is queued and what runs, whoever ordered it, and its events as they happen.

Server-sent events: each event of the job with its number as the id, so that a client that lost the connection goes on
with `Last-Event-ID`; `progress` in between; at last `job`, the job as it ended.
"""

import time
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from litestar.status_codes import HTTP_200_OK
from msgspec import Struct

from bakeoff.errors import BadInput
from bakeoff.jobs import ENDED, Job, JobKind, JobProgress, JobStatus
from bakeoff.settings import Settings
from service.callers import Caller
from service.job_board import JobBoard
from service.openai.pages import Page, page
from service.openai.unsupported import is_lenient

LOOK_EVERY_S = 0.5


class JobView(Struct, frozen=True):
    """A job as the API shows it: without the command line, which names places on our disk."""

    id: str
    kind: JobKind
    domain: str
    status: JobStatus
    wish: str
    """`cancel` or `pause` while a running job is being stopped."""
    attempts: int
    progress: JobProgress
    result: dict[str, Any] | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@get("/v1/bakeoff/jobs", operation_id="ListJobs", tags=["jobs"], sync_to_thread=True)
def list_jobs(
    request: Request[Any, Any, State],
    jobs: NamedDependency[JobBoard],
    caller: NamedDependency[Caller],
    kind: FromQuery[JobKind | None] = None,
    status: FromQuery[JobStatus | None] = None,
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
) -> Page[JobView]:
    """List jobs, newest first: every one for a key that manages, its own for any other."""
    found = [_view(job) for job in reversed(jobs.list_seen(caller, kind, status))]
    return page(found, after, None, limit, lenient=is_lenient(request))


@get("/v1/bakeoff/jobs/{job_id:str}", operation_id="RetrieveJob", tags=["jobs"], sync_to_thread=True)
def retrieve_job(job_id: FromPath[str], jobs: NamedDependency[JobBoard], caller: NamedDependency[Caller]) -> JobView:
    """Describe one job."""
    return _view(jobs.find(job_id, caller))


@post(
    "/v1/bakeoff/jobs/{job_id:str}/cancel",
    status_code=HTTP_200_OK,
    operation_id="CancelJob",
    tags=["jobs"],
    sync_to_thread=True,
)
def cancel_job(job_id: FromPath[str], jobs: NamedDependency[JobBoard], caller: NamedDependency[Caller]) -> JobView:
    """End a job for good."""
    caller.check_manages()
    return _view(jobs.cancel(job_id))


@post(
    "/v1/bakeoff/jobs/{job_id:str}/pause",
    status_code=HTTP_200_OK,
    operation_id="PauseJob",
    tags=["jobs"],
    sync_to_thread=True,
)
def pause_job(job_id: FromPath[str], jobs: NamedDependency[JobBoard], caller: NamedDependency[Caller]) -> JobView:
    """Stop a job so that it can go on later."""
    caller.check_manages()
    return _view(jobs.pause(job_id))


@post(
    "/v1/bakeoff/jobs/{job_id:str}/resume",
    status_code=HTTP_200_OK,
    operation_id="ResumeJob",
    tags=["jobs"],
    sync_to_thread=True,
)
def resume_job(job_id: FromPath[str], jobs: NamedDependency[JobBoard], caller: NamedDependency[Caller]) -> JobView:
    """Queue a paused job again."""
    caller.check_manages()
    return _view(jobs.resume(job_id))


@get("/v1/bakeoff/jobs/{job_id:str}/events", operation_id="FollowJob", tags=["jobs"])
async def follow_job(
    request: Request[Any, Any, State],
    job_id: FromPath[str],
    jobs: NamedDependency[JobBoard],
    caller: NamedDependency[Caller],
    settings: NamedDependency[Settings],
) -> ServerSentEvent:
    """Stream what happens to a job until it ends."""
    last = request.headers.get("last-event-id", "0")
    if not last.isdecimal() or len(last) > 18:
        raise BadInput(f"Last-Event-ID is {last!r}; it has to be the id of an event of this job", param="Last-Event-ID")
    await anyio.to_thread.run_sync(jobs.find, job_id, caller)
    return ServerSentEvent(_follow(jobs, job_id, int(last), settings.keepalive_s))


async def _follow(
    jobs: JobBoard, job_id: str, seen: int, keepalive_s: float
) -> AsyncGenerator[ServerSentEventMessage, None]:
    told = JobProgress()
    spoke = time.monotonic()
    while True:
        job, events = await anyio.to_thread.run_sync(jobs.events, job_id, seen)
        messages = [ServerSentEventMessage(_json(event), event=event.kind, id=event.key) for event in events]
        if job.progress != told:
            told = job.progress
            messages.append(ServerSentEventMessage(_json(told), event="progress"))
        if job.status in ENDED:
            messages.append(ServerSentEventMessage(_json(_view(job)), event="job"))
        elif not messages and time.monotonic() - spoke >= keepalive_s:
            messages.append(ServerSentEventMessage(comment="keep-alive"))
        for message in messages:
            yield message
            spoke = time.monotonic()
        if job.status in ENDED:
            return
        seen = events[-1].key if events else seen
        await anyio.sleep(LOOK_EVERY_S)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _view(job: Job) -> JobView:
    return JobView(**{name: getattr(job, name) for name in JobView.__struct_fields__})


job_routes = [list_jobs, retrieve_job, cancel_job, pause_job, resume_job, follow_job]
