"""`/v1/responses`: ask, and read again, go on from or delete what was answered."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

import anyio.to_thread
import msgspec
from litestar import Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from bakeoff.errors import BadInput, ContextTooLong, NotFound
from bakeoff.settings import Settings
from service.callers import Caller
from service.exchange import Exchanges
from service.facts import CLIENT_CLOSED
from service.failures import ErrorDetail, describe
from service.openai.pages import Order, Page, page
from service.openai.responses.answering import Writing
from service.openai.responses.ask import Reader, provide_reader
from service.openai.responses.draft import Draft
from service.openai.responses.frames import FrameWriter
from service.openai.responses.items import FileCitation, FileSearchCall, Item, MessageItem, OutputText
from service.openai.responses.prompt_routes import prompt_routes
from service.openai.responses.schemas import (
    INCLUDE_RESULTS,
    DeletedResponse,
    Include,
    ResponseObject,
    ResponseRequest,
)
from service.openai.responses.sources import without_results
from service.openai.responses.store import ResponseStore, StoredResponse
from service.openai.stream import EventStream, open_stream, unless_disconnected
from service.openai.unsupported import is_lenient, refuse


class Missing(ErrorDetail, frozen=True, kw_only=True):
    """What is said of a response that is not there: an error as everywhere, and beside it its fields once more.

    OpenAI's description of these routes has them there, its clients look for `error`.
    """

    error: ErrorDetail


def tell_missing(_: Request[Any, Any, Any], failure: NotFound) -> Response[Missing]:
    """Answer 404."""
    status, body = describe(failure)
    return Response(Missing(**msgspec.structs.asdict(body.error), error=body.error), status_code=status)


Included = FromQuery[list[Include] | None]
IncludedInBrackets = Annotated[list[Include] | None, QueryParameter(name="include[]")]
"""As the `openai` package writes lists."""


@post(
    "/v1/responses",
    status_code=HTTP_200_OK,
    operation_id="CreateResponse",
    tags=["responses"],
    dependencies={"reader": Provide(provide_reader)},
    responses={HTTP_200_OK: ResponseSpec(ResponseObject, description="The answer; an event stream with stream: true")},
)
async def create_response(
    data: JSONBody[ResponseRequest],
    request: Request[Any, Any, State],
    reader: NamedDependency[Reader],
    exchanges: NamedDependency[Exchanges],
    responses: NamedDependency[ResponseStore],
    settings: NamedDependency[Settings],
) -> Response[ResponseObject] | Response[None] | EventStream:
    """Answer a text or a conversation in the mode that the model names, and remember it unless `store` is false."""
    question = await reader.read(request, data)
    exchange = await exchanges.begin(question.asked)
    writing = await anyio.to_thread.run_sync(Writing, question, exchange, responses)
    try:
        if data.stream:
            stream = await open_stream(request, writing.frames(), writing.tell_failure, settings.keepalive_s)
            return Response(None, status_code=CLIENT_CLOSED) if stream is None else stream
        response = await unless_disconnected(request, writing.collect())
    except ContextTooLong as error:
        raise ContextTooLong(str(error), param="input") from error
    return Response(None, status_code=CLIENT_CLOSED) if response is None else Response(response)


@get(
    "/v1/responses/{response_id:str}",
    operation_id="GetResponse",
    tags=["responses"],
    responses={HTTP_200_OK: ResponseSpec(ResponseObject, description="The answer; an event stream with stream=true")},
)
async def get_response(
    response_id: FromPath[str],
    request: Request[Any, Any, State],
    responses: NamedDependency[ResponseStore],
    settings: NamedDependency[Settings],
    caller: NamedDependency[Caller],
    include: Included = None,
    include_in_brackets: IncludedInBrackets = None,
    stream: FromQuery[bool | None] = None,
    starting_after: FromQuery[int | None] = None,
    include_obfuscation: FromQuery[bool | None] = None,
) -> Response[ResponseObject] | Response[None] | EventStream:
    """Read a response again, or its whole stream, event by event as it came."""
    stored = await anyio.to_thread.run_sync(responses.find, response_id, caller)
    if INCLUDE_RESULTS not in [*(include or []), *(include_in_brackets or [])]:
        stored = _hide_results(stored)
    if not stream:
        return Response(stored.response)
    writer = FrameWriter(obfuscates=bool(include_obfuscation), starting_after=starting_after)
    replay = await open_stream(request, _replay(stored, writer), lambda _: b"", settings.keepalive_s)
    return Response(None, status_code=CLIENT_CLOSED) if replay is None else replay


@delete(
    "/v1/responses/{response_id:str}",
    status_code=HTTP_200_OK,
    operation_id="DeleteResponse",
    tags=["responses"],
    sync_to_thread=True,
    exception_handlers={NotFound: tell_missing},
)
def delete_response(
    response_id: FromPath[str], responses: NamedDependency[ResponseStore], caller: NamedDependency[Caller]
) -> DeletedResponse:
    """Delete a response for good: nothing can go on from it."""
    responses.delete(response_id, caller)
    return DeletedResponse(response_id)


@post(
    "/v1/responses/{response_id:str}/cancel",
    status_code=HTTP_200_OK,
    operation_id="CancelResponse",
    tags=["responses"],
    sync_to_thread=True,
    exception_handlers={NotFound: tell_missing},
)
def cancel_response(
    response_id: FromPath[str],
    request: Request[Any, Any, State],
    responses: NamedDependency[ResponseStore],
    caller: NamedDependency[Caller],
) -> ResponseObject:
    """Cancel a background response. There are none here: a client stops an answer by closing its connection."""
    stored = responses.find(response_id, caller)
    if not is_lenient(request):
        raise BadInput(
            f"response {response_id!r} was not made in the background, so it cannot be cancelled; close the "
            "connection to stop an answer",
            param="response_id",
        )
    refuse(request, ["cancel"])
    return _hide_results(stored).response


@get(
    "/v1/responses/{response_id:str}/input_items",
    operation_id="ListInputItems",
    tags=["responses"],
    sync_to_thread=True,
)
def list_input_items(
    response_id: FromPath[str],
    request: Request[Any, Any, State],
    responses: NamedDependency[ResponseStore],
    caller: NamedDependency[Caller],
    after: FromQuery[str | None] = None,
    before: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[Order | None] = None,
    include: Included = None,
    include_in_brackets: IncludedInBrackets = None,
) -> Page[Item]:
    """List everything that a response was given, the turns that it goes on from included; newest first."""
    items = responses.history(responses.find(response_id, caller), caller)
    if INCLUDE_RESULTS not in [*(include or []), *(include_in_brackets or [])]:
        items = [without_results(item) if isinstance(item, FileSearchCall) else item for item in items]
    return page(items, after, before, limit, order or "desc", lenient=is_lenient(request))


def _hide_results(stored: StoredResponse) -> StoredResponse:
    output = [without_results(item) if isinstance(item, FileSearchCall) else item for item in stored.response.output]
    return msgspec.structs.replace(stored, response=msgspec.structs.replace(stored.response, output=output))


async def _replay(stored: StoredResponse, writer: FrameWriter) -> AsyncGenerator[bytes, None]:
    """The frames of a stored response."""
    response = stored.response
    known: dict[str, list[FileCitation]] = {
        part.text: part.annotations
        for item in response.output
        if isinstance(item, MessageItem)
        for part in item.content
        if isinstance(part, OutputText)
    }
    search = next((item for item in response.output if isinstance(item, FileSearchCall)), None)
    begun = msgspec.structs.replace(
        response,
        status="in_progress",
        output=[],
        completed_at=None,
        incomplete_details=None,
        error=None,
        usage=msgspec.UNSET,
    )
    draft = Draft(begun, len(stored.items), lambda text: known.get(text, []), search)
    yield writer.write(draft.replay(response, stored.pieces))


response_routes = [
    create_response,
    get_response,
    delete_response,
    cancel_response,
    list_input_items,
    *prompt_routes,
]
