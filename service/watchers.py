"""What runs beside the requests: the engine and the ledger, and watchers of what others change in the database.

A freshly promoted adapter and a new document answer without a restart, and before the first question has to wait for
them. The service keeps no state of its own: any number of replicas may stand on one database.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio.to_thread
from litestar import Litestar
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from bakeoff.adapters import registered_digests
from bakeoff.database import reading
from bakeoff.domains import list_domains
from bakeoff.errors import BakeoffError
from retrieval.embedder import Embedder
from retrieval.retriever import Retriever
from service.generator import Generator
from service.parts import Parts

logger = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
REFRESH_EVERY_S = 0.25


@asynccontextmanager
async def running(app: Litestar, parts: Parts) -> AsyncGenerator[None, None]:
    """Load the model, and watch until the service ends; the first request is taken when all is there."""
    parts.ledger.start()
    await parts.generator.start()
    await anyio.to_thread.run_sync(_warm_up, parts.database, parts.embedder)
    watchers = (
        asyncio.create_task(_watch_adapters(parts.database, parts.generator)),
        asyncio.create_task(_watch_documents(parts.database, parts.retriever)),
        asyncio.create_task(parts.cabinet.sweep_for_ever()),
    )
    gc.collect()
    gc.freeze()  # what is there now stays: no collection has to look at it again
    app.state.is_ready = True
    logger.info("ready engine=%s", parts.generator.name)
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await parts.generator.close()
        await anyio.to_thread.run_sync(parts.ledger.close)
        parts.database.dispose()


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
