"""The wire forms of OpenAI's chat completions, as far as the service speaks them.

Unknown fields of a request are ignored, as OpenAI clients send extras; a parameter that would change the answer and
that the engine lacks is refused by name (`check_supported`). Source: OpenAI's published API description.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from bakeoff.errors import BadInput
from bakeoff.records import FinishReason, Message, Sampling
from service.openai.evidence import Annotation, Evidence, Usage

MAX_STOPS = 4
MAX_SEED = 2**31 - 1
"""Engines take 31 bits; another seed is folded into them, so that every one that OpenAI takes is taken."""


class TextPart(Struct, frozen=True):
    """One part of a message's content."""

    type: str
    text: str = ""


class ChatMessage(Struct, frozen=True):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]


class StreamOptions(Struct, frozen=True):
    """What a stream says beside its text."""

    include_usage: bool = False


class ChatRequest(Struct, frozen=True):
    """Body of `POST /v1/chat/completions`."""

    model: str
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    """`task` names what the last message asks for (see `bakeoff.tasks`); other keys are the caller's own."""


class AnswerMessage(Struct, frozen=True):
    """The assistant's message."""

    content: str
    annotations: list[Annotation]
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True):
    """The one choice of a completion."""

    message: AnswerMessage
    finish_reason: FinishReason
    index: int = 0
    logprobs: None = None


class ChatCompletion(Struct, frozen=True):
    """Answer of `POST /v1/chat/completions`."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str
    bakeoff: Evidence
    object: Literal["chat.completion"] = "chat.completion"


class ChunkDelta(Struct, frozen=True):
    """What a streamed chunk adds."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    annotations: list[Annotation] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    """The one choice of a chunk."""

    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: None = None


class ChatChunk(Struct, frozen=True):
    """One event of a stream."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str
    usage: Usage | UnsetType = UNSET
    bakeoff: Evidence | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


def to_conversation(messages: list[ChatMessage]) -> list[Message]:
    """The request's messages in the shared language.

    Raises:
        BadInput: a content part that is not text, or a message without text.
    """
    conversation = []
    for position, message in enumerate(messages):
        parts = [TextPart("text", message.content)] if isinstance(message.content, str) else message.content
        for part in parts:
            if part.type != "text":
                raise BadInput(
                    f"messages[{position}]: content of type {part.type!r} is not read here; send text", param="messages"
                )
        content = "\n".join(part.text for part in parts)
        if not content.strip():
            raise BadInput(f"messages[{position}] is empty", param="messages")
        conversation.append(Message("system" if message.role == "developer" else message.role, content))
    return conversation


def to_sampling(request: ChatRequest, default_max_tokens: int) -> Sampling:
    """The request's sampling parameters; OpenAI's defaults where it names none.

    Raises:
        BadInput: too many stop strings, or an empty one.
    """
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stop) > MAX_STOPS or not all(stop):
        raise BadInput(f"stop takes up to {MAX_STOPS} strings, none of them empty", param="stop")
    return Sampling(
        max_tokens=request.max_completion_tokens or request.max_tokens or default_max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=None if request.seed is None else request.seed & MAX_SEED,
        stop=tuple(stop),
    )


def check_supported(request: ChatRequest) -> None:
    """Refuse what the engine cannot do, rather than ignore it.

    Raises:
        BadInput: names the parameter.
    """
    asked = {
        "n": request.n not in (None, 1),
        "logprobs": bool(request.logprobs),
        "tools": bool(request.tools),
        "functions": bool(request.functions),
        "response_format": request.response_format is not None and request.response_format.get("type") != "text",
        "frequency_penalty": bool(request.frequency_penalty),
        "presence_penalty": bool(request.presence_penalty),
        "logit_bias": bool(request.logit_bias),
    }
    for param, is_asked in asked.items():
        if is_asked:
            raise BadInput(f"{param} is not supported by this engine; leave it out", param=param)
