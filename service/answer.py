"""Mode -> passages -> messages -> completion. Knows no HTTP.

A model name is resolved against the database at every request, so that a new document, epoch or adapter counts from the
next one on, in every replica. So does a change of who may see a document, for the adapters that learned from it.
"""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import anyio.to_thread
import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine

from bakeoff.adapters import find_adapter
from bakeoff.artefacts import digest_of
from bakeoff.domains import Domain, find_domain, list_domains
from bakeoff.errors import BakeoffError, NotReady
from bakeoff.modes import MODES, Mode, ModelName
from bakeoff.prompts import render_messages
from bakeoff.records import Delta, Example, Message, Passage, Sampling
from bakeoff.tasks import ANSWER, Task
from retrieval.audience import describe_restrictions
from retrieval.embedder import Embedder
from retrieval.followup import search_text
from retrieval.permissions import caller_groups
from retrieval.retriever import Retriever, SearchOptions
from retrieval.shots import hash_shots, nearest_shots
from service.audience import Audiences
from service.generator import Generator

EVERY_CALLER = caller_groups()
"""The groups of a caller of whom nothing is known."""


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


class Lack(Struct, frozen=True):
    """Why a mode cannot answer yet."""

    reason: str
    command: str
    """What makes it ready, typed into a terminal."""

    def __str__(self) -> str:
        return f"{self.reason}; make it ready with: {self.command}"


class ModelState(Struct, frozen=True):
    """One mode of one domain, and whether it can answer now."""

    domain: Domain
    mode: Mode
    lack: Lack | None
    """What keeps it from answering; None when it can."""
    shots: str | None = None
    """Digest of the examples that a mode with shots chooses from."""
    num_leaks: int = 0
    """Pairs of a test question and a training example that its adapter was allowed to learn from."""


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
        self._home = home
        self._audiences = Audiences(home)
        self._abstention = abstention
        self.search_options = search_options
        self.num_shots = num_shots

    async def prepare(
        self,
        model: ModelName,
        conversation: Sequence[Message],
        groups: frozenset[str] = EVERY_CALLER,
        task: Task = ANSWER,
    ) -> Prepared:
        """Resolve the model, fetch what its mode puts before the question, and render the messages.

        Args:
            groups: of the caller; see `permissions.caller_groups`.
            task: what the last message asks for.

        Raises:
            NotFound: no such domain or pinned adapter.
            NotReady: the mode needs an adapter or training examples that the domain does not have yet, or an adapter
                that may not answer this caller.
        """
        return await anyio.to_thread.run_sync(self._prepare, model, conversation, groups, task)

    def stream(self, prepared: Prepared, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """Generate the answer, or abstain; see `Generator.stream`."""
        if prepared.abstention is not None:
            return _say(prepared.abstention)
        return self._generator.stream(prepared.messages, prepared.adapter, sampling, prepared.salt)

    def hash_retrieval(self, domain: str) -> str:
        """Digest of what the passages of a question depend on, beside the documents, and of the abstention."""
        return digest_of((self._retriever.describe(domain), self.search_options, self._abstention))

    def list_models(self, groups: frozenset[str] = EVERY_CALLER) -> list[ModelState]:
        """Every mode of every domain, as a caller of these groups finds it."""
        with self._engine.connect() as connection:
            domains = list_domains(connection)
        return [state for domain in domains for state in self._states(domain, groups)]

    def find_model(self, model: ModelName, groups: frozenset[str] = EVERY_CALLER) -> ModelState:
        """The state of one model, as a caller of these groups finds it.

        Raises:
            NotFound: no such domain or pinned adapter.
        """
        with self._engine.connect() as connection:
            domain = find_domain(connection, model.domain)
            if model.adapter:
                domain = msgspec.structs.replace(domain, adapter=self._pinned(model))
        return next(state for state in self._states(domain, groups) if state.mode == model.mode)

    def _prepare(
        self, model: ModelName, conversation: Sequence[Message], groups: frozenset[str], task: Task
    ) -> Prepared:
        state = self.find_model(model, groups)
        if state.lack is not None:
            raise NotReady(str(state.lack))
        question = conversation[-1].content
        epoch = state.domain.epoch
        passages: tuple[Passage, ...] = ()
        evidence: float | None = None
        abstention: str | None = None
        if model.mode.uses_retrieval:
            options = msgspec.structs.replace(self.search_options, groups=groups)
            result = self._retriever.search(model.domain, search_text(conversation), options)
            epoch, passages, evidence = result.epoch, result.passages, result.evidence
            abstention = None if result.is_answerable or task is not ANSWER else self._abstention
        shots: list[Example] = []
        if model.mode.uses_shots:
            shots = nearest_shots(self._engine, model.domain, question, self._embedder, self.num_shots, task.name)
        messages = render_messages(model.mode, conversation, passages, shots, task)
        adapter = state.domain.adapter if model.mode.uses_adapter else None
        salt = digest_of((model.domain, sorted(groups)))
        return Prepared(model, adapter, epoch, passages, messages, evidence, salt, abstention)

    def _states(self, domain: Domain, groups: frozenset[str]) -> list[ModelState]:
        shots = hash_shots(self._engine, domain.name, self._embedder.name)
        with self._engine.connect() as connection:
            adapter_lack = self._adapter_lack(connection, domain, groups)
        states = []
        for mode in MODES.values():
            lack = adapter_lack if mode.uses_adapter else None
            if mode.uses_shots:
                lack = lack or _shots_lack(domain, shots)
            num_leaks = self._audiences.num_leaks(domain.adapter) if mode.uses_adapter else 0
            states.append(ModelState(domain, mode, lack, shots if mode.uses_shots else None, num_leaks))
        return states

    def _adapter_lack(self, connection: Connection, domain: Domain, groups: frozenset[str]) -> Lack | None:
        """Why the domain's adapter cannot answer this caller."""
        digest = domain.adapter
        if digest is None:
            return Lack(f"no adapter is trained for {domain.name} yet", f"bakeoff train --domain {domain.name}")
        try:
            against = self._audiences.restrictions(connection, domain, digest, groups)
        except BakeoffError as error:  # one domain's damaged adapter must not keep the others from being listed
            return Lack(str(error), f"bakeoff adapters rollback --domain {domain.name}")
        if not against:
            return None
        return Lack(
            f"adapter {digest} {describe_restrictions(against)}, so it does not answer this caller unless an "
            "administrator lets it",
            f"bakeoff adapters open {digest} --domain {domain.name} --reason TEXT",
        )

    def _pinned(self, model: ModelName) -> str:
        assert model.adapter is not None
        with self._engine.connect() as connection:
            return find_adapter(connection, self._home, model.domain, model.adapter).digest


async def _say(text: str) -> AsyncGenerator[Delta, None]:
    """An answer that no model wrote."""
    yield Delta(text)
    yield Delta("", "stop")


def _shots_lack(domain: Domain, shots: str | None) -> Lack | None:
    if shots is not None:
        return None
    command = f"bakeoff examples import FILE --domain {domain.name} --split train"
    return Lack(f"{domain.name} has no training examples yet", command)
