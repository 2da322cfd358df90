"""The values that cross a package border: frozen, compared by content, JSON in and out through msgspec.

A question becomes `Message`s, a document becomes `Chunk`s, a chunk found for a question is a `Passage`, a question
with its target is an `Example`, and what a model writes comes as `Delta`s.
"""

from typing import Any, Literal

from msgspec import Struct

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "validation", "test"]


class Message(Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Document(Struct, frozen=True):
    """One source page of a domain."""

    id: str
    title: str
    text: str
    source: str = ""


class Chunk(Struct, frozen=True):
    """A stored slice of a document."""

    chunk_id: str
    """Hash of the document id, the title and the text: the same content keeps its id."""
    document_id: str
    title: str
    text: str


class Passage(Struct, frozen=True):
    """A chunk returned for a question."""

    rank: int
    """1 for the best."""
    score: float
    """Higher is better; nothing else is promised."""
    document_id: str
    chunk_id: str
    title: str
    text: str


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


class Sampling(Struct, frozen=True):
    """How a completion is drawn. Temperature 0 is greedy."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    """None: drawn anew for every request."""
    stop: tuple[str, ...] = ()


class Delta(Struct, frozen=True):
    """The next piece of a completion. The last one carries `finish_reason` and the token counts."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were not computed again because the engine still had their prefix."""
