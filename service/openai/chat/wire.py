"""Deltas -> completion or SSE frames, citations included; an error inside a stream becomes a frame, not a cut."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import UNSET, UnsetType

from bakeoff.records import Delta, FinishReason
from service.exchange import Choices, Exchange
from service.failures import describe
from service.openai.chat.schemas import AnswerMessage, ChatChunk, ChatCompletion, Choice, ChunkChoice, ChunkDelta
from service.openai.evidence import Annotation, Evidence, Usage, annotate, evidence_of, sum_usage

logger = logging.getLogger(__name__)


class Wire:
    """Puts one exchange into OpenAI's forms: the whole completion, or the frames of its stream."""

    def __init__(self, exchange: Exchange, base_url: str) -> None:
        """Remember whose answer it is, and under which address documents are shown."""
        self._exchange = exchange
        self._base_url = base_url
        self._evidence = evidence_of(exchange.prepared)

    async def collect(self, choices: Choices) -> ChatCompletion:
        """Read the whole answer."""
        num_choices = self._exchange.asked.num_choices
        texts = [""] * num_choices
        last: dict[int, Delta] = {}
        async with aclosing(choices):
            async for number, delta in choices:
                texts[number] += delta.text
                if delta.finish_reason is not None:
                    last[number] = delta
        if len(last) < num_choices:
            raise RuntimeError("the engine ended an answer without a finish reason")
        return ChatCompletion(
            id=self._exchange.id,
            created=self._exchange.created,
            model=str(self._exchange.prepared.model),
            choices=[
                Choice(self._message(text), last[number].finish_reason or "stop", number)
                for number, text in enumerate(texts)
            ],
            usage=sum_usage(list(last.values())),
            system_fingerprint=self._exchange.engine,
            bakeoff=self._evidence,
        )

    async def frames(self, choices: Choices, *, include_usage: bool) -> AsyncGenerator[str, None]:
        """The data of each SSE event, `[DONE]` last.

        The chunk with the finish reason is the last with content; it carries the annotations and the evidence.
        """
        num_choices = self._exchange.asked.num_choices
        texts = [""] * num_choices
        last: dict[int, Delta] = {}
        try:
            async with aclosing(choices):
                for number in range(num_choices):
                    yield self._chunk(number, ChunkDelta(role="assistant", content=""))
                async for number, delta in choices:
                    texts[number] += delta.text
                    if delta.finish_reason is None:
                        yield self._chunk(number, ChunkDelta(content=delta.text))
                        continue
                    last[number] = delta
                    final = ChunkDelta(content=delta.text, annotations=self._annotate(texts[number]))
                    yield self._chunk(number, final, delta.finish_reason, self._evidence)
                if include_usage:
                    yield self._encode([], usage=sum_usage(list(last.values())))
        except Exception as error:  # noqa: BLE001 - the status has been sent: only a frame can carry the error
            logger.warning("stream failed request_id=%s error=%s", self._exchange.id, type(error).__name__)
            yield msgspec.json.encode(describe(error)[1]).decode()
        yield "[DONE]"

    def _message(self, text: str) -> AnswerMessage:
        return AnswerMessage(text, self._annotate(text))

    def _annotate(self, text: str) -> list[Annotation]:
        return annotate(self._exchange.prepared, text, self._base_url)

    def _chunk(
        self,
        number: int,
        delta: ChunkDelta,
        finish_reason: FinishReason | None = None,
        evidence: Evidence | UnsetType = UNSET,
    ) -> str:
        return self._encode([ChunkChoice(delta, finish_reason, number)], evidence=evidence)

    def _encode(
        self,
        choices: list[ChunkChoice],
        usage: Usage | UnsetType = UNSET,
        evidence: Evidence | UnsetType = UNSET,
    ) -> str:
        chunk = ChatChunk(
            id=self._exchange.id,
            created=self._exchange.created,
            model=str(self._exchange.prepared.model),
            choices=choices,
            system_fingerprint=self._exchange.engine,
            usage=usage,
            bakeoff=evidence,
        )
        return msgspec.json.encode(chunk).decode()
