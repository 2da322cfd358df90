"""The body of `POST /v1/chat/completions`, and how it is read: OpenAI's every parameter, and the engine's own.

Unknown fields are refused by name. So is a parameter that would change the answer and that the engine cannot heed
(`to_sampling`); what changes no answer (`user`, `prompt_cache_key`, ...) is accepted. Source: OpenAI's published API
description.
"""

from collections.abc import Set
from typing import Annotated, Any, Literal

from litestar import Request
from msgspec import Meta, Struct

from bakeoff.errors import BadInput
from bakeoff.records import Sampling
from service.openai.chat.messages import ChatMessage
from service.openai.chat.tools import Tool, ToolChoice, read_tools
from service.openai.sampling import (
    EngineExtras,
    Metadata,
    Penalty,
    Temperature,
    TopP,
    User,
    read_extras,
    read_logit_bias,
    read_seed,
    read_stop,
)
from service.openai.unsupported import refuse

MAX_CHOICES = 16


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream says beside its text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True):
    """A named JSON schema."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    schema: dict[str, Any] | None = None
    """Any JSON value where there is none."""
    description: str | None = None
    strict: bool | None = None
    """An answer fits its schema in any case."""


class ResponseFormat(Struct, frozen=True, forbid_unknown_fields=True):
    """What form the answer has to have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(EngineExtras, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    function_call: str | dict[str, Any] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    """`task` names what the last question asks for (see `bakeoff.tasks`); other keys are the caller's own."""
    user: User | None = None
    safety_identifier: User | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    prediction: dict[str, Any] | None = None
    """Would make the same answer faster; not needed for it."""
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    web_search_options: dict[str, Any] | None = None


def to_sampling(
    request: ChatRequest, supports: Set[str], http: Request[Any, Any, Any], default_max_tokens: int
) -> Sampling:
    """The request's sampling parameters; OpenAI's defaults where it names none.

    Args:
        supports: of the generator.
        http: the request that they came in; see `unsupported.refuse`.

    Raises:
        BadInput: a parameter out of its range, or one that the engine cannot heed.
    """
    refuse(http, _beyond_any_engine(request))
    max_tokens = _read_max_tokens(request, http)
    extras = read_extras(request)
    logit_bias = read_logit_bias(request.logit_bias) if "logit_bias" in supports else request.logit_bias or {}
    tools, tool_choice = read_tools(request.tools, request.tool_choice)
    if request.top_logprobs and not request.logprobs:
        raise BadInput("top_logprobs is given with logprobs: true only", param="top_logprobs")
    asked = {
        "logprobs": bool(request.logprobs),
        "top_logprobs": bool(request.top_logprobs),
        "frequency_penalty": bool(request.frequency_penalty),
        "presence_penalty": bool(request.presence_penalty),
        "logit_bias": any(logit_bias.values()),
        "response_format": request.response_format is not None and request.response_format.type != "text",
        "tools": bool(tools),
        **dict.fromkeys(extras, True),
    }
    lacking = [name for name, is_asked in asked.items() if is_asked and name not in supports]
    refuse(http, lacking)
    if tools and request.parallel_tool_calls is False:
        extras["parallel_tool_calls"] = False
    top_logprobs = (0 if "top_logprobs" in lacking else request.top_logprobs or 0) if request.logprobs else None
    return Sampling(
        max_tokens=max_tokens or default_max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=read_seed(request.seed),
        stop=read_stop(request.stop),
        frequency_penalty=0.0 if "frequency_penalty" in lacking else request.frequency_penalty or 0.0,
        presence_penalty=0.0 if "presence_penalty" in lacking else request.presence_penalty or 0.0,
        logit_bias={} if "logit_bias" in lacking else {key: value for key, value in logit_bias.items() if value},
        top_logprobs=None if "logprobs" in lacking else top_logprobs,
        json_schema=None if "response_format" in lacking else _read_schema(request.response_format),
        tools=() if "tools" in lacking else tools,
        tool_choice=None if "tools" in lacking else tool_choice,
        extras={name: value for name, value in extras.items() if name not in lacking},
    )


def _beyond_any_engine(request: ChatRequest) -> list[str]:
    options = request.stream_options
    asked = {
        "functions": bool(request.functions) and request.function_call != "none",
        "function_call": request.function_call not in (None, "none", "auto"),
        "audio": request.audio is not None,
        "modalities": request.modalities not in (None, ["text"]),
        "moderation": request.moderation is not None,
        "reasoning_effort": request.reasoning_effort not in (None, "none"),
        "verbosity": request.verbosity not in (None, "medium"),
        "service_tier": request.service_tier not in (None, "auto", "default"),
        "web_search_options": request.web_search_options is not None,
        "stream_options.include_obfuscation": options is not None and bool(options.include_obfuscation),
    }
    return [name for name, is_asked in asked.items() if is_asked]


def _read_max_tokens(request: ChatRequest, http: Request[Any, Any, Any]) -> int | None:
    given = {"max_completion_tokens": request.max_completion_tokens, "max_tokens": request.max_tokens}
    bad = [name for name, value in given.items() if value is not None and value < 1]
    refuse(http, bad, "below 1; ask for one token or more")
    return next((value for name, value in given.items() if value is not None and name not in bad), None)


def _read_schema(response_format: ResponseFormat | None) -> dict[str, Any] | None:
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return {"type": "object"}
    if response_format.json_schema is None:
        raise BadInput("response_format of type json_schema needs json_schema", param="response_format")
    return response_format.json_schema.schema or {}
