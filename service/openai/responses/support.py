"""A request -> how the engine is asked; what cannot be heeded is refused by name, never ignored in silence."""

from typing import Any

from litestar import Request

from bakeoff.errors import BadInput
from bakeoff.records import Sampling
from service.generator import Generator
from service.openai.responses.schemas import INCLUDE_LOGPROBS, ResponseRequest, TextConfig
from service.openai.responses.tools import Toolbox
from service.openai.unsupported import refuse

PLAIN_TEXT = {"type": "text"}
_REASONING = {
    "effort": ("none", None),
    "summary": ("auto", None),
    "generate_summary": ("auto", None),
    "context": ("auto", None),
    "mode": ("standard", None),
}
"""What a request may say of reasoning without asking for any."""


def check_supported(request: Request[Any, Any, Any], data: ResponseRequest, toolbox: Toolbox) -> None:
    """Refuse what neither the product nor any engine can do.

    Raises:
        BadInput: names the parameter.
    """
    asked = {
        "conversation": data.conversation is not None,
        "background": bool(data.background),
        "background_options": data.background_options is not None,
        "context_management": bool(data.context_management),
        "prompt": data.prompt is not None,
        "moderation": data.moderation is not None,
        "image": data.image is not None,
        "access_programs": data.access_programs is not None,
        "reasoning": asks_to_reason(data.reasoning),
        "truncation": data.truncation == "auto",
        "service_tier": data.service_tier not in (None, "auto", "default"),
        "max_tool_calls": data.max_tool_calls is not None and data.max_tool_calls < (toolbox.search is not None),
        "text.verbosity": data.text is not None and data.text.verbosity not in (None, "medium"),
    }
    refuse(request, [name for name, is_asked in asked.items() if is_asked], "here; leave it out")
    refuse_tools(request, toolbox)


def refuse_tools(request: Request[Any, Any, Any], toolbox: Toolbox) -> None:
    """Refuse the parts of tools that no engine heeds.

    Raises:
        BadInput: names the first.
    """
    try:
        refuse(request, toolbox.unsupported, "here; leave it out")
    except BadInput as error:
        raise BadInput(f"{error}. Tools here: function, file_search", param="tools") from error


def asks_to_reason(reasoning: dict[str, Any] | None) -> bool:
    """Whether a request wants the model to think before it answers."""
    return any(value not in _REASONING.get(key, (None,)) for key, value in (reasoning or {}).items())


def to_sampling(
    request: Request[Any, Any, Any],
    data: ResponseRequest,
    toolbox: Toolbox,
    generator: Generator,
    default_max_tokens: int,
) -> Sampling:
    """The request's sampling parameters; OpenAI's defaults where it names none.

    Raises:
        BadInput: the engine lacks what is asked, or a text format that is not known.
    """
    schema = read_format(data.text)
    top_logprobs = data.top_logprobs or 0
    wants_logprobs = INCLUDE_LOGPROBS in (data.include or []) or top_logprobs > 0
    tools = toolbox.for_engine()
    needs = {
        "text.format": ("response_format", schema is not None),
        "tools": ("tools", bool(tools)),
        "include": ("logprobs", wants_logprobs),
        "top_logprobs": ("top_logprobs", top_logprobs > 0),
    }
    calls_one = bool(tools) and data.parallel_tool_calls is False
    lacking = [name for name, (ability, is_asked) in needs.items() if is_asked and ability not in generator.supports]
    refuse(request, lacking)
    keeps = set(needs) - set(lacking)
    num_alternatives = top_logprobs if "top_logprobs" in keeps else 0
    return Sampling(
        max_tokens=data.max_output_tokens or default_max_tokens,
        temperature=1.0 if data.temperature is None else data.temperature,
        top_p=1.0 if data.top_p is None else data.top_p,
        top_logprobs=num_alternatives if wants_logprobs and "include" in keeps else None,
        json_schema=schema if "text.format" in keeps else None,
        tools=tools if "tools" in keeps else (),
        tool_choice=toolbox.choice_for_engine() if "tools" in keeps else None,
        extras={"parallel_tool_calls": False} if calls_one and "tools" in keeps else {},
    )


def read_format(text: TextConfig | None) -> dict[str, Any] | None:
    """The JSON schema that the text has to fit; None for plain text.

    Raises:
        BadInput: a form that is not known.
    """
    given = PLAIN_TEXT if text is None or text.format is None else text.format
    match given:
        case {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "name": str(), "schema": dict(schema)}:
            return schema
    raise BadInput(
        f"text.format of type {given.get('type')!r} cannot be read; use text, json_object, or json_schema with name "
        "and schema",
        param="text.format",
    )


def describe_text(text: TextConfig | None) -> dict[str, Any]:
    """`text` as a response names it, defaults spelt out."""
    given = PLAIN_TEXT if text is None or text.format is None else text.format
    return {"format": given, "verbosity": "medium"}
