"""`/v1/fine_tuning/jobs`: create, list, retrieve, cancel, pause, resume, events, checkpoints."""

from typing import Any

from litestar import Request, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK

from bakeoff.errors import BadInput
from bakeoff.settings import Settings
from service.callers import Caller
from service.job_board import JobBoard
from service.openai.fine_tuning.orders import PREFIX, place_order, read_method
from service.openai.fine_tuning.schemas import (
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    FineTuningRequest,
)
from service.openai.fine_tuning.wire import checkpoints_of, read_order, to_event, to_object
from service.openai.pages import Page, page
from service.openai.unsupported import is_lenient

DEFAULT_CHECKPOINTS = 10
_JOB = "/v1/fine_tuning/jobs/{fine_tuning_job_id:str}"
_POST: dict[str, Any] = {"status_code": HTTP_200_OK, "tags": ["fine-tuning"], "sync_to_thread": True}
_GET: dict[str, Any] = {"tags": ["fine-tuning"], "sync_to_thread": True}


@post("/v1/fine_tuning/jobs", operation_id="CreateFineTuningJob", **_POST)
def create_job(
    request: Request[Any, Any, State],
    data: JSONBody[FineTuningRequest],
    jobs: NamedDependency[JobBoard],
    caller: NamedDependency[Caller],
    settings: NamedDependency[Settings],
) -> FineTuningJob:
    """Queue a training on an uploaded file."""
    caller.check_manages()
    method = read_method(request, data)
    return to_object(jobs.write(lambda connection: place_order(connection, settings, caller, data, method)))


@get("/v1/fine_tuning/jobs", operation_id="ListFineTuningJobs", **_GET)
def list_jobs(
    request: Request[Any, Any, State],
    jobs: NamedDependency[JobBoard],
    caller: NamedDependency[Caller],
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
) -> Page[FineTuningJob]:
    """List the jobs of this key, newest first; `metadata[key]=value` keeps those that carry it."""
    wanted = _read_filter(request)
    found = [to_object(job) for job in reversed(jobs.list_own(caller, PREFIX))]
    if wanted is None:
        found = [job for job in found if job.metadata is None]
    elif wanted:
        found = [job for job in found if wanted.items() <= (job.metadata or {}).items()]
    return page(found, after, None, limit, lenient=is_lenient(request))


@get(_JOB, operation_id="RetrieveFineTuningJob", **_GET)
def retrieve_job(
    fine_tuning_job_id: FromPath[str], jobs: NamedDependency[JobBoard], caller: NamedDependency[Caller]
) -> FineTuningJob:
    """Describe a job."""
    return to_object(jobs.find_own(fine_tuning_job_id, caller))


@post(f"{_JOB}/cancel", operation_id="CancelFineTuningJob", **_POST)
def cancel_job(
    fine_tuning_job_id: FromPath[str], jobs: NamedDependency[JobBoard], caller: NamedDependency[Caller]
) -> FineTuningJob:
    """End a job for good."""
    _check(fine_tuning_job_id, jobs, caller)
    return to_object(jobs.cancel(fine_tuning_job_id))


@post(f"{_JOB}/pause", operation_id="PauseFineTuningJob", **_POST)
def pause_job(
    fine_tuning_job_id: FromPath[str], jobs: NamedDependency[JobBoard], caller: NamedDependency[Caller]
) -> FineTuningJob:
    """Stop a job so that it can go on later."""
    _check(fine_tuning_job_id, jobs, caller)
    return to_object(jobs.pause(fine_tuning_job_id))


@post(f"{_JOB}/resume", operation_id="ResumeFineTuningJob", **_POST)
def resume_job(
    fine_tuning_job_id: FromPath[str], jobs: NamedDependency[JobBoard], caller: NamedDependency[Caller]
) -> FineTuningJob:
    """Queue a paused job again; it goes on where it stopped."""
    _check(fine_tuning_job_id, jobs, caller)
    return to_object(jobs.resume(fine_tuning_job_id))


@get(f"{_JOB}/events", operation_id="ListFineTuningEvents", **_GET)
def list_events(
    request: Request[Any, Any, State],
    fine_tuning_job_id: FromPath[str],
    jobs: NamedDependency[JobBoard],
    caller: NamedDependency[Caller],
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
) -> Page[FineTuningEvent]:
    """List what happened to a job, newest first."""
    order = read_order(jobs.find_own(fine_tuning_job_id, caller))
    _, events = jobs.events(fine_tuning_job_id)
    return page([to_event(event, order) for event in events], after, None, limit, lenient=is_lenient(request))


@get(f"{_JOB}/checkpoints", operation_id="ListFineTuningCheckpoints", **_GET)
def list_checkpoints(
    request: Request[Any, Any, State],
    fine_tuning_job_id: FromPath[str],
    jobs: NamedDependency[JobBoard],
    caller: NamedDependency[Caller],
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
) -> Page[FineTuningCheckpoint]:
    """List the models that a job made."""
    found = checkpoints_of(jobs.find_own(fine_tuning_job_id, caller))
    return page(found, after, None, limit, default_limit=DEFAULT_CHECKPOINTS, lenient=is_lenient(request))


def _check(job_id: str, jobs: JobBoard, caller: Caller) -> None:
    caller.check_manages()
    read_order(jobs.find_own(job_id, caller))


def _read_filter(request: Request[Any, Any, State]) -> dict[str, str] | None:
    """What `metadata[key]=value` asks for; None for jobs without any (`metadata=null`)."""
    pairs = {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    whole = request.query_params.get("metadata")
    if whole is not None and (whole != "null" or pairs):
        raise BadInput("metadata is filtered by metadata[key]=value, or by metadata=null alone", param="metadata")
    return None if whole is not None else pairs


fine_tuning_routes = [
    create_job,
    list_jobs,
    retrieve_job,
    cancel_job,
    pause_job,
    resume_job,
    list_events,
    list_checkpoints,
]
