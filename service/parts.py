"""Everything a running service is made of, made once from the settings; and how handlers get it."""

from typing import Any

from litestar.di import Provide
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Engine

from bakeoff.artefacts import adapters_dir, indexes_dir
from bakeoff.database import open_database
from bakeoff.models import find_embedder, find_model, find_reranker
from bakeoff.settings import Settings
from retrieval.embedder import Embedder, open_embedder
from retrieval.reranker import open_reranker
from retrieval.retriever import Retriever, SearchOptions
from service.answer import Answerer
from service.callers import provide_caller
from service.exchange import AskLimits, Exchanges
from service.generator import Generator
from service.job_board import JobBoard
from service.ledger import Ledger
from service.library import DatabaseLibrary
from service.openai.aliases import read_aliases
from service.openai.chat.stored import StoredCompletions
from service.openai.desk import Desk
from service.openai.files.cabinet import Cabinet
from service.openai.responses.store import ResponseStore
from service.openai.vector_stores.shelf import Shelf


class Parts(Struct, frozen=True, kw_only=True):
    """The parts, by the names under which handlers ask for them."""

    settings: Settings
    database: Engine
    embedder: Embedder
    generator: Generator
    retriever: Retriever
    answerer: Answerer
    ledger: Ledger
    exchanges: Exchanges
    desk: Desk
    library: DatabaseLibrary
    cabinet: Cabinet
    shelf: Shelf
    responses: ResponseStore
    stored_completions: StoredCompletions
    jobs: JobBoard

    @property
    def dependencies(self) -> dict[str, Provide]:
        """Each part as a dependency of its name, and the `caller`."""
        return {"caller": Provide(provide_caller), **{name: _provide(part) for name, part in asdict(self).items()}}


def make_parts(settings: Settings, generator: Generator | None, embedder: Embedder | None) -> Parts:
    """Make them all; nothing runs yet.

    Raises:
        NotReady: a model is missing; names the command that gets it.
        BadInput: an alias of a model that cannot be read.
    """
    read_aliases(settings)
    database = open_database(settings.url, settings.home)
    embedder = embedder or open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")
    generator = generator or make_generator(settings)
    answerer, retriever = make_answerer(settings, database, generator, embedder)
    ledger = Ledger(database)
    limits = AskLimits(settings.max_messages, settings.max_message_chars, settings.answer_timeout_s)
    exchanges = Exchanges(answerer, generator, ledger, limits)
    stored_completions = StoredCompletions(database)
    return Parts(
        settings=settings,
        database=database,
        embedder=embedder,
        generator=generator,
        retriever=retriever,
        answerer=answerer,
        ledger=ledger,
        exchanges=exchanges,
        desk=Desk(exchanges, generator, stored_completions, settings),
        library=DatabaseLibrary(database, answerer, settings.home),
        cabinet=Cabinet(database, settings.home, settings.max_file_mib),
        shelf=Shelf(database, settings.home, retriever, embedder),
        responses=ResponseStore(database),
        stored_completions=stored_completions,
        jobs=JobBoard(database),
    )


def make_answerer(
    settings: Settings, engine: Engine, generator: Generator, embedder: Embedder
) -> tuple[Answerer, Retriever]:
    """What turns questions into prompts and answers by these settings, and what searches for it."""
    reranker = open_reranker(find_reranker(settings))
    retriever = Retriever(engine, embedder, indexes_dir(settings.home), reranker=reranker, keeps=True)
    answerer = Answerer(
        engine=engine,
        generator=generator,
        retriever=retriever,
        embedder=embedder,
        home=settings.home,
        search_options=SearchOptions(top_k=settings.top_k, max_tokens=settings.passage_tokens),
        abstention=settings.abstention,
        num_shots=settings.num_shots,
    )
    return answerer, retriever


def make_generator(settings: Settings) -> Generator:
    """The engine that the settings name."""
    if settings.vllm_urls.strip(", "):
        from service.vllm.generator import VllmGenerator

        return VllmGenerator(settings, find_model(settings))
    from service.embedded.generator import EmbeddedGenerator

    return EmbeddedGenerator(
        model_dir=find_model(settings),
        engine_dir=settings.models / "engines",
        cache_dir=settings.home / "engines",
        find_adapter=lambda digest: adapters_dir(settings.home) / digest,
        precision=settings.engine_precision,
        threads=settings.engine_threads,
        cache_mib=settings.engine_cache_mib,
        max_adapters=settings.engine_adapters,
    )


def _provide(part: Any) -> Provide:
    async def provide() -> Any:
        return part

    return Provide(provide)
