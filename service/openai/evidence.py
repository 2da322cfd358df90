"""How an answer came about, in OpenAI's forms and in a field of our own: citations, usage, evidence."""

from typing import Literal

from msgspec import Struct

from bakeoff.prompts import find_markers
from bakeoff.records import Delta, Passage
from service.answer import Prepared
from service.web.pages import document_path


class UrlCitation(Struct, frozen=True):
    """Where a passage stands: its page, and the span of its `[n]` in the answer (0 to 0 where there is none)."""

    url: str
    title: str
    start_index: int
    end_index: int


class Annotation(Struct, frozen=True):
    """A citation on a message."""

    url_citation: UrlCitation
    type: Literal["url_citation"] = "url_citation"


class Evidence(Struct, frozen=True):
    """Our own field of a response: how the answer came about. OpenAI clients pass over it."""

    mode: str
    adapter: str | None
    epoch: int
    passages: tuple[Passage, ...]
    evidence: float | None
    """How likely a passage holds the answer, 0 to 1; null in modes without retrieval."""
    abstained: bool
    """Whether the evidence was too weak, and no model was asked."""


class PromptTokensDetails(Struct, frozen=True):
    """Part of the usage."""

    cached_tokens: int
    audio_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True):
    """Part of the usage: what no model here writes."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Struct, frozen=True):
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


def evidence_of(prepared: Prepared) -> Evidence:
    """Our own field."""
    return Evidence(
        prepared.model.mode.name,
        prepared.adapter,
        prepared.epoch,
        prepared.passages,
        prepared.evidence,
        prepared.abstention is not None,
    )


def sum_usage(last_deltas: list[Delta]) -> Usage:
    """Usage of a request from the last delta of each choice: one prompt, all completions."""
    return sum_prompts([last_deltas])


def sum_prompts(prompts: list[list[Delta]]) -> Usage:
    """Usage of a request of several prompts, from the last delta of each choice of each."""
    prompt = sum(max((delta.prompt_tokens for delta in deltas), default=0) for deltas in prompts)
    cached = sum(min((delta.cached_tokens for delta in deltas), default=0) for deltas in prompts)
    completion = sum(delta.completion_tokens for deltas in prompts for delta in deltas)
    return Usage(prompt, completion, prompt + completion, PromptTokensDetails(cached))


def annotate(prepared: Prepared, text: str, base_url: str) -> list[Annotation]:
    """One citation for each `[n]` in the text, and one of span 0 to 0 for each passage that has none.

    An abstention has no source.
    """
    if prepared.abstention is not None:
        return []
    passages = prepared.passages
    markers = find_markers(text, len(passages))
    cited = [_cite(prepared, passages[number - 1], start, end, base_url) for number, start, end in markers]
    numbers = {number for number, _, _ in markers}
    return cited + [
        _cite(prepared, passage, 0, 0, base_url)
        for number, passage in enumerate(passages, start=1)
        if number not in numbers
    ]


def _cite(prepared: Prepared, passage: Passage, start: int, end: int, base_url: str) -> Annotation:
    path = document_path(prepared.model.domain, passage.document_id, passage.chunk_id)
    return Annotation(UrlCitation(base_url.rstrip("/") + path, passage.title, start, end))
