"""The process that holds one set of weights: requests in, tokens out, one step of the whole batch at a time.

A process, because GenAI's `step()` and its constructor keep Python's global lock for as long as they compute, up to
seconds: in the server's own process they would stop every other connection. Requests that arrive during a step join the
next one; this is the continuous batching. The worker ends when the other side of the socket closes, however it ended.
"""

import fcntl
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import msgspec
import numpy as np

from service.embedded.prefixes import PrefixLedger
from service.embedded.protocol import Progress, Ready, Submit, ToWorker, WorkerOptions
from service.embedded.runtime import genai, open_pipeline, ov

_DECODER = msgspec.json.Decoder(ToWorker)


class _Running:
    """A request in the pipeline."""

    def __init__(self, handle: Any, tokens: list[int], cached_tokens: int) -> None:
        self.handle = handle
        self.num_prompt = len(tokens)
        self.tokens = tokens
        self.cached_tokens = cached_tokens
        self.engine_seconds = 0.0


class Inbox:
    """Lines from the socket, decoded."""

    def __init__(self, channel: socket.socket) -> None:
        """Take the worker's end."""
        self._channel = channel
        self._rest = b""

    def read(self, *, wait: bool) -> list[ToWorker] | None:
        """Read what has arrived.

        Args:
            wait: until something does; otherwise return at once, perhaps with nothing.

        Returns:
            the messages in order; None when the other side is gone.
        """
        messages: list[ToWorker] = []
        while not messages:
            if not select.select([self._channel], [], [], None if wait else 0)[0]:
                return messages
            received = self._channel.recv(1 << 20)
            if not received:
                return None
            *lines, self._rest = (self._rest + received).split(b"\n")
            messages = [_DECODER.decode(line) for line in lines]
        return messages


def serve(channel: socket.socket, options: WorkerOptions) -> None:
    """Load the model, say so, and answer until the other side closes the socket."""
    tokenizer_folder = Path(options.tokenizer_folder) if options.tokenizer_folder else None
    pipeline = open_pipeline(
        Path(options.folder), options.precision, options.num_blocks, options.num_threads, tokenizer_folder
    )
    ledger = PrefixLedger(options.num_blocks)
    inbox = Inbox(channel)
    running: dict[int, _Running] = {}
    channel.sendall(msgspec.json.encode(Ready()) + b"\n")
    with Path(options.lock_path).open("w") as lock:
        while (messages := inbox.read(wait=not running)) is not None:
            refused: list[Progress] = []
            for message in messages:
                if isinstance(message, Submit):
                    try:
                        running[message.request_id] = _submit(pipeline, ledger, message)
                    except (RuntimeError, TypeError, ValueError) as error:
                        refused.append(Progress(message.request_id, [], 0, "refused", reason=str(error)))
                elif message.request_id in running:
                    running.pop(message.request_id).handle.cancel()
            if pipeline.has_non_finished_requests():
                with _turn(lock):
                    start = time.perf_counter()
                    pipeline.step()
                    seconds = time.perf_counter() - start
                for request in running.values():
                    request.engine_seconds += seconds / len(running)
            lines = [msgspec.json.encode(progress) + b"\n" for progress in (*refused, *_collect(running, ledger))]
            if lines:
                channel.sendall(b"".join(lines))


def _submit(pipeline: genai.ContinuousBatchingPipeline, ledger: PrefixLedger, request: Submit) -> _Running:
    config = genai.GenerationConfig()
    config.max_new_tokens = request.max_tokens
    extras = request.extras
    config.ignore_eos = bool(extras.get("ignore_eos"))
    if not config.ignore_eos:
        config.set_eos_token_id(request.eos_tokens[0])
    ends = [] if config.ignore_eos else request.eos_tokens
    config.stop_token_ids = {*ends, *extras.get("stop_token_ids", [])}
    config.min_new_tokens = extras.get("min_tokens", 0)
    config.repetition_penalty = extras.get("repetition_penalty", 1.0)
    config.frequency_penalty = request.frequency_penalty
    config.presence_penalty = request.presence_penalty
    config.logprobs = int(request.has_logprobs)
    if request.json_schema:
        config.structured_output_config = genai.StructuredOutputConfig(json_schema=request.json_schema)
    if request.temperature > 0:
        config.do_sample = True
        config.temperature = request.temperature
        config.top_p = request.top_p
        config.rng_seed = request.seed
        config.min_p = min(extras.get("min_p", 0.0), 1 - 1e-6)  # GenAI takes all but 1
        if "top_k" in extras:
            config.top_k = extras["top_k"]
    config.validate()
    cached_tokens = ledger.count_cached(request.tokens)
    tokens = ov.Tensor(np.array([request.tokens], dtype=np.int64))
    return _Running(pipeline.add_request(request.request_id, tokens, config), list(request.tokens), cached_tokens)


def _collect(running: dict[int, _Running], ledger: PrefixLedger) -> Iterator[Progress]:
    for request_id, request in list(running.items()):
        new: list[int] = []
        logprobs: list[float] = []
        reason = genai.GenerationFinishReason.NONE
        while request.handle.can_read():
            for output in request.handle.read().values():
                new += output.generated_ids
                logprobs += output.generated_log_probs
                reason = output.finish_reason
        is_done = request.handle.get_status() != genai.GenerationStatus.RUNNING
        if not new and not is_done:
            continue
        is_first = len(request.tokens) == request.num_prompt
        request.tokens += new
        if is_first or is_done:
            ledger.record(request.tokens[:-1])
        if is_done:
            del running[request_id]
        names = {genai.GenerationFinishReason.STOP: "stop", genai.GenerationFinishReason.LENGTH: "length"}
        finish: Any = names.get(reason, "dropped") if is_done else ""
        yield Progress(request_id, new, request.cached_tokens, finish, logprobs, request.engine_seconds)


@contextmanager
def _turn(lock: TextIO) -> Iterator[None]:
    """Hold the processor: two models that compute at once on the same cores get in each other's way."""
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), msgspec.json.decode(sys.argv[2], type=WorkerOptions))
