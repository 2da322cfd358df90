"""The chat service: one Litestar application over one database, one retriever and one generator.

`create_app` wires; the lifespan loads the model before the first request is taken, and watches for adapters promoted
while it runs, so that a freshly trained one answers without a restart. The service keeps no state of its own: any
number of replicas may stand on one database.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio.to_thread
from litestar import Litestar
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
from service.exchange import Exchanges
from service.failures import handle_exception
from service.generator import Generator
from service.health import check_live, check_ready
from service.ledger import Ledger
from service.library import DatabaseLibrary
from service.openai.chat.routes import create_chat_completion
from service.openai.models import list_models, retrieve_model
from service.web.pages import Library, page_routes, page_template_config

logger = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
REFRESH_EVERY_S = 0.25
MAX_BODY_BYTES = 4 * 2**20


def create_app(settings: Settings, *, generator: Generator | None = None, embedder: Embedder | None = None) -> Litestar:
    """Build the application.

    Args:
        generator: what runs the model; the embedded engine by default.
        embedder: what searches; the configured one by default.

    Raises:
        NotReady: a model is missing; names the command that gets it.
    """
    engine = open_database(settings.url, settings.home)
    embedder = embedder or open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")
    generator = generator or _embedded_generator(settings)
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
    ledger = Ledger(engine)
    exchanges = Exchanges(answerer, generator, ledger)
    library = DatabaseLibrary(engine, answerer, settings.home)

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

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
        ledger.start()
        await generator.start()
        await anyio.to_thread.run_sync(embedder.embed, ["warm up"])
        watchers = (
            asyncio.create_task(_watch_adapters(engine, generator)),
            asyncio.create_task(_watch_documents(engine, retriever)),
        )
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

    return Litestar(
        route_handlers=[create_chat_completion, list_models, retrieve_model, check_live, check_ready, *page_routes],
        dependencies={
            "answerer": Provide(provide_answerer),
            "caller": Provide(provide_caller),
            "exchanges": Provide(provide_exchanges),
            "generator": Provide(provide_generator),
            "settings": Provide(provide_settings),
            "library": Provide(provide_library),
        },
        lifespan=[lifespan],
        state=State({"is_ready": False}),
        exception_handlers={Exception: handle_exception},
        template_config=page_template_config,
        openapi_config=OpenAPIConfig(
            title="Bakeoff",
            version=version("bakeoff"),
            use_handler_docstrings=True,
            render_plugins=[JsonRenderPlugin()],
        ),
        logging_config=None,
        request_max_body_size=MAX_BODY_BYTES,
    )


def _embedded_generator(settings: Settings) -> Generator:
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
