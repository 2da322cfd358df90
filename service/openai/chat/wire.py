"""Deltas -> completion or SSE frames, citations included; an error inside a stream becomes a frame, not a cut.

Most chunks of a stream carry a piece of text and nothing else: their frame is put together from bytes made once for
the stream. All others are encoded from their structs.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import msgspec
from msgspec import UNSET, UnsetType

from bakeoff.records import Delta
from service.exchange import Choices, Exchange
from service.openai.chat.answers import (
    AnswerMessage,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    ChunkDelta,
    FunctionDelta,
    ToolCallDelta,
    to_logprobs,
)
from service.openai.chat.messages import FunctionCall, MessageToolCall
from service.openai.evidence import Annotation, Evidence, Usage, annotate, evidence_of, sum_usage
from service.openai.gathering import Gathered, last_deltas
from service.openai.stream import DONE, frame

_MARK = "\x00"
_ENCODED_MARK = msgspec.json.encode(_MARK)

Keep = Callable[[ChatCompletion], Awaitable[None]]
"""Stores a completion."""


class Wire:
    """Puts one exchange into OpenAI's forms: the whole completion, or the frames of its stream."""

    def __init__(self, exchange: Exchange, base_url: str, keep: Keep | None = None) -> None:
        """Remember whose answer it is, under which address documents are shown, and what stores it if it is kept."""
        self._exchange = exchange
        self._base_url = base_url
        self._keep = keep
        self._evidence = evidence_of(exchange.prepared)
        self._has_logprobs = exchange.asked.sampling.top_logprobs is not None
        self._choices = [Gathered() for _ in range(exchange.asked.num_choices)]

    async def collect(self, choices: Choices) -> ChatCompletion:
        """Read the whole answer."""
        async with aclosing(choices):
            async for number, delta in choices:
                self._choices[number].add(delta)
        completion = self._complete()
        if self._keep is not None:
            await self._keep(completion)
        return completion

    async def frames(self, choices: Choices, *, include_usage: bool) -> AsyncGenerator[bytes, None]:
        """Each event, `[DONE]` last; none before the engine has said something.

        The chunk with the finish reason is the last with content; it carries the annotations and the evidence.
        """
        usage: UnsetType | None = None if include_usage else UNSET
        plain = [self._plain(number, usage) for number in range(len(self._choices))]
        encode = msgspec.json.encode
        has_begun = False
        async with aclosing(choices):
            async for number, delta in choices:
                if not has_begun:
                    has_begun = True
                    yield self._open(usage)
                gathered = self._choices[number]
                gathered.add(delta)
                if delta.finish_reason is None and not delta.logprobs and not delta.tool_calls:
                    before, behind = plain[number]
                    yield before + encode(delta.text) + behind
                else:
                    yield self._chunk(number, delta, usage)
        totals = sum_usage(last_deltas(self._choices))
        if self._keep is not None:
            await self._keep(self._complete())
        if include_usage:
            yield self._encode([], totals)
        yield DONE

    def _complete(self) -> ChatCompletion:
        asked = self._exchange.asked
        return ChatCompletion(
            id=self._exchange.id,
            created=self._exchange.created,
            model=str(self._exchange.prepared.model),
            choices=[self._choice(number, gathered) for number, gathered in enumerate(self._choices)],
            usage=sum_usage(last_deltas(self._choices)),
            system_fingerprint=self._exchange.engine,
            bakeoff=self._evidence,
            metadata=UNSET if self._keep is None else asked.metadata,
        )

    def _choice(self, number: int, gathered: Gathered) -> Choice:
        text = gathered.text
        calls = [MessageToolCall(call.id, FunctionCall(call.name, call.arguments)) for call in gathered.tool_calls]
        message = AnswerMessage(text if text or not calls else None, self._annotate(text), calls or UNSET)
        logprobs = to_logprobs(gathered.logprobs) if self._has_logprobs else None
        return Choice(message, gathered.finish_reason, number, logprobs)

    def _annotate(self, text: str) -> list[Annotation]:
        return annotate(self._exchange.prepared, text, self._base_url)

    def _open(self, usage: UnsetType | None) -> bytes:
        opening = ChunkDelta(role="assistant", content="", refusal=None)
        return b"".join(
            self._encode([ChunkChoice(opening, index=number)], usage) for number in range(len(self._choices))
        )

    def _plain(self, number: int, usage: UnsetType | None) -> tuple[bytes, bytes]:
        """What stands before and behind the text in the frame of a chunk that has nothing else."""
        whole = self._encode([ChunkChoice(ChunkDelta(content=_MARK), index=number)], usage)
        before, _, behind = whole.partition(_ENCODED_MARK)
        return before, behind

    def _chunk(self, number: int, delta: Delta, usage: UnsetType | None) -> bytes:
        is_last = delta.finish_reason is not None
        pieces = [
            ToolCallDelta(
                piece.index,
                FunctionDelta(piece.name or None, piece.arguments),
                piece.id or UNSET,
                "function" if piece.id else UNSET,
            )
            for piece in delta.tool_calls
        ]
        added = ChunkDelta(
            content=UNSET if pieces and not delta.text else delta.text,
            tool_calls=pieces or UNSET,
            annotations=self._annotate(self._choices[number].text) if is_last else UNSET,
        )
        logprobs = to_logprobs(delta.logprobs) if delta.logprobs else None
        choice = ChunkChoice(added, delta.finish_reason, number, logprobs)
        return self._encode([choice], usage, self._evidence if is_last else UNSET)

    def _encode(
        self, choices: list[ChunkChoice], usage: Usage | UnsetType | None, evidence: Evidence | UnsetType = UNSET
    ) -> bytes:
        chunk = ChatChunk(
            id=self._exchange.id,
            created=self._exchange.created,
            model=str(self._exchange.prepared.model),
            system_fingerprint=self._exchange.engine,
            choices=choices,
            usage=usage,
            bakeoff=evidence,
        )
        return frame(msgspec.json.encode(chunk))
