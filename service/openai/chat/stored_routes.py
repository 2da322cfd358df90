"""Routes of stored chat completions: list, retrieve, change the metadata, delete, and the messages they answer."""

from typing import Any, Literal

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET, Struct, UnsetType

from bakeoff.settings import Settings
from service.callers import Caller
from service.openai.aliases import read_aliases
from service.openai.chat.answers import ChatCompletion
from service.openai.chat.messages import ChatMessage, MessageToolCall
from service.openai.chat.stored import StoredCompletions
from service.openai.pages import Order, Page, page
from service.openai.sampling import Metadata
from service.openai.unsupported import is_lenient

PATH = "/v1/chat/completions"


class MetadataChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/chat/completions/{completion_id}`."""

    metadata: Metadata | None


class DeletedCompletion(Struct, frozen=True):
    """Answer of `DELETE /v1/chat/completions/{completion_id}`."""

    id: str
    deleted: bool = True
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"


class StoredPart(Struct, frozen=True):
    """One part of a message's content."""

    text: str
    type: Literal["text"] = "text"


class StoredMessage(Struct, frozen=True):
    """A message that a stored completion answers."""

    id: str
    role: str
    content: str | None
    content_parts: list[StoredPart] | None
    refusal: str | None
    name: str | UnsetType = UNSET
    tool_calls: list[MessageToolCall] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET


@get(PATH, operation_id="ListChatCompletions", tags=["chat"], sync_to_thread=True)
def list_chat_completions(
    request: Request[Any, Any, State],
    stored_completions: NamedDependency[StoredCompletions],
    caller: NamedDependency[Caller],
    settings: NamedDependency[Settings],
    model: FromQuery[str | None] = None,
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[Order] = "asc",
) -> Page[ChatCompletion]:
    """List the stored completions; `metadata[KEY]=VALUE` in the query keeps those with that pair."""
    if model is not None:
        model = read_aliases(settings).get(model, model)
    heads = stored_completions.list_heads(caller, model, _wanted_metadata(request))
    cut = page(heads, after, None, limit, order, lenient=is_lenient(request))
    bodies = stored_completions.read(caller, [head.id for head in cut.data])
    completions = [_completion(body) for body in bodies]
    return Page(data=completions, first_id=cut.first_id, last_id=cut.last_id, has_more=cut.has_more)


@get(PATH + "/{completion_id:str}", operation_id="GetChatCompletion", tags=["chat"], sync_to_thread=True)
def retrieve_chat_completion(
    completion_id: FromPath[str],
    stored_completions: NamedDependency[StoredCompletions],
    caller: NamedDependency[Caller],
) -> ChatCompletion:
    """Retrieve a stored completion."""
    return _completion(stored_completions.read(caller, [completion_id])[0])


@post(
    PATH + "/{completion_id:str}",
    status_code=HTTP_200_OK,
    operation_id="UpdateChatCompletion",
    tags=["chat"],
    sync_to_thread=True,
)
def update_chat_completion(
    completion_id: FromPath[str],
    data: JSONBody[MetadataChange],
    stored_completions: NamedDependency[StoredCompletions],
    caller: NamedDependency[Caller],
) -> ChatCompletion:
    """Replace a stored completion's metadata."""
    stored_completions.change(caller, completion_id, data.metadata or {})
    return _completion(stored_completions.read(caller, [completion_id])[0])


@delete(
    PATH + "/{completion_id:str}",
    status_code=HTTP_200_OK,
    operation_id="DeleteChatCompletion",
    tags=["chat"],
    sync_to_thread=True,
)
def delete_chat_completion(
    completion_id: FromPath[str],
    stored_completions: NamedDependency[StoredCompletions],
    caller: NamedDependency[Caller],
) -> DeletedCompletion:
    """Delete a stored completion. What the service keeps of every answer for itself stays."""
    stored_completions.delete(caller, completion_id)
    return DeletedCompletion(completion_id)


@get(
    PATH + "/{completion_id:str}/messages", operation_id="GetChatCompletionMessages", tags=["chat"], sync_to_thread=True
)
def list_chat_completion_messages(
    request: Request[Any, Any, State],
    completion_id: FromPath[str],
    stored_completions: NamedDependency[StoredCompletions],
    caller: NamedDependency[Caller],
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[Order] = "asc",
) -> Page[StoredMessage]:
    """List the messages that a stored completion answers."""
    messages = stored_completions.read_messages(caller, completion_id)
    shown = [_message(f"{completion_id}-{position}", message) for position, message in enumerate(messages)]
    return page(shown, after, None, limit, order, lenient=is_lenient(request))


def _completion(body: dict[str, Any]) -> ChatCompletion:
    return msgspec.convert(body, ChatCompletion)


def _message(id_: str, message: ChatMessage) -> StoredMessage:
    parts = message.content if isinstance(message.content, list) else None
    return StoredMessage(
        id=id_,
        role=message.role,
        content=message.content if isinstance(message.content, str) else None,
        content_parts=None if parts is None else [StoredPart(part.text or part.refusal) for part in parts],
        refusal=message.refusal,
        name=message.name or UNSET,
        tool_calls=message.tool_calls or UNSET,
        tool_call_id=message.tool_call_id or UNSET,
    )


def _wanted_metadata(request: Request[Any, Any, State]) -> dict[str, str]:
    return {
        key.removeprefix("metadata[").removesuffix("]"): value
        for key, value in request.query_params.multi_items()
        if key.startswith("metadata[") and key.endswith("]")
    }


stored_chat_routes = [
    list_chat_completions,
    retrieve_chat_completion,
    update_chat_completion,
    delete_chat_completion,
    list_chat_completion_messages,
]
