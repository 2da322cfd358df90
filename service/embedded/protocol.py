"""What the service and a worker process say to each other: one JSON object per line, over a socket pair."""

from typing import Any, Literal

import msgspec

from service.embedded.runtime import Precision

EXTRAS = frozenset({"top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids"})
"""vLLM's sampling parameters that GenAI has too."""


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is started with."""

    folder: str
    precision: Precision
    num_blocks: int
    num_threads: int
    lock_path: str
    """Workers that name the same file compute in turn."""
    tokenizer_folder: str = ""
    """As OpenVINO graphs, for answers in a given form; empty where there is none."""


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Service -> worker: generate."""

    request_id: int
    tokens: list[int]
    eos_tokens: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    has_logprobs: bool = False
    json_schema: str = ""
    extras: dict[str, Any] = {}
    """Of `EXTRAS`."""


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
    finish: Literal["", "stop", "length", "dropped", "refused"]
    """`dropped`: the pipeline had no room in its cache. `refused`: it does not take these parameters."""
    logprobs: list[float] = []
    """Of the tokens, where they were asked for."""
    engine_seconds: float = 0.0
    """Computing so far: of each step, as much as there were requests in it."""
    reason: str = ""
    """Why it was refused."""


ToWorker = Submit | Cancel
FromWorker = Ready | Progress
