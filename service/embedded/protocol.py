"""What the service and a worker process say to each other: one JSON object per line, over a socket pair."""

from typing import Literal

import msgspec

from service.embedded.runtime import Precision


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is started with."""

    folder: str
    precision: Precision
    num_blocks: int
    num_threads: int
    lock_path: str
    """Workers that name the same file compute in turn."""


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Service -> worker: generate."""

    request_id: int
    tokens: list[int]
    eos_tokens: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Service -> worker: nobody reads this request any more."""

    request_id: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Worker -> service: the model is loaded."""


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Worker -> service: new tokens of a request."""

    request_id: int
    tokens: list[int]
    cached_tokens: int
    finish: Literal["", "stop", "length", "dropped"]
    """`dropped`: the pipeline had no room in its cache."""


ToWorker = Submit | Cancel
FromWorker = Ready | Progress
