"""The tools of a chat completion's request: functions that the model may call, where the engine lets it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bakeoff.errors import BadInput


class FunctionTool(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function that may be called."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema."""
    strict: bool | None = None


class Tool(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool: a function, or of a kind that is refused."""

    type: str
    function: FunctionTool | None = None
    custom: Any = None


ToolChoice = str | dict[str, Any]


def read_tools(
    tools: list[Tool] | None, choice: ToolChoice | None
) -> tuple[tuple[dict[str, Any], ...], ToolChoice | None]:
    """The tools and the choice among them, in OpenAI's form; nothing where the model is to call none.

    Raises:
        BadInput: a tool that is no function, or a choice that is none of the tools.
    """
    for tool in tools or []:
        if tool.type != "function" or tool.function is None:
            raise BadInput(f"a tool of type {tool.type!r} is not supported; describe a function", param="tools")
    _check_choice(tools or [], choice)
    if not tools or choice == "none":
        return (), None
    asked = tuple({"type": "function", "function": msgspec.to_builtins(tool.function)} for tool in tools)
    return asked, choice


def _check_choice(tools: list[Tool], choice: ToolChoice | None) -> None:
    if choice is None or choice == "none" or (choice == "auto" and not tools):
        return
    if not tools:
        raise BadInput("tool_choice chooses among tools, and there are none", param="tool_choice")
    if isinstance(choice, str):
        if choice not in ("auto", "required"):
            raise BadInput(
                f"tool_choice {choice[:40]!r} is none of none, auto, required and a function", param="tool_choice"
            )
        return
    named: Any = choice.get("function")
    name = named.get("name") if isinstance(named, dict) else None
    if choice.get("type") != "function" or name not in [tool.function.name for tool in tools if tool.function]:
        raise BadInput(f"tool_choice names {name!r}, which is no function among the tools", param="tool_choice")
