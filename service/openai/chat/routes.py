"""`/v1/chat/completions`."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from litestar import Request, Response, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody
from litestar.response import ServerSentEvent
from litestar.status_codes import HTTP_200_OK

from bakeoff.modes import parse_model_name
from bakeoff.settings import Settings
from bakeoff.tasks import ANSWER, find_task
from service.callers import Caller
from service.exchange import Asked, Choices, Exchanges
from service.openai.chat.schemas import ChatCompletion, ChatRequest, check_supported, to_conversation, to_sampling
from service.openai.chat.wire import Wire

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
    exchanges: NamedDependency[Exchanges],
    caller: NamedDependency[Caller],
    settings: NamedDependency[Settings],
) -> Response[ChatCompletion] | Response[None] | ServerSentEvent:
    """Answer a conversation in the mode that the model names, as OpenAI's chat completions do."""
    check_supported(data)
    asked = Asked(
        route="chat.completions",
        prefix="chatcmpl-",
        model=parse_model_name(data.model),
        conversation=tuple(to_conversation(data.messages)),
        sampling=to_sampling(data, settings.max_tokens),
        task=find_task((data.metadata or {}).get("task", ANSWER.name)),
        caller=caller,
        user=data.user or "",
        metadata=data.metadata or {},
    )
    exchange = await exchanges.begin(asked)
    wire = Wire(exchange, str(request.base_url))
    if not data.stream:
        completion = await _unless_disconnected(request, wire.collect(exchange.choices()))
        return Response(None, status_code=CLIENT_CLOSED) if completion is None else Response(completion)
    started = await _unless_disconnected(request, _start(exchange.choices()))
    if started is None:
        return Response(None, status_code=CLIENT_CLOSED)
    include_usage = data.stream_options is not None and data.stream_options.include_usage
    return ServerSentEvent(wire.frames(started, include_usage=include_usage), headers={"cache-control": "no-store"})


async def _start(choices: Choices) -> Choices:
    """Wait for the first delta, so that what goes wrong before it still has a status of its own."""
    first = await anext(choices)

    async def resumed() -> Choices:
        try:
            yield first
            async for piece in choices:
                yield piece
        finally:
            await choices.aclose()

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
