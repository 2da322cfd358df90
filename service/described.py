"""What the service's own OpenAPI document says of every route alike: how it may fail, and that answers may be streams.

Any request can be refused before it reaches its handler (key, limits, size) or fail behind it (database, engine), so
the errors stand here once and not with each handler.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Schema
from litestar.response import ServerSentEvent
from litestar.status_codes import HTTP_200_OK
from msgspec import Struct

from service.failures import ErrorBody
from service.openai.stream import EventStream

API = "/v1/"
ERRORS = {
    400: "The request cannot be answered as it is; `param` names the part",
    401: "A key is missing, or not valid",
    403: "The key does not allow this",
    404: "There is no such thing, or it belongs to another key",
    408: "The body did not come in time",
    409: "The model cannot answer yet; the message says what to do",
    413: "The body is too large",
    429: "Too many requests; Retry-After says when to come again",
    500: "An unexpected error; the service's log has it",
    503: "The engine or the database does not answer; Retry-After says when to come again",
    504: "The answer took too long",
    507: "The disk is full",
}


class Event(Struct, frozen=True):
    """One event of a stream."""

    data: str
    """JSON; `[DONE]` at the end of completions."""
    event: str = ""
    id: str = ""


_EVENTS = ResponseSpec(Event, media_type="text/event-stream", generate_examples=False, description="Events")
_SPECS = {status: ResponseSpec(ErrorBody, generate_examples=False, description=text) for status, text in ERRORS.items()}


@dataclass
class StreamOperation(Operation):
    """Describes a route that answers with a stream of events where it is asked to."""

    def __post_init__(self) -> None:
        """Add the stream to the answer."""
        answer: Any = (self.responses or {}).get("200")
        if answer is not None:
            text = Schema(type=OpenAPIType.STRING)
            event = Schema(type=OpenAPIType.OBJECT, required=["data"], properties={"data": text, "event": text})
            answer.content["text/event-stream"] = OpenAPIMediaType(schema=event)


def describe_routes(handlers: Sequence[Any]) -> Sequence[Any]:
    """The same routes, with what every one of the API may answer beside its own answer."""
    for handler in handlers:
        if isinstance(handler, HTTPRouteHandler) and any(path.startswith(API) for path in handler.paths):
            handler.responses = {**_SPECS, **(handler.responses or {})}
            answer = handler.fn.__annotations__["return"]
            if EventStream in get_args(answer):
                handler.operation_class = StreamOperation
            elif answer is ServerSentEvent:
                handler.responses[HTTP_200_OK] = _EVENTS
    return handlers
