"""`POST /v1/completions`: each prompt is a question of its own, and all of them are answered at once."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

import msgspec
from litestar import Request, Response, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, SkipValidation
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET, UnsetType

from bakeoff.records import Delta, Message
from bakeoff.settings import Settings
from service.callers import Caller
from service.exchange import Asked, Exchange, Exchanges
from service.facts import CLIENT_CLOSED
from service.generator import Generator
from service.merging import merge
from service.openai.aliases import find_model_name
from service.openai.completions.schemas import (
    Completion,
    CompletionChoice,
    CompletionRequest,
    read_prompts,
    to_logprobs,
    to_sampling,
)
from service.openai.evidence import Evidence, Usage, evidence_of, sum_prompts
from service.openai.gathering import Gathered, last_deltas
from service.openai.stream import DONE, EventStream, frame, open_stream, tell_failure, unless_disconnected


@post(
    "/v1/completions",
    status_code=HTTP_200_OK,
    operation_id="CreateCompletion",
    tags=["completions"],
    responses={HTTP_200_OK: ResponseSpec(Completion, description="The answers; an event stream with stream: true")},
)
async def create_completion(
    data: JSONBody[CompletionRequest],
    request: Request[Any, Any, State],
    exchanges: NamedDependency[Exchanges],
    generator: NamedDependency[SkipValidation[Generator]],
    caller: NamedDependency[Caller],
    settings: NamedDependency[Settings],
) -> Response[Completion] | Response[None] | EventStream:
    """Answer prompts in the mode that the model names, as OpenAI's older completions do."""
    prompts = read_prompts(data)
    sampling = to_sampling(data, generator.supports, request)
    model = find_model_name(data.model, settings)
    num_choices = data.n or 1
    id_ = f"cmpl-{secrets.token_hex(16)}"
    begun = [
        await exchanges.begin(
            Asked(
                route="completions",
                prefix="cmpl-",
                id=id_,
                model=model,
                conversation=(Message("user", prompt),),
                sampling=sampling,
                is_streamed=bool(data.stream),
                num_choices=num_choices,
                first_choice=number * num_choices,
                caller=caller,
                user=data.user or "",
            )
        )
        for number, prompt in enumerate(prompts)
    ]
    wire = _Wire(begun, prompts if data.echo else [""] * len(prompts))
    if not data.stream:
        completion = await unless_disconnected(request, wire.collect())
        return Response(None, status_code=CLIENT_CLOSED) if completion is None else Response(completion)
    include_usage = data.stream_options is not None and bool(data.stream_options.include_usage)
    stream = await open_stream(request, wire.frames(include_usage), tell_failure, settings.keepalive_s)
    return Response(None, status_code=CLIENT_CLOSED) if stream is None else stream


class _Wire:
    """Puts the exchanges of one request into OpenAI's forms."""

    def __init__(self, exchanges: list[Exchange], echoes: list[str]) -> None:
        self._exchanges = exchanges
        self._echoes = echoes
        self._num_choices = exchanges[0].asked.num_choices
        self._has_logprobs = exchanges[0].asked.sampling.top_logprobs is not None
        self._choices = [Gathered() for _ in range(len(exchanges) * self._num_choices)]

    async def collect(self) -> Completion:
        """Read the whole answers."""
        async with aclosing(self._deltas()) as deltas:
            async for index, delta in deltas:
                self._choices[index].add(delta)
        usage = self._sum_usage()
        return self._completion([self._whole(index) for index in range(len(self._choices))], usage, self._evidence())

    async def frames(self, include_usage: bool) -> AsyncGenerator[bytes, None]:
        """Each event, `[DONE]` last."""
        usage: UnsetType | None = None if include_usage else UNSET
        lengths = [0] * len(self._choices)
        async with aclosing(self._deltas()) as deltas:
            async for index, delta in deltas:
                echo = "" if self._choices[index].texts else self._echo(index)
                self._choices[index].add(delta)
                logprobs = to_logprobs(delta.logprobs, lengths[index]) if delta.logprobs else None
                lengths[index] += len(delta.text)
                choice = CompletionChoice(echo + delta.text, index, _finish(delta), logprobs)
                yield frame(msgspec.json.encode(self._completion([choice], usage)))
        totals = self._sum_usage()
        if include_usage:
            yield frame(msgspec.json.encode(self._completion([], totals, self._evidence())))
        yield DONE

    async def _deltas(self) -> AsyncGenerator[tuple[int, Delta], None]:
        streams = [exchange.choices() for exchange in self._exchanges]
        async with aclosing(merge(streams)) as pieces:
            async for number, (choice, delta) in pieces:
                yield number * self._num_choices + choice, delta

    def _whole(self, index: int) -> CompletionChoice:
        gathered = self._choices[index]
        logprobs = to_logprobs(gathered.logprobs, 0) if self._has_logprobs else None
        finish: Literal["stop", "length"] = "length" if gathered.finish_reason == "length" else "stop"
        return CompletionChoice(self._echo(index) + gathered.text, index, finish, logprobs)

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._num_choices]

    def _sum_usage(self) -> Usage:
        last = last_deltas(self._choices)
        size = self._num_choices
        return sum_prompts([last[start : start + size] for start in range(0, len(last), size)])

    def _evidence(self) -> list[Evidence]:
        return [evidence_of(exchange.prepared) for exchange in self._exchanges]

    def _completion(
        self,
        choices: list[CompletionChoice],
        usage: Usage | UnsetType | None,
        evidence: list[Evidence] | UnsetType = UNSET,
    ) -> Completion:
        first = self._exchanges[0]
        return Completion(first.id, first.created, str(first.prepared.model), choices, first.engine, usage, evidence)


def _finish(delta: Delta) -> Literal["stop", "length"] | None:
    if delta.finish_reason is None:
        return None
    return "length" if delta.finish_reason == "length" else "stop"
