"""The OpenAI routes and the health checks."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, SkipValidation
from litestar.response import ServerSentEvent
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from bakeoff.modes import ModelName, parse_model_name
from bakeoff.prompts import PROMPTS_VERSION
from bakeoff.records import Delta
from bakeoff.settings import Settings
from bakeoff.tasks import ANSWER, find_task
from service.answer import Answerer, ModelState
from service.generator import Generator
from service.schemas import (
    ChatCompletion,
    ChatRequest,
    Health,
    Model,
    ModelFacts,
    ModelList,
    check_supported,
    to_conversation,
    to_sampling,
)
from service.streaming import Wire

T = TypeVar("T")
CLIENT_CLOSED = 499


@post(
    "/v1/chat/completions",
    status_code=HTTP_200_OK,
    operation_id="CreateChatCompletion",
    tags=["chat"],
    responses={HTTP_200_OK: ResponseSpec(ChatCompletion, description="The answer; an event stream with stream: true")},
)
async def create_chat_completion(
    data: JSONBody[ChatRequest],
    request: Request[Any, Any, State],
    answerer: NamedDependency[Answerer],
    generator: NamedDependency[SkipValidation[Generator]],
    settings: NamedDependency[Settings],
) -> Response[ChatCompletion] | Response[None] | ServerSentEvent:
    """Answer a conversation in the mode that the model names, as OpenAI's chat completions do."""
    check_supported(data)
    model = parse_model_name(data.model)
    conversation = to_conversation(data.messages)
    sampling = to_sampling(data, settings.max_tokens)
    task = find_task((data.metadata or {}).get("task", ANSWER.name))
    prepared = await answerer.prepare(model, conversation, task=task)
    wire = Wire(prepared, generator.name, str(request.base_url))
    deltas = answerer.stream(prepared, sampling)
    if not data.stream:
        completion = await _unless_disconnected(request, wire.collect(deltas))
        return Response(None, status_code=CLIENT_CLOSED) if completion is None else Response(completion)
    started = await _unless_disconnected(request, _start(deltas))
    if started is None:
        return Response(None, status_code=CLIENT_CLOSED)
    include_usage = data.stream_options is not None and data.stream_options.include_usage
    return ServerSentEvent(wire.frames(started, include_usage=include_usage), headers={"cache-control": "no-store"})


@get("/v1/models", operation_id="ListModels", tags=["models"], sync_to_thread=True)
def list_models(
    answerer: NamedDependency[Answerer], generator: NamedDependency[SkipValidation[Generator]]
) -> ModelList:
    """List every mode of every domain; `bakeoff.ready` says whether it can answer now."""
    return ModelList([_model(state, answerer, generator) for state in answerer.list_models()])


@get("/v1/models/{model:path}", operation_id="RetrieveModel", tags=["models"], sync_to_thread=True)
def retrieve_model(
    model: FromPath[str], answerer: NamedDependency[Answerer], generator: NamedDependency[SkipValidation[Generator]]
) -> Model:
    """Describe one model, pinned to an adapter or not."""
    name = parse_model_name(model.removeprefix("/"))
    return _model(answerer.find_model(name), answerer, generator, name)


@get("/health/live", operation_id="Live", tags=["health"])
async def check_live() -> Health:
    """Whether the process answers."""
    return Health("ok")


@get("/health/ready", operation_id="Ready", tags=["health"], sync_to_thread=True)
def check_ready(answerer: NamedDependency[Answerer], state: State) -> Response[Health]:
    """Whether questions are answered: the engine runs and the database can be read."""
    answerer.list_models()
    if not state.is_ready:
        return Response(Health("starting"), status_code=HTTP_503_SERVICE_UNAVAILABLE)
    return Response(Health("ok"))


async def _start(deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    """Wait for the first delta, so that what goes wrong before it still has a status of its own."""
    first = await anext(deltas)

    async def resumed() -> AsyncGenerator[Delta, None]:
        try:
            yield first
            async for delta in deltas:
                yield delta
        finally:
            await deltas.aclose()

    return resumed()


async def _unless_disconnected(request: Request[Any, Any, State], work: Awaitable[T]) -> T | None:
    """Await the work, but cancel it and return None as soon as the client has gone."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_wait_until_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (leaving, working):
            task.cancel()
        await asyncio.gather(leaving, working, return_exceptions=True)


async def _wait_until_gone(request: Request[Any, Any, State]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _model(state: ModelState, answerer: Answerer, generator: Generator, name: ModelName | None = None) -> Model:
    domain, mode = state.domain, state.mode
    engine, _, base_model = generator.name.partition(":")
    facts = ModelFacts(
        domain=domain.name,
        mode=mode.name,
        ready=state.lack is None,
        reason=None if state.lack is None else str(state.lack),
        adapter=domain.adapter if mode.uses_adapter else None,
        epoch=domain.epoch,
        engine=engine,
        base_model=base_model,
        prompts_version=PROMPTS_VERSION,
        top_k=answerer.search_options.top_k if mode.uses_retrieval else None,
        retrieval=answerer.hash_retrieval(domain.name) if mode.uses_retrieval else None,
        num_shots=answerer.num_shots if mode.uses_shots else None,
        shots=state.shots,
        leaks=state.num_leaks,
    )
    return Model(str(name or ModelName(domain.name, mode)), int(domain.created_at.timestamp()), facts)
