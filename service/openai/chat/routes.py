"""`POST /v1/chat/completions`."""

from typing import Any

import anyio.to_thread
from litestar import Request, Response, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, SkipValidation
from litestar.status_codes import HTTP_200_OK

from bakeoff.settings import Settings
from bakeoff.tasks import ANSWER, find_task
from service.callers import caller_in
from service.exchange import Asked, Exchange
from service.facts import CLIENT_CLOSED
from service.openai.aliases import find_model_name
from service.openai.chat.answers import ChatCompletion
from service.openai.chat.messages import to_conversation, uses_tools
from service.openai.chat.schemas import ChatRequest, to_sampling
from service.openai.chat.wire import Wire
from service.openai.desk import Desk
from service.openai.stream import EventStream, open_stream, tell_failure, unless_disconnected
from service.openai.unsupported import refuse


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
    desk: NamedDependency[SkipValidation[Desk]],
) -> Response[ChatCompletion] | Response[None] | EventStream:
    """Answer a conversation in the mode that the model names, as OpenAI's chat completions do."""
    settings, supports = desk.settings, desk.generator.supports
    sampling = to_sampling(data, supports, request, settings.max_tokens)
    conversation = tuple(to_conversation(data.messages))
    if uses_tools(conversation) and "tools" not in supports:
        refuse(request, ["messages"], "with calls of tools by this engine; send text")
    asked = Asked(
        route="chat.completions",
        prefix="chatcmpl-",
        model=find_model_name(data.model, settings),
        conversation=conversation,
        sampling=sampling,
        task=find_task((data.metadata or {}).get("task", ANSWER.name)),
        is_streamed=bool(data.stream),
        num_choices=data.n or 1,
        caller=caller_in(request),
        user=data.user or data.safety_identifier or "",
        metadata=data.metadata or {},
    )
    exchange = await desk.exchanges.begin(asked)

    async def keep(completion: ChatCompletion) -> None:
        await anyio.to_thread.run_sync(desk.stored_completions.keep, exchange, data.messages, completion)

    wire = Wire(exchange, str(request.base_url), keep if data.store else None)
    if data.stream:
        return await _stream(request, exchange, wire, data, settings)
    completion = await unless_disconnected(request, wire.collect(exchange.choices()))
    return Response(None, status_code=CLIENT_CLOSED) if completion is None else Response(completion)


async def _stream(
    request: Request[Any, Any, State], exchange: Exchange, wire: Wire, data: ChatRequest, settings: Settings
) -> EventStream | Response[None]:
    include_usage = data.stream_options is not None and bool(data.stream_options.include_usage)
    frames = wire.frames(exchange.choices(), include_usage=include_usage)
    stream = await open_stream(request, frames, tell_failure, settings.keepalive_s)
    return Response(None, status_code=CLIENT_CLOSED) if stream is None else stream
