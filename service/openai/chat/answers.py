"""What a chat completion answers: the whole completion, or the chunks of a stream."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from bakeoff.records import FinishReason, TokenLogprob
from service.openai.chat.messages import MessageToolCall
from service.openai.evidence import Annotation, Evidence, Usage


class TopLogprob(Struct, frozen=True):
    """A token that could have stood there."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(Struct, frozen=True):
    """A token of the answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct, frozen=True):
    """The tokens of an answer, or of a chunk of it."""

    content: list[ContentLogprob]
    refusal: None = None


class AnswerMessage(Struct, frozen=True):
    """The assistant's message."""

    content: str | None
    annotations: list[Annotation]
    tool_calls: list[MessageToolCall] | UnsetType = UNSET
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True):
    """One of the answers asked for."""

    message: AnswerMessage
    finish_reason: FinishReason
    index: int = 0
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(Struct, frozen=True):
    """Answer of `POST /v1/chat/completions`."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str
    bakeoff: Evidence
    metadata: dict[str, str] | UnsetType = UNSET
    """Of a stored completion."""
    object: Literal["chat.completion"] = "chat.completion"


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    """The next piece of a call."""

    name: str | None = None
    arguments: str = ""


class ToolCallDelta(Struct, frozen=True):
    """The next piece of one of the calls."""

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class ChunkDelta(Struct, frozen=True):
    """What a streamed chunk adds."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    annotations: list[Annotation] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    """What is added to one of the answers."""

    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: ChoiceLogprobs | None = None


class ChatChunk(Struct, frozen=True):
    """One event of a stream."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    """Null but in the last chunk, where the request asked for it; its choices are empty."""
    bakeoff: Evidence | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


def to_logprobs(tokens: tuple[TokenLogprob, ...] | list[TokenLogprob]) -> ChoiceLogprobs:
    """Tokens in OpenAI's form."""
    return ChoiceLogprobs(
        [
            ContentLogprob(
                token.token,
                token.logprob,
                list(token.bytes),
                [TopLogprob(other.token, other.logprob, list(other.bytes)) for other in token.alternatives],
            )
            for token in tokens
        ]
    )
