"""Items: what a conversation of the Responses API is made of, in OpenAI's forms and in the shared language.

They are what is stored, listed and answered; `to_messages` turns them into turns. An item's id holds the id of the
response that it came with, so that a reference to it needs no index.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from bakeoff.errors import BadInput
from bakeoff.records import Message, Role, ToolCall
from service.openai.responses.compaction import unpack

_ID_DIGITS = 4

ItemStatus = Literal["in_progress", "completed", "incomplete"]
MessageRole = Literal["user", "assistant", "system", "developer"]


class FileCitation(Struct, frozen=True):
    """A document that a `[n]` of the text stands for."""

    file_id: str
    filename: str
    index: int
    """Where the `[n]` begins in the text, in characters."""
    type: Literal["file_citation"] = "file_citation"


class TopLogprob(Struct, frozen=True):
    """A token that could have stood there."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class Logprob(Struct, frozen=True):
    """A token of the text and how likely it was."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: tuple[TopLogprob, ...] = ()


class InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    """Text that the model was given."""

    text: str


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text that a model wrote."""

    text: str
    annotations: list[FileCitation] = []
    logprobs: list[Logprob] = []


class MessageItem(Struct, frozen=True, tag_field="type", tag="message"):
    """A message of either side."""

    id: str
    role: MessageRole
    content: list[InputText | OutputText]
    status: ItemStatus = "completed"

    @property
    def text(self) -> str:
        """All of its text."""
        return "\n".join(part.text for part in self.content)


class FunctionCall(Struct, frozen=True, tag_field="type", tag="function_call"):
    """A function that the model wants called."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus = "completed"


class FunctionCallOutput(Struct, frozen=True, tag_field="type", tag="function_call_output"):
    """What a function returned."""

    id: str
    call_id: str
    output: str
    status: ItemStatus = "completed"


class FileSearchResult(Struct, frozen=True):
    """A passage that was put before the model."""

    file_id: str
    filename: str
    score: float
    text: str
    attributes: dict[str, str | float | bool] = {}


class FileSearchCall(Struct, frozen=True, tag_field="type", tag="file_search_call"):
    """The search that went before the answer."""

    id: str
    queries: list[str]
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"] = "completed"
    results: list[FileSearchResult] | None = None


class Compaction(Struct, frozen=True, tag_field="type", tag="compaction"):
    """A summary that stands for the turns before it; see `compaction`."""

    id: str
    encrypted_content: str


Item = MessageItem | FunctionCall | FunctionCallOutput | FileSearchCall | Compaction
OutputItem = MessageItem | FunctionCall | FileSearchCall


class ItemReference(Struct, frozen=True):
    """An item of an earlier response, to be put in this place."""

    id: str


def to_messages(items: Sequence[Item]) -> list[Message]:
    """The turns of a conversation: calls join the assistant's turn before them, searches are not shown again.

    Raises:
        BadInput: the output of a call that is not in the conversation.
    """
    messages: list[Message] = []
    calls: set[str] = set()
    for item in items:
        if isinstance(item, MessageItem):
            text = item.text
            role: Role = "system" if item.role == "developer" else item.role
            if text.strip():
                messages.append(Message(role, text))
        elif isinstance(item, FunctionCall):
            calls.add(item.call_id)
            call = ToolCall(item.call_id, item.name, item.arguments)
            if messages and messages[-1].role == "assistant":
                last = messages.pop()
                messages.append(Message("assistant", last.content, (*last.tool_calls, call)))
            else:
                messages.append(Message("assistant", "", (call,)))
        elif isinstance(item, FunctionCallOutput):
            if item.call_id not in calls:
                raise BadInput(
                    f"there is no function_call with call_id {item.call_id!r} before its output", param="input"
                )
            messages.append(Message("tool", item.output, tool_call_id=item.call_id))
        elif isinstance(item, Compaction):
            messages += unpack(item.encrypted_content)
    return messages


def make_id(prefix: str, response_id: str, position: int) -> str:
    """Id of the item in this position of a response: its input first, then its output."""
    return f"{prefix}_{response_id.partition('_')[2]}{position:0{_ID_DIGITS}x}"


def response_of(item_id: str) -> str:
    """Id of the response that an item came with; for an id of another form, one that no response has."""
    return f"resp_{item_id.partition('_')[2][:-_ID_DIGITS]}"


_PREFIXES: dict[type[Item], str] = {
    MessageItem: "msg",
    FunctionCall: "fc",
    FunctionCallOutput: "fco",
    FileSearchCall: "fs",
    Compaction: "cmp",
}


def with_ids(items: Sequence[Item], response_id: str) -> list[Item]:
    """The items, those without an id given one."""
    return [
        item if item.id else msgspec.structs.replace(item, id=make_id(_PREFIXES[type(item)], response_id, position))
        for position, item in enumerate(items)
    ]
