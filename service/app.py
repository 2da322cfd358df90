"""The chat service: one Litestar application over one database, one retriever and one generator.

`create_app` wires; the lifespan loads the model before the first request is taken, and watches for adapters promoted
while it runs, so that a freshly trained one answers without a restart. The service keeps no state of its own: any
number of replicas may stand on one database.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio.to_thread
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from bakeoff.adapters import registered_digests
from bakeoff.artefacts import adapters_dir, indexes_dir
from bakeoff.database import open_database, reading
from bakeoff.domains import list_domains
from bakeoff.errors import BakeoffError
from bakeoff.models import find_embedder, find_model, find_reranker
from bakeoff.settings import Settings
from retrieval.embedder import Embedder, open_embedder
from retrieval.reranker import open_reranker
from retrieval.retriever import Retriever, SearchOptions
from service.answer import Answerer
from service.callers import provide_caller
from service.described import describe_routes
from service.exchange import AskLimits, Exchanges
from service.failures import handle_exception
from service.generator import Generator
from service.guard import Guard
from service.health import check_live, check_ready
from service.job_board import JobBoard
from service.job_routes import job_routes
from service.ledger import Ledger
from service.library import DatabaseLibrary
from service.openai.aliases import read_aliases
from service.openai.chat.routes import create_chat_completion
from service.openai.chat.stored import StoredCompletions
from service.openai.chat.stored_routes import stored_chat_routes
from service.openai.completions.routes import create_completion
from service.openai.desk import Desk
from service.openai.embeddings import create_embedding
from service.openai.files.cabinet import Cabinet
from service.openai.files.routes import file_routes
from service.openai.fine_tuning.routes import fine_tuning_routes
from service.openai.models import delete_model, list_models, retrieve_model
from service.openai.responses.routes import response_routes
from service.openai.responses.store import ResponseStore
from service.openai.vector_stores.batch_routes import vector_store_batch_routes
from service.openai.vector_stores.file_routes import vector_store_file_routes
from service.openai.vector_stores.routes import vector_store_routes
from service.openai.vector_stores.search import search_vector_store
from service.openai.vector_stores.shelf import Shelf
from service.web.pages import Library, page_routes, page_template_config

logger = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
REFRESH_EVERY_S = 0.25


def create_app(
    settings: Settings,
    *,
    generator: Generator | None = None,
    embedder: Embedder | None = None,
    lenient: bool = False,
    token: str = "",
) -> Litestar:
    """Build the application.

    Args:
        generator: what runs the model; the embedded engine by default.
        embedder: what searches; the configured one by default.
        lenient: accept parameters that cannot be heeded, and name them; for tests only, see `openai.unsupported`.
        token: opens the service beside its keys, for the process that started it.

    Raises:
        NotReady: a model is missing; names the command that gets it.
        BadInput: an alias of a model that cannot be read.
    """
    read_aliases(settings)
    engine = open_database(settings.url, settings.home)
    embedder = embedder or open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")
    generator = generator or make_generator(settings)
    answerer, retriever = make_answerer(settings, engine, generator, embedder)
    ledger = Ledger(engine)
    limits = AskLimits(settings.max_messages, settings.max_message_chars, settings.answer_timeout_s)
    exchanges = Exchanges(answerer, generator, ledger, limits)
    guard = Guard(settings, engine, generator, ledger, token)
    library = DatabaseLibrary(engine, answerer, settings.home)
    cabinet = Cabinet(engine, settings.home, settings.max_file_mib)
    shelf = Shelf(engine, settings.home, retriever, embedder)
    responses = ResponseStore(engine)
    stored_completions = StoredCompletions(engine)

    job_board = JobBoard(engine)

    async def provide_jobs() -> JobBoard:
        return job_board

    desk = Desk(exchanges, generator, stored_completions, settings)

    async def provide_desk() -> Desk:
        return desk

    async def provide_answerer() -> Answerer:
        return answerer

    async def provide_exchanges() -> Exchanges:
        return exchanges

    async def provide_generator() -> Generator:
        return generator

    async def provide_settings() -> Settings:
        return settings

    async def provide_library() -> Library:
        return library

    async def provide_cabinet() -> Cabinet:
        return cabinet

    async def provide_shelf() -> Shelf:
        return shelf

    async def provide_responses() -> ResponseStore:
        return responses

    async def provide_stored_completions() -> StoredCompletions:
        return stored_completions

    async def provide_embedder() -> Embedder:
        return embedder

    async def provide_database() -> Engine:
        return engine

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
        ledger.start()
        await generator.start()
        await anyio.to_thread.run_sync(_warm_up, engine, embedder)
        watchers = (
            asyncio.create_task(_watch_adapters(engine, generator)),
            asyncio.create_task(_watch_documents(engine, retriever)),
            asyncio.create_task(cabinet.sweep_for_ever()),
        )
        gc.collect()
        gc.freeze()  # what is there now stays: no collection has to look at it again
        app.state.is_ready = True
        logger.info("ready engine=%s home=%s", generator.name, settings.home)
        try:
            yield
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            await generator.close()
            await anyio.to_thread.run_sync(ledger.close)
            engine.dispose()

    app = Litestar(
        # At once: handlers of one path that are registered one by one are wrapped for threads again each time.
        route_handlers=[
            Router(
                "/",
                route_handlers=describe_routes(
                    [
                        *guard.routes,
                        create_chat_completion,
                        *stored_chat_routes,
                        create_completion,
                        create_embedding,
                        *response_routes,
                        *fine_tuning_routes,
                        *job_routes,
                        *file_routes,
                        *vector_store_routes,
                        *vector_store_file_routes,
                        *vector_store_batch_routes,
                        search_vector_store,
                        list_models,
                        retrieve_model,
                        delete_model,
                        check_live,
                        check_ready,
                        *page_routes,
                    ]
                ),
            )
        ],
        dependencies={
            "answerer": Provide(provide_answerer),
            "caller": Provide(provide_caller),
            **guard.dependencies,
            "desk": Provide(provide_desk),
            "exchanges": Provide(provide_exchanges),
            "jobs": Provide(provide_jobs),
            "generator": Provide(provide_generator),
            "settings": Provide(provide_settings),
            "library": Provide(provide_library),
            "cabinet": Provide(provide_cabinet),
            "shelf": Provide(provide_shelf),
            "responses": Provide(provide_responses),
            "stored_completions": Provide(provide_stored_completions),
            "embedder": Provide(provide_embedder),
            "database": Provide(provide_database),
        },
        lifespan=[lifespan],
        state=State({"is_ready": False, "lenient": lenient}),
        exception_handlers={Exception: handle_exception},
        template_config=page_template_config,
        openapi_config=OpenAPIConfig(
            title="Bakeoff",
            version=version("bakeoff"),
            use_handler_docstrings=True,
            render_plugins=[JsonRenderPlugin()],
        ),
        logging_config=None,
        request_max_body_size=settings.max_body_mib * 2**20,
    )
    return guard.stand_before(app)


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


def _warm_up(engine: Engine, embedder: Embedder) -> None:
    """Load the embedder before the first question; not at all where no domain has anything to search."""
    with reading(engine) as connection:
        is_searched = any(domain.epoch for domain in list_domains(connection))
    if is_searched:
        embedder.embed(["warm up"])


async def _watch_adapters(engine: Engine, generator: Generator) -> None:
    """Load each domain's adapter as soon as it is promoted, before the first question to it; let go of removed ones.

    One that cannot be loaded is logged, and every question to it says why; it holds up no other domain's.
    """

    def look() -> tuple[set[str], set[str]]:
        with reading(engine) as connection:
            promoted = {domain.adapter for domain in list_domains(connection) if domain.adapter is not None}
            return promoted, registered_digests(connection)

    loaded: set[str] = set()
    known: set[str] = set()
    while True:
        try:
            promoted, registered = await anyio.to_thread.run_sync(look)
        except SQLAlchemyError as error:
            logger.error("adapters cannot be read error=%s", error)
            promoted, registered = loaded, known
        for adapter in sorted(promoted - loaded):
            [failure] = await asyncio.gather(generator.load(adapter), return_exceptions=True)
            if failure is None:
                logger.info("loaded adapter=%s", adapter)
            else:
                logger.error("adapter cannot be loaded adapter=%s error=%s", adapter, failure)
        for adapter in sorted(known - registered):
            await asyncio.gather(generator.unload(adapter), return_exceptions=True)
            logger.info("let go of removed adapter=%s", adapter)
        loaded, known = promoted, registered
        await asyncio.sleep(WATCH_EVERY_S)


async def _watch_documents(engine: Engine, retriever: Retriever) -> None:
    """Bring each domain's index level with its documents as they change, so that no question has to wait for it."""

    def refresh() -> None:
        with engine.connect() as connection:
            domains = [domain for domain in list_domains(connection) if domain.epoch]
        for domain in domains:
            try:
                retriever.refresh(domain.name)
                failing.discard(domain.name)
            except (BakeoffError, SQLAlchemyError) as error:
                if domain.name not in failing:
                    failing.add(domain.name)
                    logger.error("index cannot be refreshed domain=%s error=%s", domain.name, error)

    failing: set[str] = set()
    while True:
        await anyio.to_thread.run_sync(refresh)
        await asyncio.sleep(REFRESH_EVERY_S)
