"""`/v1/responses/input_tokens` and `/v1/responses/compact`: what looks at a conversation without going on with it."""

from contextlib import aclosing
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody, SkipValidation
from litestar.status_codes import HTTP_200_OK

from bakeoff.modes import ModelName, find_mode
from bakeoff.records import Delta, Message, Sampling
from bakeoff.settings import Settings
from bakeoff.tasks import find_task
from service.answer import Answerer
from service.callers import Caller
from service.exchange import Asked, Exchange, Exchanges
from service.facts import CLIENT_CLOSED
from service.generator import Generator
from service.openai.responses.ask import Reader, provide_reader
from service.openai.responses.compaction import pack, transcribe
from service.openai.responses.draft import count_usage
from service.openai.responses.items import Compaction, make_id
from service.openai.responses.schemas import CompactedResponse, CompactRequest, TokenCount, TokenCountRequest
from service.openai.responses.support import asks_to_reason, refuse_tools
from service.openai.responses.tools import read_tools
from service.openai.stream import unless_disconnected
from service.openai.unsupported import refuse


@post(
    "/v1/responses/input_tokens",
    status_code=HTTP_200_OK,
    operation_id="CountInputTokens",
    tags=["responses"],
    dependencies={"reader": Provide(provide_reader)},
)
async def count_input_tokens(
    data: JSONBody[TokenCountRequest],
    request: Request[Any, Any, State],
    reader: NamedDependency[Reader],
    answerer: NamedDependency[Answerer],
    generator: NamedDependency[SkipValidation[Generator]],
    caller: NamedDependency[Caller],
) -> Response[TokenCount] | Response[None]:
    """Count the tokens of a request's prompt as the engine would see it, what its mode puts before it included.

    The engine itself counts, by writing one token.
    """
    toolbox = read_tools(data.tools, data.tool_choice)
    asked = {
        "conversation": data.conversation is not None,
        "personality": data.personality is not None,
        "truncation": data.truncation == "auto",
        "reasoning": asks_to_reason(data.reasoning),
    }
    refuse(request, [name for name, is_asked in asked.items() if is_asked], "here; leave it out")
    refuse_tools(request, toolbox)
    tools = toolbox.for_engine()
    if tools and "tools" not in generator.supports:
        refuse(request, ["tools"])
        tools = ()
    model = await reader.find_model(request, data.model)
    _, conversation, _ = await reader.read_conversation(request, data)
    prepared = await answerer.prepare(model, conversation, caller.groups)
    prepared = msgspec.structs.replace(prepared, abstention=None)
    sampling = Sampling(max_tokens=1, tools=tools, tool_choice=toolbox.choice_for_engine() if tools else None)

    async def count() -> TokenCount:
        num_tokens = 0
        async with aclosing(answerer.stream(prepared, sampling)) as deltas:
            async for delta in deltas:
                num_tokens = delta.prompt_tokens or num_tokens
        return TokenCount(num_tokens)

    counted = await unless_disconnected(request, count())
    return Response(None, status_code=CLIENT_CLOSED) if counted is None else Response(counted)


@post(
    "/v1/responses/compact",
    status_code=HTTP_200_OK,
    operation_id="CompactConversation",
    tags=["responses"],
    dependencies={"reader": Provide(provide_reader)},
)
async def compact_conversation(
    data: JSONBody[CompactRequest],
    request: Request[Any, Any, State],
    reader: NamedDependency[Reader],
    exchanges: NamedDependency[Exchanges],
    settings: NamedDependency[Settings],
    caller: NamedDependency[Caller],
) -> Response[CompactedResponse] | Response[None]:
    """Make one item of a long conversation: the user's messages as they are, the answers summarised by the model."""
    refuse(request, ["image"] if data.image is not None else [], "here; leave it out")
    model = await reader.find_model(request, data.model)
    _, conversation, _ = await reader.read_conversation(request, data)
    turns = list(conversation)
    exchange = await exchanges.begin(
        Asked(
            route="responses",
            prefix="resp_",
            model=ModelName(model.domain, find_mode("base")),
            conversation=(Message("user", transcribe(turns)),),
            sampling=Sampling(max_tokens=settings.max_tokens),
            task=find_task("summarisation"),
            caller=caller,
        )
    )
    compacted = await unless_disconnected(request, _compact(exchange, turns))
    return Response(None, status_code=CLIENT_CLOSED) if compacted is None else Response(compacted)


async def _compact(exchange: Exchange, turns: list[Message]) -> CompactedResponse:
    summary, last = "", Delta("")
    async with aclosing(exchange.choices()) as choices:
        async for _, last in choices:
            summary += last.text
    item = Compaction(make_id("cmp", exchange.id, 0), pack(turns, summary.strip()))
    return CompactedResponse(exchange.id, exchange.created, [item], count_usage(last))


prompt_routes = [count_input_tokens, compact_conversation]
