"""`/v1/models`: every mode of every domain is a model name that can be asked."""

from typing import Literal

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from msgspec import Struct

from bakeoff.modes import ModelName, parse_model_name
from bakeoff.prompts import PROMPTS_VERSION
from service.answer import Answerer, ModelState
from service.callers import Caller
from service.generator import Generator


class ModelFacts(Struct, frozen=True):
    """Our own field of a model: what its answers depend on."""

    domain: str
    mode: str
    ready: bool
    reason: str | None
    """Why it is not ready, with the command that helps."""
    adapter: str | None
    epoch: int
    engine: str
    base_model: str
    prompts_version: int
    top_k: int | None
    retrieval: str | None
    """Digest of how the domain is searched, and of when it abstains."""
    num_shots: int | None
    shots: str | None
    """Digest of the training examples that the shots are chosen from."""
    leaks: int = 0
    """Pairs of a test question and a training example that its adapter was allowed to learn from."""


class Model(Struct, frozen=True):
    """A model name that can be asked."""

    id: str
    created: int
    bakeoff: ModelFacts
    object: Literal["model"] = "model"
    owned_by: str = "bakeoff"


class ModelList(Struct, frozen=True):
    """Answer of `GET /v1/models`."""

    data: list[Model]
    object: Literal["list"] = "list"


@get("/v1/models", operation_id="ListModels", tags=["models"], sync_to_thread=True)
def list_models(
    answerer: NamedDependency[Answerer],
    generator: NamedDependency[SkipValidation[Generator]],
    caller: NamedDependency[Caller],
) -> ModelList:
    """List every mode of every domain; `bakeoff.ready` says whether it can answer now."""
    return ModelList([_model(state, answerer, generator) for state in answerer.list_models(caller.groups)])


@get("/v1/models/{model:path}", operation_id="RetrieveModel", tags=["models"], sync_to_thread=True)
def retrieve_model(
    model: FromPath[str],
    answerer: NamedDependency[Answerer],
    generator: NamedDependency[SkipValidation[Generator]],
    caller: NamedDependency[Caller],
) -> Model:
    """Describe one model, pinned to an adapter or not."""
    name = parse_model_name(model.removeprefix("/"))
    return _model(answerer.find_model(name, caller.groups), answerer, generator, name)


def _model(state: ModelState, answerer: Answerer, generator: Generator, name: ModelName | None = None) -> Model:
    domain, mode = state.domain, state.mode
    engine, _, base_model = generator.name.partition(":")
    facts = ModelFacts(
        domain=domain.name,
        mode=mode.name,
        ready=state.lack is None,
        reason=None if state.lack is None else str(state.lack),
        adapter=domain.adapter if mode.uses_adapter else None,
        epoch=domain.epoch,
        engine=engine,
        base_model=base_model,
        prompts_version=PROMPTS_VERSION,
        top_k=answerer.search_options.top_k if mode.uses_retrieval else None,
        retrieval=answerer.hash_retrieval(domain.name) if mode.uses_retrieval else None,
        num_shots=answerer.num_shots if mode.uses_shots else None,
        shots=state.shots,
        leaks=state.num_leaks,
    )
    return Model(str(name or ModelName(domain.name, mode)), int(domain.created_at.timestamp()), facts)
