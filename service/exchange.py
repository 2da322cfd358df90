"""One request from question to stored answer, whatever its route: prepare, generate `n` choices, write each down.

The routes differ in their wire forms only: each reads a request into an `Asked`, and puts the deltas of the `Exchange`
that comes of it into its own frames.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import Struct

from bakeoff.artefacts import digest_of
from bakeoff.modes import ModelName
from bakeoff.prompts import PROMPTS_VERSION
from bakeoff.records import Delta, Message, Sampling
from bakeoff.tasks import ANSWER, Task
from service.answer import Answerer, Prepared
from service.callers import OPEN, Caller
from service.generator import Generator
from service.ledger import Answer, Ledger, now

logger = logging.getLogger(__name__)

Choices = AsyncGenerator[tuple[int, Delta], None]
"""(number of the choice, its next piece)."""


class Asked(Struct, frozen=True, kw_only=True):
    """What a client wants to know, in the shared language."""

    route: str
    """As in `ledger.Answer`."""
    prefix: str
    """Of the answer's id: `chatcmpl-`, `cmpl-`, `resp_`."""
    model: ModelName
    conversation: tuple[Message, ...]
    sampling: Sampling
    task: Task = ANSWER
    num_choices: int = 1
    caller: Caller = OPEN
    user: str = ""
    metadata: dict[str, str] = {}


class Exchanges:
    """Begins exchanges."""

    def __init__(self, answerer: Answerer, generator: Generator, ledger: Ledger) -> None:
        """Take what every exchange stands on."""
        self._answerer = answerer
        self._generator = generator
        self._ledger = ledger

    async def begin(self, asked: Asked) -> "Exchange":
        """Resolve the model, retrieve and render; see `Answerer.prepare` for what is refused."""
        start = time.monotonic()
        prepared = await self._answerer.prepare(asked.model, asked.conversation, asked.caller.groups, asked.task)
        return Exchange(asked, prepared, self._answerer, self._generator.name, self._ledger, start)


class Exchange:
    """A question that is being answered."""

    def __init__(
        self, asked: Asked, prepared: Prepared, answerer: Answerer, engine: str, ledger: Ledger, start: float
    ) -> None:
        """Remember; `choices` begins to generate."""
        self.id = asked.prefix + secrets.token_hex(16)
        self.created_at = now()
        self.asked = asked
        self.prepared = prepared
        self.engine = engine
        self._answerer = answerer
        self._ledger = ledger
        self._start = start
        self._prepared_at = time.monotonic()

    @property
    def created(self) -> int:
        """Seconds since 1970."""
        return int(self.created_at.timestamp())

    async def choices(self) -> Choices:
        """The deltas of every choice as they come. Closing the iterator stops them all."""
        if self.asked.num_choices == 1:
            async with aclosing(self._recorded(0)) as deltas:
                async for delta in deltas:
                    yield 0, delta
            return
        queue: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue()
        readers = [asyncio.create_task(self._read(choice, queue)) for choice in range(self.asked.num_choices)]
        try:
            running = len(readers)
            while running:
                choice, piece = await queue.get()
                if piece is None:
                    running -= 1
                elif isinstance(piece, BaseException):
                    raise piece
                else:
                    yield choice, piece
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _read(self, choice: int, queue: asyncio.Queue[tuple[int, Delta | BaseException | None]]) -> None:
        try:
            async with aclosing(self._recorded(choice)) as deltas:
                async for delta in deltas:
                    queue.put_nowait((choice, delta))
            queue.put_nowait((choice, None))
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads the queue
            queue.put_nowait((choice, error))

    async def _recorded(self, choice: int) -> AsyncGenerator[Delta, None]:
        """One choice, written down however it ends."""
        sampling = self.asked.sampling
        if choice and sampling.seed is not None:
            sampling = msgspec.structs.replace(sampling, seed=(sampling.seed + choice) % 2**31)
        texts: list[str] = []
        first_at, last, error = 0.0, Delta(""), "left"
        try:
            async with aclosing(self._answerer.stream(self.prepared, sampling)) as deltas:
                async for delta in deltas:
                    first_at = first_at or time.monotonic()
                    texts.append(delta.text)
                    if delta.finish_reason is not None:
                        last, error = delta, ""
                    yield delta
        except Exception as failure:
            error = type(failure).__name__
            raise
        finally:
            self._record(choice, sampling, "".join(texts), last, error or None, first_at)

    def _record(
        self, choice: int, sampling: Sampling, completion: str, last: Delta, error: str | None, first_at: float
    ) -> None:
        asked, prepared, end = self.asked, self.prepared, time.monotonic()
        self._ledger.record(
            Answer(
                id=self.id,
                choice=choice,
                created_at=self.created_at,
                route=asked.route,
                owner=asked.caller.key_id,
                domain=asked.model.domain,
                mode=asked.model.mode.name,
                adapter=prepared.adapter,
                epoch=prepared.epoch,
                engine=self.engine,
                prompts_version=PROMPTS_VERSION,
                prompt_hash=digest_of(prepared.messages),
                task=asked.task.name,
                conversation=asked.conversation,
                groups=asked.caller.groups,
                chunk_ids=tuple(passage.chunk_id for passage in prepared.passages),
                sampling=sampling,
                completion=completion,
                finish_reason=last.finish_reason,
                error=error,
                abstained=prepared.abstention is not None,
                evidence=prepared.evidence,
                prompt_tokens=last.prompt_tokens,
                cached_tokens=last.cached_tokens,
                completion_tokens=last.completion_tokens,
                prepare_ms=(self._prepared_at - self._start) * 1000,
                first_token_ms=((first_at or end) - self._start) * 1000,
                total_ms=(end - self._start) * 1000,
                engine_seconds=last.engine_seconds,
                user=asked.user,
                metadata=asked.metadata,
            )
        )
