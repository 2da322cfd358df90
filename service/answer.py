"""Mode -> passages -> messages -> completion. Knows no HTTP.

A model name is resolved against the database at every request, so that a new document, epoch or adapter counts from the
next one on, in every replica. So does a change of who may see a document, for the adapters that learned from it.
"""

from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache
from pathlib import Path

import anyio.to_thread
import msgspec
from msgspec import Struct
from sqlalchemy import Engine

from bakeoff.artefacts import digest_of
from bakeoff.errors import NotReady
from bakeoff.modes import ModelName
from bakeoff.prompts import find_question, render_messages
from bakeoff.records import Delta, Example, Message, Passage, Sampling
from bakeoff.tasks import ANSWER, Task
from retrieval.embedder import Embedder
from retrieval.followup import search_text
from retrieval.permissions import caller_groups
from retrieval.retriever import Retriever, SearchOptions
from retrieval.shots import nearest_shots
from service.catalogue import Catalogue, ModelState
from service.generator import Generator

EVERY_CALLER = caller_groups()
"""The groups of a caller of whom nothing is known."""


class Narrowing(Struct, frozen=True):
    """What a request asks of the search before its answer, beside the question."""

    top_k: int | None = None
    """Most passages wanted; None for the service's own number."""
    min_score: float = 0.0
    """Passages below are left out."""
    only: frozenset[str] | None = None
    """Documents to search; None for all."""
    epoch: int | None = None
    """An epoch of the past; None searches the newest."""


EVERYTHING = Narrowing()
"""A search of the whole domain."""


class Prepared(Struct, frozen=True):
    """Everything an answer is made from, before the model is asked."""

    model: ModelName
    adapter: str | None
    epoch: int
    passages: tuple[Passage, ...]
    messages: tuple[Message, ...]
    evidence: float | None = None
    """How likely a passage holds the answer, 0 to 1; None in modes without retrieval."""
    salt: str = ""
    """Of the engine's prefix cache: shared by the callers who may see the same of this domain, and by nobody else."""
    abstention: str | None = None
    """What is answered instead of asking the model, where the evidence is too weak."""


class Answerer:
    """Answers questions of every domain; holds the engine, the retriever and the database."""

    def __init__(
        self,
        *,
        engine: Engine,
        generator: Generator,
        retriever: Retriever,
        embedder: Embedder,
        home: Path,
        search_options: SearchOptions,
        abstention: str,
        num_shots: int,
    ) -> None:
        self._engine = engine
        self._generator = generator
        self._retriever = retriever
        self._embedder = embedder
        self._catalogue = Catalogue(engine, home, embedder.name)
        self._abstention = abstention
        self.search_options = search_options
        self.num_shots = num_shots

    async def prepare(
        self,
        model: ModelName,
        conversation: Sequence[Message],
        groups: frozenset[str] = EVERY_CALLER,
        task: Task = ANSWER,
        narrowing: Narrowing = EVERYTHING,
    ) -> Prepared:
        """Resolve the model, fetch what its mode puts before the question, and render the messages.

        Args:
            groups: of the caller; see `permissions.caller_groups`.
            task: what the last message asks for.
            narrowing: what a mode with retrieval is to look for passages in.

        Raises:
            NotFound: no such domain or pinned adapter.
            NotReady: the mode needs an adapter or training examples that the domain does not have yet, or an adapter
                that may not answer this caller.
        """
        if not model.mode.uses_retrieval and not model.mode.uses_shots:
            known = self._catalogue.peek(model, groups)
            if known is not None:  # nothing is searched or read: not worth a thread
                return self._render(known, model, conversation, groups, task, narrowing)
        return await anyio.to_thread.run_sync(self._prepare, model, conversation, groups, task, narrowing)

    def stream(self, prepared: Prepared, sampling: Sampling, *, whole: bool = False) -> AsyncGenerator[Delta, None]:
        """Generate the answer, or abstain; see `Generator.stream`."""
        if prepared.abstention is not None:
            return _say(prepared.abstention)
        return self._generator.stream(prepared.messages, prepared.adapter, sampling, prepared.salt, whole=whole)

    def hash_retrieval(self, domain: str) -> str:
        """Digest of what the passages of a question depend on, beside the documents, and of the abstention."""
        return digest_of((self._retriever.describe(domain), self.search_options, self._abstention))

    def list_models(self, groups: frozenset[str] = EVERY_CALLER) -> list[ModelState]:
        """Every mode of every domain, as a caller of these groups finds it."""
        return self._catalogue.list_all(groups)

    def find_model(self, model: ModelName, groups: frozenset[str] = EVERY_CALLER) -> ModelState:
        """The state of one model, as a caller of these groups finds it.

        Raises:
            NotFound: no such domain or pinned adapter.
        """
        return self._catalogue.find(model, groups)

    def _prepare(
        self,
        model: ModelName,
        conversation: Sequence[Message],
        groups: frozenset[str],
        task: Task,
        narrowing: Narrowing,
    ) -> Prepared:
        return self._render(self._catalogue.find(model, groups), model, conversation, groups, task, narrowing)

    def _render(
        self,
        state: ModelState,
        model: ModelName,
        conversation: Sequence[Message],
        groups: frozenset[str],
        task: Task,
        narrowing: Narrowing,
    ) -> Prepared:
        if state.lack is not None:
            raise NotReady(str(state.lack))
        question = conversation[find_question(conversation)].content
        epoch = state.domain.epoch
        passages: tuple[Passage, ...] = ()
        evidence: float | None = None
        abstention: str | None = None
        if model.mode.uses_retrieval:
            top_k = narrowing.top_k or self.search_options.top_k
            options = msgspec.structs.replace(
                self.search_options, groups=groups, top_k=top_k, only=narrowing.only, epoch=narrowing.epoch
            )
            result = self._retriever.search(model.domain, search_text(conversation), options)
            passages = tuple(passage for passage in result.passages if passage.score >= narrowing.min_score)
            epoch, evidence = result.epoch, result.evidence
            may_abstain = task is ANSWER and conversation[-1].role != "tool"  # a tool may say what no document does
            abstention = self._abstention if may_abstain and not result.is_answerable else None
        shots: list[Example] = []
        if model.mode.uses_shots:
            shots = nearest_shots(self._engine, model.domain, question, self._embedder, self.num_shots, task.name)
        messages = render_messages(model.mode, conversation, passages, shots, task)
        adapter = state.domain.adapter if model.mode.uses_adapter else None
        return Prepared(model, adapter, epoch, passages, messages, evidence, _salt(model.domain, groups), abstention)


@lru_cache(maxsize=10_000)
def _salt(domain: str, groups: frozenset[str]) -> str:
    return digest_of((domain, sorted(groups)))


async def _say(text: str) -> AsyncGenerator[Delta, None]:
    """An answer that no model wrote."""
    yield Delta(text)
    yield Delta("", "stop")
