"""What clients send to and get from `/v1/fine_tuning/jobs`. Source: OpenAI's published API description."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from bakeoff.jobs import JobProgress
from service.openai.sampling import Metadata

BatchSize = Literal["auto"] | Annotated[int, Meta(ge=1, le=256)]
Epochs = Literal["auto"] | Annotated[int, Meta(ge=1, le=50)]
RateMultiplier = Literal["auto"] | Annotated[float, Meta(gt=0)]
Beta = Literal["auto"] | Annotated[float, Meta(gt=0, le=2)]
MethodType = Literal["supervised", "dpo", "reinforcement"]
FineTuningStatus = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
"""OpenAI's; a paused job is `queued` to its clients, and our own field says that it is paused."""
MAX_SEED = 2**31 - 1


class Hyperparameters(Struct, frozen=True, forbid_unknown_fields=True):
    """Of supervised training; `auto` leaves each to the recipe."""

    batch_size: BatchSize | None = "auto"
    learning_rate_multiplier: RateMultiplier | None = "auto"
    n_epochs: Epochs | None = "auto"


class DpoHyperparameters(Struct, frozen=True, forbid_unknown_fields=True):
    """Of learning from preferences."""

    batch_size: BatchSize | None = "auto"
    beta: Beta | None = "auto"
    learning_rate_multiplier: RateMultiplier | None = "auto"
    n_epochs: Epochs | None = "auto"


class Supervised(Struct, frozen=True, forbid_unknown_fields=True):
    """Learn the answers of a file."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Dpo(Struct, frozen=True, forbid_unknown_fields=True):
    """Learn which answers are preferred."""

    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class MethodRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How to learn."""

    type: MethodType
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: dict[str, Any] | None = None


class FineTuningRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/fine_tuning/jobs`."""

    model: Annotated[str, Meta(min_length=1, max_length=300)]
    training_file: Annotated[str, Meta(min_length=1, max_length=100)]
    validation_file: Annotated[str, Meta(max_length=100)] | None = None
    method: MethodRequest | None = None
    hyperparameters: Hyperparameters | None = None
    """As before there was `method`."""
    suffix: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] | None = None
    integrations: list[dict[str, Any]] | None = None
    metadata: Metadata | None = None


class Method(Struct, frozen=True, omit_defaults=True):
    """How a job learns."""

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None


class JobError(Struct, frozen=True):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class JobFacts(Struct, frozen=True):
    """Our own field of a job."""

    domain: str
    adapter: str | None
    """Digest of what it made."""
    progress: JobProgress
    attempts: int
    paused: bool
    """Whether it waits until it is resumed."""


class FineTuningJob(Struct, frozen=True, kw_only=True):
    """A job, as OpenAI describes one."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str = "bakeoff"
    result_files: list[str] = []
    status: FineTuningStatus
    training_file: str
    validation_file: str | None
    hyperparameters: Hyperparameters
    method: Method
    trained_tokens: int | None
    error: JobError | None
    user_provided_suffix: str | None
    seed: int
    estimated_finish: int | None
    integrations: list[dict[str, Any]] = []
    metadata: Metadata | None
    bakeoff: JobFacts


class FineTuningEvent(Struct, frozen=True, kw_only=True):
    """Something that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class CheckpointMetrics(Struct, frozen=True, omit_defaults=True):
    """Losses at a checkpoint, in nats per token of the answers."""

    step: int
    train_loss: float | None = None
    valid_loss: float | None = None


class FineTuningCheckpoint(Struct, frozen=True, kw_only=True):
    """A model that a job made."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics
