"""`/v1/models`: every mode of every domain is a model name that can be asked; so are the embedder and the aliases."""

from typing import Literal
from urllib.parse import unquote

from litestar import delete, get
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import Engine

from bakeoff.adapters import find_adapter, unregister_adapter
from bakeoff.artefacts import delete_adapter_files
from bakeoff.database import reading, writing
from bakeoff.errors import BadInput
from bakeoff.modes import ModelName
from bakeoff.prompts import PROMPTS_VERSION
from bakeoff.settings import Settings
from service.answer import Answerer
from service.callers import Caller
from service.catalogue import ModelState
from service.generator import Generator
from service.openai.aliases import embedder_name, find_model_name, read_aliases

EMBEDDER_CREATED = 1_630_000_000
"""Seconds since 1970 that the embedder's entry names: there is no row that says when it came."""


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
    """A model name that can be asked, or an embedder."""

    id: str
    created: int
    bakeoff: ModelFacts | UnsetType = UNSET
    """Of a model that answers."""
    object: Literal["model"] = "model"
    owned_by: str = "bakeoff"


class ModelList(Struct, frozen=True):
    """Answer of `GET /v1/models`."""

    data: list[Model]
    object: Literal["list"] = "list"


class DeletedModel(Struct, frozen=True):
    """Answer of `DELETE /v1/models/{model}`."""

    id: str
    deleted: bool = True
    object: Literal["model"] = "model"


@get("/v1/models", operation_id="ListModels", tags=["models"], sync_to_thread=True)
def list_models(
    answerer: NamedDependency[Answerer],
    generator: NamedDependency[SkipValidation[Generator]],
    caller: NamedDependency[Caller],
    settings: NamedDependency[Settings],
) -> ModelList:
    """List every mode of every domain, the embedder, and other names that the service was given for them.

    `bakeoff.ready` says whether a mode can answer now.
    """
    states = answerer.list_models(caller.groups)
    models = [_model(_name(state), state, answerer, generator) for state in states]
    models.append(_embedder_model(embedder_name(settings)))
    known = {model.id: model for model in models}
    for alias, target in read_aliases(settings).items():
        if target in known and alias not in known:
            models.append(Model(alias, known[target].created, known[target].bakeoff))
    return ModelList(models)


@get("/v1/models/{model:path}", operation_id="RetrieveModel", tags=["models"], sync_to_thread=True)
def retrieve_model(
    model: FromPath[str],
    answerer: NamedDependency[Answerer],
    generator: NamedDependency[SkipValidation[Generator]],
    caller: NamedDependency[Caller],
    settings: NamedDependency[Settings],
) -> Model:
    """Describe one model, pinned to an adapter or not, by its name or an alias."""
    asked = unquote(model.removeprefix("/"))
    if read_aliases(settings).get(asked, asked) == embedder_name(settings):
        return _embedder_model(asked)
    name = find_model_name(asked, settings)
    is_alias = asked in read_aliases(settings)
    return _model(asked if is_alias else str(name), answerer.find_model(name, caller.groups), answerer, generator)


@delete(
    "/v1/models/{model:path}",
    status_code=HTTP_200_OK,
    operation_id="DeleteModel",
    tags=["models"],
    sync_to_thread=True,
)
def delete_model(
    model: FromPath[str],
    database: NamedDependency[Engine],
    caller: NamedDependency[Caller],
    settings: NamedDependency[Settings],
) -> DeletedModel:
    """Delete a fine-tuned model: a model name pinned to an adapter that serves no domain. Its events stay."""
    caller.check_manages()
    asked = unquote(model.removeprefix("/"))
    name = find_model_name(asked, settings)
    if name.adapter is None:
        raise BadInput(
            f"{name} is not one fine-tuned model; name the adapter to delete, as in {name.domain}/hybrid@DIGEST",
            param="model",
        )
    with reading(database) as connection:
        adapter = find_adapter(connection, settings.home, name.domain, name.adapter)
    with writing(database) as connection:
        is_last = unregister_adapter(connection, adapter.domain, adapter.digest, "deleted through the API")
    if is_last:
        delete_adapter_files(settings.home, adapter.digest)
    return DeletedModel(asked)


def _name(state: ModelState) -> str:
    return str(ModelName(state.domain.name, state.mode))


def _embedder_model(name: str) -> Model:
    return Model(name, EMBEDDER_CREATED)


def _model(id_: str, state: ModelState, answerer: Answerer, generator: Generator) -> Model:
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
    return Model(id_, int(domain.created_at.timestamp()), facts)
