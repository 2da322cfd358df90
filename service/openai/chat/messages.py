"""The messages of a chat completion's request: text, and the calls of tools with what they gave."""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from bakeoff.errors import BadInput
from bakeoff.records import Message, ToolCall


class ContentPart(Struct, frozen=True, forbid_unknown_fields=True):
    """One part of a message's content; text and refusals are read, all others are refused by their type."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    prompt_cache_breakpoint: Any = None


class FunctionCall(Struct, frozen=True, forbid_unknown_fields=True):
    """Which function is called, and with what."""

    name: str
    arguments: str
    """JSON, as the model wrote it."""


class MessageToolCall(Struct, frozen=True, forbid_unknown_fields=True):
    """A call in an assistant's message."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ChatMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """A message of the conversation. An assistant's message may come back as it was sent, citations included."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    """Accepted; models are not shown it."""
    refusal: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None
    annotations: list[Any] | None = None
    audio: dict[str, Any] | None = None
    function_call: dict[str, Any] | None = None


def to_conversation(messages: Sequence[ChatMessage]) -> list[Message]:
    """The request's messages in the shared language.

    Raises:
        BadInput: a content part that is not text, a message without text, or a tool's without the call it answers.
    """
    return [_to_message(position, message) for position, message in enumerate(messages)]


def uses_tools(conversation: Sequence[Message]) -> bool:
    """Whether a tool was called in it."""
    return any(message.role == "tool" or message.tool_calls for message in conversation)


def _to_message(position: int, message: ChatMessage) -> Message:
    place = f"messages[{position}]"
    if message.audio is not None or message.function_call is not None:
        field = "audio" if message.audio is not None else "function_call"
        raise BadInput(f"{place}.{field} is not read here; send text and tool_calls", param="messages")
    if message.tool_calls and message.role != "assistant":
        raise BadInput(f"{place}: only an assistant's message has tool_calls", param="messages")
    if (message.role == "tool") != (message.tool_call_id is not None):
        raise BadInput(f"{place}: tool_call_id belongs to messages of the role tool, and to each", param="messages")
    content = _read_text(place, message)
    if not content.strip() and message.role not in ("assistant", "tool"):
        raise BadInput(f"{place} is empty", param="messages")
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or [])
    role = "system" if message.role == "developer" else message.role
    return Message(role, content, calls, message.tool_call_id or "")


def _read_text(place: str, message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None:
        if message.role != "assistant":
            raise BadInput(f"{place} has no content", param="messages")
        return message.refusal or ""
    for part in message.content:
        if part.type not in ("text", "refusal"):
            raise BadInput(f"{place}: content of type {part.type!r} is not read here; send text", param="messages")
    return "\n".join(part.text if part.type == "text" else part.refusal for part in message.content)
