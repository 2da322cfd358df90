"""The `input` of a request -> items: a string, a short message, or a whole item from an earlier answer.

Text is read, and the calls of functions; pictures, files and sound are refused by name, and so is a field that OpenAI
does not name.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bakeoff.errors import BadInput
from service.openai.responses.items import (
    Compaction,
    FileSearchCall,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    ItemReference,
    ItemStatus,
    MessageItem,
    MessageRole,
    OutputText,
)

MAX_ITEMS = 2_000
"""Of one request."""


class _Given(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every item may carry."""

    type: str = "message"
    id: str | None = None
    status: ItemStatus | None = None


class _GivenMessage(_Given, frozen=True, forbid_unknown_fields=True, kw_only=True):
    role: MessageRole
    content: str | list[dict[str, Any]]
    phase: str | None = None


class _GivenCall(_Given, frozen=True, forbid_unknown_fields=True, kw_only=True):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None
    caller: dict[str, Any] | None = None
    created_by: str | None = None


class _GivenOutput(_Given, frozen=True, forbid_unknown_fields=True, kw_only=True):
    call_id: str
    output: str | list[dict[str, Any]]
    name: str | None = None
    namespace: str | None = None
    caller: dict[str, Any] | None = None
    created_by: str | None = None


class _GivenSearch(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    queries: list[str]
    type: str
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"] = "completed"
    results: list[Any] | None = None


class _GivenCompaction(_Given, frozen=True, forbid_unknown_fields=True, kw_only=True):
    encrypted_content: str
    created_by: str | None = None


class _GivenReference(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    type: str | None = None


class _GivenText(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    type: str
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | UnsetType | None = UNSET
    prompt_cache_breakpoint: dict[str, Any] | None = None


class _GivenRefusal(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    type: str
    refusal: str


def read_input(given: str | list[dict[str, Any]] | None) -> list[Item | ItemReference]:
    """Read the `input` of a request; ids that the client leaves out are empty.

    Raises:
        BadInput: no input, too many items, or one that cannot be read; names its place.
    """
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not given:
        raise BadInput("input is empty: send a text or a list of items", param="input")
    if len(given) > MAX_ITEMS:
        raise BadInput(f"input has {len(given)} items; at most {MAX_ITEMS} are read", param="input")
    return [_read_item(item, f"input[{position}]") for position, item in enumerate(given)]


def _read_item(item: dict[str, Any], where: str) -> Item | ItemReference:
    kind = item.get("type", "message" if "role" in item else "item_reference")
    try:
        match kind:
            case "message":
                return _read_message(msgspec.convert(item, _GivenMessage), where)
            case "function_call":
                call = msgspec.convert(item, _GivenCall)
                return FunctionCall(call.id or "", call.call_id, call.name, call.arguments, call.status or "completed")
            case "function_call_output":
                output = msgspec.convert(item, _GivenOutput)
                text = "\n".join(_read_texts(output.output, f"{where}.output"))
                return FunctionCallOutput(output.id or "", output.call_id, text, output.status or "completed")
            case "file_search_call":
                search = msgspec.convert(item, _GivenSearch)
                return FileSearchCall(search.id, search.queries, search.status)
            case "compaction":
                compaction = msgspec.convert(item, _GivenCompaction)
                return Compaction(compaction.id or "", compaction.encrypted_content)
            case "item_reference" | None:
                return ItemReference(msgspec.convert(item, _GivenReference).id)
    except msgspec.ValidationError as error:
        raise BadInput(f"{where}: {error}", param="input") from error
    raise BadInput(
        f"{where}: items of type {kind!r} are not read here; send messages, function_call, function_call_output, "
        "item_reference, file_search_call or compaction",
        param="input",
    )


def _read_message(given: _GivenMessage, where: str) -> MessageItem:
    texts = _read_texts(given.content, f"{where}.content")
    if given.role != "assistant" and not any(text.strip() for text in texts):
        raise BadInput(f"{where} is an empty message", param="input")
    part = OutputText if given.role == "assistant" else InputText
    return MessageItem(given.id or "", given.role, [part(text) for text in texts], given.status or "completed")


def _read_texts(given: str | list[dict[str, Any]], where: str) -> list[str]:
    if isinstance(given, str):
        return [given]
    texts = []
    for position, part in enumerate(given):
        kind = part.get("type")
        if kind in ("input_text", "output_text", "text"):
            texts.append(msgspec.convert(part, _GivenText).text)
        elif kind == "refusal":
            texts.append(msgspec.convert(part, _GivenRefusal).refusal)
        else:
            raise BadInput(f"{where}[{position}]: parts of type {kind!r} are not read here; send text", param="input")
    return texts
