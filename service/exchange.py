"""One request from question to stored answer, whatever its route: prepare, generate `n` choices, write each down.

The routes differ in their wire forms only: each reads a request into an `Asked`, and puts the deltas of the `Exchange`
that comes of it into its own frames.
"""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import Struct

from bakeoff.artefacts import digest_of
from bakeoff.errors import BadInput, TookTooLong
from bakeoff.modes import ModelName
from bakeoff.prompts import PROMPTS_VERSION
from bakeoff.records import Delta, Message, Sampling
from bakeoff.tasks import ANSWER, Task
from service.answer import EVERYTHING, Answerer, Narrowing, Prepared
from service.callers import OPEN, Caller
from service.facts import current_facts
from service.generator import Generator
from service.ledger import Answer, Ledger, now
from service.merging import Bell, merge

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
    narrowing: Narrowing = EVERYTHING
    is_streamed: bool = True
    """Whether the client reads the answer while it is made."""
    num_choices: int = 1
    first_choice: int = 0
    """Number of its first choice, where several questions are answered under one id."""
    id: str = ""
    """Of the answer; made up where there is none."""
    caller: Caller = OPEN
    user: str = ""
    metadata: dict[str, str] = {}


class AskLimits(Struct, frozen=True):
    """How much one request may ask."""

    max_messages: int = 512
    max_message_chars: int = 200_000
    answer_timeout_s: float = 600
    """From the request to the end of the answer; 0 for no limit."""


class Exchanges:
    """Begins exchanges."""

    def __init__(
        self, answerer: Answerer, generator: Generator, ledger: Ledger, limits: AskLimits | None = None
    ) -> None:
        """Take what every exchange stands on."""
        self._answerer = answerer
        self._generator = generator
        self._ledger = ledger
        self._limits = limits or AskLimits()

    async def begin(self, asked: Asked) -> "Exchange":
        """Resolve the model, retrieve and render; see `Answerer.prepare` for what is refused.

        Raises:
            BadInput: too many messages, or too long a one.
        """
        start = time.monotonic()
        _check_size(asked, self._limits)
        prepared = await self._answerer.prepare(
            asked.model, asked.conversation, asked.caller.groups, asked.task, asked.narrowing
        )
        deadline = start + self._limits.answer_timeout_s if self._limits.answer_timeout_s else None
        return Exchange(asked, prepared, self._answerer, self._generator.name, self._ledger, start, deadline)


class Exchange:
    """A question that is being answered."""

    def __init__(
        self,
        asked: Asked,
        prepared: Prepared,
        answerer: Answerer,
        engine: str,
        ledger: Ledger,
        start: float,
        deadline: float | None = None,
    ) -> None:
        """Remember; `choices` begins to generate.

        Args:
            deadline: when the answer has to be finished, of the same clock as `start`; None: whenever it is.
        """
        self.id = asked.id or asked.prefix + secrets.token_hex(16)
        self.created_at = now()
        self.asked = asked
        self.prepared = prepared
        self.engine = engine
        self._answerer = answerer
        self._ledger = ledger
        self._start = start
        self._deadline = deadline
        self._prepared_at = time.monotonic()
        facts = current_facts()
        facts.answer_id, facts.domain = self.id, asked.model.domain
        facts.mode, facts.adapter = asked.model.mode.name, prepared.adapter

    @property
    def created(self) -> int:
        """Seconds since 1970."""
        return int(self.created_at.timestamp())

    def choices(self) -> Choices:
        """The deltas of every choice as they come. Closing the iterator stops them all."""
        return merge([self._recorded(choice) for choice in range(self.asked.num_choices)])

    async def _recorded(self, choice: int) -> AsyncGenerator[Delta, None]:
        """One choice, written down however it ends."""
        sampling = self.asked.sampling
        if choice and sampling.seed is not None:
            sampling = msgspec.structs.replace(sampling, seed=(sampling.seed + choice) % 2**31)
        texts: list[str] = []
        first_at, last, error = 0.0, Delta(""), "left"
        bell = Bell(self._deadline)
        try:
            whole = not self.asked.is_streamed
            async with aclosing(self._answerer.stream(self.prepared, sampling, whole=whole)) as deltas:
                while (delta := await bell.wait(deltas)) is not None:
                    first_at = first_at or time.monotonic()
                    texts.append(delta.text)
                    if delta.finish_reason is not None:
                        last, error = delta, ""
                    yield delta
        except TimeoutError as failure:
            error = TookTooLong.__name__
            limit_s = (self._deadline or self._start) - self._start
            raise TookTooLong(
                f"the answer was not finished within {limit_s:g} s, the limit of this service; "
                "ask for less, for example with max_tokens"
            ) from failure
        except Exception as failure:
            error = type(failure).__name__
            raise
        finally:
            bell.stop()
            self._record(choice, sampling, "".join(texts), last, error or None, first_at)

    def _record(
        self, choice: int, sampling: Sampling, completion: str, last: Delta, error: str | None, first_at: float
    ) -> None:
        asked, prepared, end = self.asked, self.prepared, time.monotonic()
        facts = current_facts()
        facts.prompt_tokens += last.prompt_tokens
        facts.cached_tokens += last.cached_tokens
        facts.completion_tokens += last.completion_tokens
        facts.engine_seconds += last.engine_seconds
        facts.error = error or facts.error
        if first_at:
            first_token_ms = (first_at - self._start) * 1000
            facts.first_token_ms = min(facts.first_token_ms or first_token_ms, first_token_ms)
        self._ledger.record(
            Answer(
                id=self.id,
                choice=self.asked.first_choice + choice,
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


_CONVERSATION_PARAM = {"completions": "prompt", "responses": "input"}


def _check_size(asked: Asked, limits: AskLimits) -> None:
    param = _CONVERSATION_PARAM.get(asked.route, "messages")
    num_messages, longest = len(asked.conversation), max((len(turn.content) for turn in asked.conversation), default=0)
    if num_messages > limits.max_messages:
        raise BadInput(f"{num_messages} messages are more than the {limits.max_messages} a request may have", param)
    if longest > limits.max_message_chars:
        sentence = f"a message of {longest} characters is longer than the {limits.max_message_chars} it may have"
        raise BadInput(sentence, param)
