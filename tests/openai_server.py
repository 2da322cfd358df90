"""Serve a throw-away home for OpenAI's own test-suite: `python tests/openai_server.py [--port N] [--engine NAME]`.

Prints one line, the address for `TEST_API_BASE_URL`, once every example id of OpenAI's API description is there, and
serves until SIGTERM or Ctrl-C. Parameters that the engine lacks are accepted, and named in `x-bakeoff-ignored`.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
from litestar.types import ASGIApp, Receive, Scope, Send
from openai_seeds import IDS, Seeds, seed_domain
from scripted_service import ScriptedGenerator, running

from bakeoff.database import open_database
from bakeoff.models import find_embedder, find_model
from bakeoff.settings import Settings
from retrieval.embedder import open_embedder
from service.app import create_app


class Renewing:
    """Passes requests on, each to a home as it was at the start, though several tests run at once.

    Whoever changes an example object has the service for itself until the object was made anew.
    """

    def __init__(self, app: ASGIApp, seeds: Seeds) -> None:
        self._app = app
        self._seeds = seeds
        self._num_others = 0
        self._turn = asyncio.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the address may begin with /v1 or not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix("/v1")
        if not path.startswith(("/health", "/schema", "/metrics")):
            scope["path"] = f"/v1{path}"
            scope["raw_path"] = b"/v1" + scope["raw_path"].removeprefix(b"/v1")
        if scope["method"] in ("POST", "DELETE") and not IDS.isdisjoint(path.split("/")):
            async with self._turn:
                await self._turn.wait_for(lambda: not self._num_others)
                try:
                    await self._app(scope, receive, send)
                finally:
                    await anyio.to_thread.run_sync(self._seeds.renew)
            return
        async with self._turn:
            self._num_others += 1
        try:
            await self._app(scope, receive, send)
        finally:
            async with self._turn:
                self._num_others -= 1
                self._turn.notify_all()


@contextmanager
def openai_server(home: Path, engine: str = "scripted", port: int = 0, *, lenient: bool = True) -> Iterator[str]:
    """Serve until the block ends.

    Args:
        home: an empty folder.
        engine: `scripted`, or `embedded` for the real one.
        port: of 127.0.0.1; 0 picks a free one.
        lenient: accept parameters that the engine lacks.

    Yields:
        the address, without /v1.
    """
    settings = Settings(home=home)
    embedder = open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")
    database = open_database(settings.url, home)
    settings = Settings(home=home, model_aliases=seed_domain(database, home, embedder, find_model(settings)))
    generator = ScriptedGenerator() if engine == "scripted" else None
    seeds = Seeds(database, home, embedder)
    service = create_app(settings, generator=generator, embedder=embedder, lenient=lenient)
    app: Any = Renewing(service, seeds)
    with running(app, port) as url:
        seeds.make(url)
        yield url
    database.dispose()


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--engine", choices=("scripted", "embedded"), default="scripted")
    words = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory() as home, openai_server(Path(home), words.engine, words.port) as url:
        sys.stdout.write(f"{url}/v1\n")
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    main()
