"""What stands before the application, put together: keys, limits, numbers, and the middleware that uses them."""

from collections.abc import Iterable
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from prometheus_client.core import Metric
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from bakeoff.jobs import jobs_table
from bakeoff.settings import Settings
from service.edge.gatekeeper import Gatekeeper
from service.edge.key_ring import KeyRing
from service.edge.limits import Buckets, Places
from service.edge.metrics import Metrics, counter, gauge, gauges, show_metrics
from service.edge.middleware import Middleware
from service.generator import Generator
from service.ledger import Ledger
from service.web.sign_in import sign_in_routes

MAX_RUNNING = 512
"""Questions at once where the engine does not say what suits it."""


class Guard:
    """Made once for an application."""

    def __init__(self, settings: Settings, engine: Engine, generator: Generator, ledger: Ledger, token: str) -> None:
        """Put everything together.

        Args:
            token: one more secret that opens everything; empty for none.
        """
        self.metrics = Metrics()
        self.gatekeeper = Gatekeeper(KeyRing(engine), token=token, open_metrics=settings.open_metrics)
        max_running = settings.max_running or getattr(generator, "max_running", MAX_RUNNING)
        self._places = Places(max_running, settings.max_waiting)
        self._max_body_bytes = settings.max_body_mib * 2**20
        self._engine = engine
        self._generator = generator
        self._ledger = ledger
        self.metrics.read_from(self._read)

    @property
    def routes(self) -> list[Any]:
        """Its own addresses."""
        return [show_metrics, sign_in_routes]

    @property
    def dependencies(self) -> dict[str, Provide]:
        """What its handlers ask for."""

        async def provide_gatekeeper() -> Gatekeeper:
            return self.gatekeeper

        async def provide_metrics() -> Metrics:
            return self.metrics

        return {"gatekeeper": Provide(provide_gatekeeper), "metrics": Provide(provide_metrics)}

    def stand_before(self, app: Litestar) -> Litestar:
        """Let every request pass here first, those too that the router does not know."""
        app.asgi_handler = Middleware(
            app.asgi_handler,
            gatekeeper=self.gatekeeper,
            places=self._places,
            buckets=Buckets(),
            metrics=self.metrics,
            max_body_bytes=self._max_body_bytes,
        )
        return app

    def _read(self) -> Iterable[Metric]:
        """What others count."""
        ledger, places = self._ledger, self._places
        yield gauge("questions_running", "Questions that have a place at the engine.", places.num_running)
        yield gauge("questions_waiting", "Questions in line for a place.", places.num_waiting)
        yield counter("questions_refused", "Questions refused because the line was full.", places.num_refused)
        yield gauge("ledger_waiting", "Answers not yet written to the database.", ledger.num_waiting)
        yield counter("ledger_written", "Answers written to the database.", ledger.num_written)
        yield counter("ledger_dropped", "Answers lost, as the database did not take them.", ledger.num_dropped)
        try:
            with self._engine.connect() as connection:
                query = select(jobs_table.c.status, func.count()).group_by(jobs_table.c.status)
                jobs = {str(status): float(count) for status, count in connection.execute(query)}
            yield gauges("jobs", "Jobs by status.", "status", jobs)
        except SQLAlchemyError:
            yield gauge("database_down", "Whether the database does not answer.", 1)
        measure = getattr(self._generator, "measure", None)
        if measure is not None:
            yield gauges("engine", "What the engine says of itself.", "what", measure())
