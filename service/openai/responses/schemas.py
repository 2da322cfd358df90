"""The wire forms of the Responses API. Source: OpenAI's published API description and the `openai` package's types.

Every parameter that OpenAI names is a field, so that an unknown one is refused by name; what cannot be heeded is
refused in `support`.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from service.openai.evidence import Evidence
from service.openai.responses.items import Compaction, OutputItem
from service.openai.sampling import Metadata, Temperature, TopP, User

Status = Literal["completed", "failed", "in_progress", "cancelled", "queued", "incomplete"]
Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
INCLUDE_RESULTS: Include = "file_search_call.results"
INCLUDE_LOGPROBS: Include = "message.output_text.logprobs"


class TextConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What form the text shall have."""

    format: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream carries beside its events."""

    include_obfuscation: bool | None = None
    """Pads the deltas with random characters, so that their sizes tell an onlooker less."""


class ResponseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/responses`."""

    model: str | None = None
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Include] | None = None
    text: TextConfig | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    metadata: Metadata | None = None
    """`task` names what the last message asks for (see `bakeoff.tasks`); other keys are the caller's own."""
    user: User | None = None
    safety_identifier: User | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: dict[str, Any] | None = None
    background: bool | None = None
    background_options: dict[str, Any] | None = None
    conversation: str | dict[str, Any] | None = None
    context_management: list[dict[str, Any]] | None = None
    prompt: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    access_programs: dict[str, Any] | None = None


class TokenCountRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/responses/input_tokens`."""

    model: str | None = None
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    text: TextConfig | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: dict[str, Any] | None = None
    conversation: str | dict[str, Any] | None = None
    personality: Annotated[str, Meta(max_length=64)] | None = None


class TokenCount(Struct, frozen=True):
    """Answer of `POST /v1/responses/input_tokens`."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


class CompactRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/responses/compact`."""

    model: str
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    image: dict[str, Any] | None = None


class InputTokensDetails(Struct, frozen=True):
    """Part of the usage."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True):
    """Part of the usage."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct, frozen=True):
    """Tokens of one response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class CompactedResponse(Struct, frozen=True):
    """Answer of `POST /v1/responses/compact`."""

    id: str
    created_at: int
    output: list[Compaction]
    usage: ResponseUsage
    object: Literal["response.compaction"] = "response.compaction"


class ResponseError(Struct, frozen=True):
    """What ended a response before its end."""

    code: Literal["server_error", "invalid_prompt"]
    message: str


class IncompleteDetails(Struct, frozen=True):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class Reasoning(Struct, frozen=True):
    """No model here reasons apart from its answer."""

    effort: None = None
    summary: None = None


class ResponseObject(Struct, frozen=True, kw_only=True):
    """A response: answer of `POST /v1/responses`, and what is stored."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    model: str
    output: list[OutputItem] = []
    usage: ResponseUsage | UnsetType = UNSET
    previous_response_id: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    temperature: float
    top_p: float
    top_logprobs: int = 0
    text: dict[str, Any]
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    metadata: dict[str, str] = {}
    user: str | UnsetType = UNSET
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["default"] = "default"
    truncation: Literal["disabled"] = "disabled"
    reasoning: Reasoning = Reasoning()
    background: Literal[False] = False
    store: bool = True
    bakeoff: Evidence | UnsetType = UNSET
    """Our own field: how the answer came about."""


class DeletedResponse(Struct, frozen=True):
    """Answer of `DELETE /v1/responses/{id}`."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
