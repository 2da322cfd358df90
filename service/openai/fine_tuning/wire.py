"""A job's row -> the objects that clients read. Places on our disk never leave it: messages name the client's files."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from bakeoff.errors import NotFound
from bakeoff.jobs import Job, JobEvent
from bakeoff.modes import MODES, ModelName
from service.openai.fine_tuning.orders import DETAILS_KEY, Order
from service.openai.fine_tuning.schemas import (
    CheckpointMetrics,
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    Hyperparameters,
    JobError,
    JobFacts,
)


def read_order(job: Job) -> Order:
    """What was ordered.

    Raises:
        NotFound: the job is no fine-tuning job.
    """
    if DETAILS_KEY not in job.details:
        raise NotFound(f"there is no fine-tuning job {job.id!r}", param="fine_tuning_job_id")
    return msgspec.convert(job.details[DETAILS_KEY], Order)


def to_object(job: Job) -> FineTuningJob:
    """The job as OpenAI describes one."""
    order = read_order(job)
    adapter = _adapter_of(job)
    method = order.method
    knobs = method.supervised.hyperparameters if method.supervised is not None else None
    if method.dpo is not None:
        learned = method.dpo.hyperparameters
        knobs = Hyperparameters(learned.batch_size, learned.learning_rate_multiplier, learned.n_epochs)
    assert knobs is not None
    return FineTuningJob(
        id=job.id,
        created_at=_seconds(job.created_at),
        finished_at=None if job.finished_at is None else _seconds(job.finished_at),
        model=order.model,
        fine_tuned_model=None if adapter is None else _model(job, adapter),
        status="queued" if job.status == "paused" else job.status,
        training_file=order.training_file,
        validation_file=order.validation_file,
        hyperparameters=knobs,
        method=method,
        trained_tokens=(job.result or {}).get("tokens"),
        error=_error(job, order),
        user_provided_suffix=order.suffix,
        seed=order.seed,
        estimated_finish=_estimate(job),
        metadata=order.metadata,
        bakeoff=JobFacts(job.domain, adapter, job.progress, job.attempts, job.status == "paused"),
    )


def to_event(event: JobEvent, order: Order) -> FineTuningEvent:
    """An event as OpenAI describes one."""
    return FineTuningEvent(
        id=f"ftevent-{event.key}",
        created_at=_seconds(event.at),
        level=event.level,
        message=_without_paths(event.message, order),
        type=event.kind,
        data=event.data,
    )


def checkpoints_of(job: Job) -> list[FineTuningCheckpoint]:
    """The models that a job made: the one it ended with, for no other is kept."""
    read_order(job)
    adapter = _adapter_of(job)
    if adapter is None or job.finished_at is None:
        return []
    result: dict[str, Any] = job.result or {}
    step = int(result.get("step", 0))
    return [
        FineTuningCheckpoint(
            id=f"ftckpt_{job.id.rpartition('-')[2]}",
            created_at=_seconds(job.finished_at),
            fine_tuned_model_checkpoint=_model(job, adapter),
            fine_tuning_job_id=job.id,
            step_number=step,
            metrics=CheckpointMetrics(step, result.get("train_loss"), result.get("validation_loss")),
        )
    ]


def _adapter_of(job: Job) -> str | None:
    if job.status != "succeeded" or job.result is None:
        return None
    adapter = job.result.get("adapter") or job.result.get("digest")
    return None if adapter is None else str(adapter)


def _model(job: Job, adapter: str) -> str:
    return str(ModelName(job.domain, MODES["fine-tuned"], adapter))


def _error(job: Job, order: Order) -> JobError | None:
    if job.error is None:
        return None
    param = next((_param(order, file_id) for path, file_id in order.files.items() if path in job.error), None)
    code = "training_failed" if param is None else f"invalid_{param}"
    return JobError(code, _without_paths(job.error, order), param)


def _param(order: Order, file_id: str) -> str:
    return "training_file" if file_id == order.training_file else "validation_file"


def _without_paths(text: str, order: Order) -> str:
    for path, file_id in order.files.items():
        text = text.replace(path, file_id)
    return text


def _estimate(job: Job) -> int | None:
    """When it will have ended, by how fast it has gone; None while nothing can be said."""
    progress = job.progress
    if job.status != "running" or job.started_at is None or not 0 < progress.done <= progress.total:
        return None
    now = datetime.now(UTC)
    elapsed = (now - job.started_at).total_seconds()
    return _seconds(now) + round(elapsed * (progress.total - progress.done) / progress.done)


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
