"""The tools of a request: functions go to the engine in its own form, file search narrows what the mode searches.

A model of mode `rag` or `hybrid` searches its domain for every question; file search makes that visible as an item, and
may narrow it to fewer passages or to some files. It cannot search another domain: the model name decides that.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from bakeoff.errors import BadInput
from service.openai.vector_stores.filters import Filter

MAX_STORES = 10


class FunctionTool(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A function that the model may call."""

    type: Literal["function"] = "function"
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    output_schema: dict[str, Any] | None = None
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")


class RankingOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How file search ranks."""

    ranker: Literal["auto", "default-2024-11-15"] | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    hybrid_search: dict[str, Any] | None = None


class FileSearchTool(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A search in vector stores before the answer."""

    type: Literal["file_search"] = "file_search"
    vector_store_ids: Annotated[list[str], Meta(min_length=1, max_length=MAX_STORES)]
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    filters: Filter | None = None


class Toolbox(Struct, frozen=True):
    """What a request lets the model do."""

    functions: tuple[FunctionTool, ...] = ()
    search: FileSearchTool | None = None
    others: tuple[str, ...] = ()
    """Types of tools that there are not here."""
    choice: str | dict[str, Any] = "auto"
    """As the client sent it."""

    @property
    def unsupported(self) -> list[str]:
        """Names of the parts that cannot be heeded whatever the engine."""
        names = [f"tools of type {kind}" for kind in self.others]
        for tool in self.functions:
            names += ["tools.async"] * bool(tool.is_async) + ["tools.defer_loading"] * bool(tool.defer_loading)
            names += ["tools.allowed_callers"] * (tool.allowed_callers not in (None, [], ["direct"]))
        if self.search is not None and self.search.ranking_options is not None:
            names += ["tools.ranking_options.hybrid_search"] * (self.search.ranking_options.hybrid_search is not None)
        return list(dict.fromkeys(names))

    def for_engine(self) -> tuple[dict[str, Any], ...]:
        """The functions that the choice leaves, in the form that engines take."""
        if self.choice == "none":
            return ()
        names = _allowed_names(self.choice)
        return tuple(
            {
                "type": "function",
                "function": {
                    name: value
                    for name, value in (
                        ("name", tool.name),
                        ("description", tool.description),
                        ("parameters", tool.parameters or {"type": "object", "properties": {}}),
                        ("strict", tool.strict),
                    )
                    if value is not None
                },
            }
            for tool in self.functions
            if names is None or tool.name in names
        )

    def choice_for_engine(self) -> str | dict[str, Any] | None:
        """The choice in the form that engines take; None where there is nothing to choose."""
        if not self.for_engine():
            return None
        if isinstance(self.choice, str):
            return self.choice
        if self.choice["type"] == "function":
            return {"type": "function", "function": {"name": self.choice["name"]}}
        return str(self.choice.get("mode", "auto"))

    def describe(self) -> list[dict[str, Any]]:
        """The tools as a response names them, defaults spelt out."""
        described: list[dict[str, Any]] = []
        for function in self.functions:
            fields = msgspec.to_builtins(function)
            optional = ("name", "type", "parameters", "strict", "description")
            described.append({key: value for key, value in fields.items() if key in optional or value is not None})
        if self.search is not None:
            described.append(
                {key: value for key, value in msgspec.to_builtins(self.search).items() if value is not None}
            )
        return described


def read_tools(given: list[dict[str, Any]] | None, choice: str | dict[str, Any] | None) -> Toolbox:
    """Read `tools` and `tool_choice`.

    Raises:
        BadInput: a tool or a choice that cannot be read, by its place.
    """
    functions: list[FunctionTool] = []
    search: FileSearchTool | None = None
    others: list[str] = []
    for position, tool in enumerate(given or []):
        try:
            match tool.get("type"):
                case "function":
                    functions.append(msgspec.convert(tool, FunctionTool))
                case "file_search":
                    if search is not None:
                        raise BadInput("tools holds file_search twice; name all stores in one", param="tools")
                    search = msgspec.convert(tool, FileSearchTool)
                case str() as kind:
                    others.append(kind)
                case _:
                    raise BadInput(f"tools[{position}] has no type; give function or file_search", param="tools")
        except msgspec.ValidationError as error:
            raise BadInput(f"tools[{position}]: {error}", param="tools") from error
    toolbox = Toolbox(tuple(functions), search, tuple(others), "auto" if choice is None else choice)
    _check_choice(toolbox)
    return toolbox


def _check_choice(toolbox: Toolbox) -> None:
    choice = toolbox.choice
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise BadInput(f"tool_choice {choice!r} is not known; use none, auto or required", param="tool_choice")
        if choice == "required" and not (toolbox.functions or toolbox.search or toolbox.others):
            raise BadInput("tool_choice is required, but there are no tools", param="tool_choice")
        return
    kind = choice.get("type")
    if kind == "function":
        named = {choice.get("name")} if isinstance(choice.get("name"), str) else {None}
    elif kind == "allowed_tools" and isinstance(choice.get("tools"), list):
        if choice.get("mode") not in ("auto", "required"):
            raise BadInput("tool_choice.mode has to be auto or required", param="tool_choice")
        named = _allowed_names(choice) or set()
    elif kind == "file_search" and toolbox.search is not None:
        named = set()
    else:
        raise BadInput(f"tool_choice of type {kind!r} names no tool of this request", param="tool_choice")
    for name in sorted(named - {tool.name for tool in toolbox.functions}, key=str):
        raise BadInput(f"tool_choice names the function {name!r}, which tools does not hold", param="tool_choice")


def _allowed_names(choice: str | dict[str, Any]) -> set[Any] | None:
    """Functions that the choice leaves; None for all."""
    if isinstance(choice, str) or choice["type"] == "function":
        return None
    if choice["type"] == "file_search":
        return set()
    tools = [tool for tool in choice["tools"] if isinstance(tool, dict)]
    return {str(tool.get("name")) for tool in tools if tool.get("type") == "function"}
