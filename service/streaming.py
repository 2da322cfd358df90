"""Deltas -> completion or SSE frames, citations included; an error inside a stream becomes a frame, not a cut."""

import logging
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from bakeoff.prompts import find_markers
from bakeoff.records import Delta, Passage
from service.answer import Prepared
from service.failures import describe
from service.schemas import (
    Annotation,
    AnswerMessage,
    ChatChunk,
    ChatCompletion,
    ChatUsage,
    Choice,
    ChunkChoice,
    ChunkDelta,
    Evidence,
    PromptTokensDetails,
    UrlCitation,
)
from service.web.pages import document_path

logger = logging.getLogger(__name__)
Deltas = AsyncGenerator[Delta, None]


class Wire:
    """Puts one answer into OpenAI's forms: the whole completion, or the frames of its stream."""

    def __init__(self, prepared: Prepared, engine_name: str, base_url: str) -> None:
        self._prepared = prepared
        self._base_url = base_url.rstrip("/")
        self._fingerprint = engine_name
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._evidence = Evidence(
            prepared.model.mode.name,
            prepared.adapter,
            prepared.epoch,
            prepared.passages,
            prepared.evidence,
            prepared.abstention is not None,
        )
        self._start = time.monotonic()
        self._first_token_ms = 0.0

    async def collect(self, deltas: Deltas) -> ChatCompletion:
        """Read the whole answer."""
        text = ""
        async with aclosing(deltas):
            async for delta in deltas:
                self._time(delta)
                text += delta.text
                if delta.finish_reason is not None:
                    message = AnswerMessage(text, self._annotate(text))
                    return ChatCompletion(
                        id=self._id,
                        created=self._created,
                        model=str(self._prepared.model),
                        choices=[Choice(message, delta.finish_reason)],
                        usage=_usage(delta),
                        system_fingerprint=self._fingerprint,
                        bakeoff=self._evidence,
                    )
        raise RuntimeError("the engine ended an answer without a finish reason")

    async def frames(self, deltas: Deltas, *, include_usage: bool) -> AsyncGenerator[str, None]:
        """The data of each SSE event, `[DONE]` last.

        The chunk with the finish reason is the last with content; it carries the annotations and the evidence.
        """
        text = ""
        try:
            async with aclosing(deltas):
                yield self._chunk(ChunkDelta(role="assistant", content=""))
                async for delta in deltas:
                    self._time(delta)
                    text += delta.text
                    if delta.finish_reason is None:
                        yield self._chunk(ChunkDelta(content=delta.text))
                        continue
                    final = ChunkDelta(content=delta.text, annotations=self._annotate(text))
                    yield self._chunk(final, delta.finish_reason, self._evidence)
                    if include_usage:
                        yield self._encode([], usage=_usage(delta))
        except Exception as error:  # noqa: BLE001 - the status has been sent: only a frame can carry the error
            logger.warning("stream failed request_id=%s error=%s", self._id, type(error).__name__)
            yield msgspec.json.encode(describe(error)[1]).decode()
        yield "[DONE]"

    def _chunk(
        self,
        delta: ChunkDelta,
        finish_reason: Literal["stop", "length"] | None = None,
        evidence: Evidence | UnsetType = UNSET,
    ) -> str:
        return self._encode([ChunkChoice(delta, finish_reason)], evidence=evidence)

    def _encode(
        self,
        choices: list[ChunkChoice],
        usage: ChatUsage | UnsetType = UNSET,
        evidence: Evidence | UnsetType = UNSET,
    ) -> str:
        chunk = ChatChunk(
            id=self._id,
            created=self._created,
            model=str(self._prepared.model),
            choices=choices,
            system_fingerprint=self._fingerprint,
            usage=usage,
            bakeoff=evidence,
        )
        return msgspec.json.encode(chunk).decode()

    def _annotate(self, text: str) -> list[Annotation]:
        """One citation for each `[n]` in the text, and one of span 0 to 0 for each passage that has none.

        An abstention has no source.
        """
        if self._prepared.abstention is not None:
            return []
        passages = self._prepared.passages
        markers = find_markers(text, len(passages))
        cited = [self._cite(passages[number - 1], start, end) for number, start, end in markers]
        numbers = {number for number, _, _ in markers}
        return cited + [
            self._cite(passage, 0, 0) for number, passage in enumerate(passages, start=1) if number not in numbers
        ]

    def _cite(self, passage: Passage, start: int, end: int) -> Annotation:
        path = document_path(self._prepared.model.domain, passage.document_id, passage.chunk_id)
        return Annotation(UrlCitation(self._base_url + path, passage.title, start, end))

    def _time(self, delta: Delta) -> None:
        """Log one line per answer, without its words."""
        elapsed_ms = (time.monotonic() - self._start) * 1000
        self._first_token_ms = self._first_token_ms or elapsed_ms
        if delta.finish_reason is not None:
            logger.info(
                "answered request_id=%s model=%s num_passages=%d prompt_tokens=%d cached_tokens=%d "
                "completion_tokens=%d first_token_ms=%.0f total_ms=%.0f",
                self._id,
                self._prepared.model,
                len(self._prepared.passages),
                delta.prompt_tokens,
                delta.cached_tokens,
                delta.completion_tokens,
                self._first_token_ms,
                elapsed_ms,
            )


def _usage(delta: Delta) -> ChatUsage:
    total = delta.prompt_tokens + delta.completion_tokens
    details = PromptTokensDetails(delta.cached_tokens)
    return ChatUsage(delta.prompt_tokens, delta.completion_tokens, total, details)
