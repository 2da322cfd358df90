"""The values that cross a package border: frozen, compared by content, JSON in and out through msgspec.

A question becomes `Message`s, a document becomes `Chunk`s, a chunk found for a question is a `Passage`, a question
with its target is an `Example`, and what a model writes comes as `Delta`s.
"""

from typing import Any, Literal

from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls"]
Split = Literal["train", "validation", "test"]


class ToolCall(Struct, frozen=True):
    """A function that the model wants called."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it: it may not parse."""


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn."""
    tool_call_id: str = ""
    """Of a tool's turn: which call it answers."""


class Document(Struct, frozen=True):
    """One source page of a domain."""

    id: str
    title: str
    text: str
    """Plain text or Markdown: headings with `#`, tables with `|`. Where the format has pages, a form feed begins each
    of them, the first too: a text of one page begins with its form feed, a text without any has no pages."""
    source: str = ""
    """Where a reader finds it: an address, a path."""
    origin: str = ""
    """The file it was read from, an absolute path; empty for text that came otherwise."""


class Chunk(Struct, frozen=True):
    """A stored slice of a document."""

    chunk_id: str
    """Hash of the document id, the title, the heading and the text: the same content keeps its id."""
    document_id: str
    title: str
    text: str
    heading: str = ""
    """The headings above it, outermost first, joined by " > "; empty where there are none."""
    page: int | None = None
    """Page of the document it begins on, from 1; None where the format has no pages."""


class Passage(Struct, frozen=True):
    """What was found for a question: a chunk, or up to three neighbouring chunks of one document joined."""

    rank: int
    """1 for the best."""
    score: float
    """How likely the passage holds the answer, from 0 to 1; never rises with the rank."""
    document_id: str
    chunk_id: str
    """Of the best chunk in it."""
    title: str
    text: str
    heading: str = ""
    """As of a chunk; of the first chunk in it."""
    page: int | None = None
    """As of a chunk; of the first chunk in it."""
    chunk_ids: tuple[str, ...] = ()
    """Every chunk in it, in the order of the document."""


class Example(Struct, frozen=True):
    """A question with its target."""

    id: str
    question: str
    answer: str
    answers: tuple[str, ...] = ()
    """Every acceptable target, `answer` included."""
    document_ids: tuple[str, ...] = ()
    """Documents that hold the answer."""
    tags: dict[str, Any] = {}
    """Whatever else the team's file says of this example (`yes_no`, `label`, ...)."""

    @property
    def task(self) -> str:
        """Name of what it asks for, from the tag `task`; see `bakeoff.tasks`."""
        return str(self.tags.get("task", "answer"))


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How a completion is drawn. Temperature 0 is greedy. What an engine lacks is refused by `Generator.supports`."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    """None: drawn anew for every request."""
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[str, float] = {}
    """Token id, as a string -> what is added to its logit."""
    top_logprobs: int | None = None
    """None: no log-probabilities; 0: of the tokens chosen; more: of so many alternatives too."""
    json_schema: dict[str, Any] | None = None
    """JSON schema that the completion has to fit; `{"type": "object"}` for any JSON object."""
    tools: tuple[dict[str, Any], ...] = ()
    """Functions the model may call, in OpenAI's form."""
    tool_choice: str | dict[str, Any] | None = None
    extras: dict[str, Any] = {}
    """The engine's own sampling parameters, by their names there."""


class TokenLogprob(Struct, frozen=True):
    """One token of a completion and how likely it was."""

    token: str
    logprob: float
    """Natural logarithm."""
    bytes: tuple[int, ...]
    """UTF-8; a token may be a part of a character."""
    alternatives: tuple["TokenLogprob", ...] = ()
    """The likeliest tokens there, best first; empty where none were asked for."""


class ToolCallPiece(Struct, frozen=True):
    """The next piece of a call that the model writes; pieces of one index belong together."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(Struct, frozen=True):
    """The next piece of a completion. The last one carries `finish_reason` and the token counts."""

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were not computed again because the engine still had their prefix."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens in `text`, where they were asked for."""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    engine_seconds: float = 0.0
    """Of the engine's time that this answer took: computing alone, shared out among the answers of a batch."""
