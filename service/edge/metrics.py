"""Numbers of this replica for Prometheus, at `/metrics`.

Counters and histograms are fed by the middleware at the end of each request, from its `Facts`. What others count
(places, ledger, jobs, engine) is read when it is asked for. Labels come from the routes, the domains and the modes that
exist, never from what a client sent.
"""

from collections.abc import Callable, Iterable, Mapping

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from service.facts import Facts

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

Readings = Mapping[str, float] | Mapping[str, Mapping[str, float]]


class Metrics:
    """Everything that is counted."""

    def __init__(self) -> None:
        """A registry of its own, so that several services live in one process."""
        self.registry = CollectorRegistry()
        self.in_flight = Gauge("bakeoff_requests_in_flight", "Requests being answered.", registry=self.registry)
        self._requests = Counter(
            "bakeoff_requests", "Requests answered.", ["route", "status", "mode", "outcome"], registry=self.registry
        )
        self._duration = Histogram(
            "bakeoff_request_seconds", "From request to last byte.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self._first_token = Histogram(
            "bakeoff_first_token_seconds",
            "From request to first text.",
            ["mode"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "bakeoff_tokens",
            "Tokens; cached ones are a part of prompt.",
            ["kind", "domain", "mode"],
            registry=self.registry,
        )
        self._engine_seconds = Counter(
            "bakeoff_engine_seconds", "Time the engine computed.", ["domain", "mode"], registry=self.registry
        )
        self._observers: dict[tuple[str, int, str, str], Callable[[float], None]] = {}

    def count(self, facts: Facts, route: str, seconds: float) -> None:
        """Count a request that has ended."""
        key = (route, facts.status, facts.mode, facts.outcome)
        observe = self._observers.get(key)
        if observe is None:
            observe = self._observers[key] = self._make_observer(*key)
        observe(seconds)
        if not facts.domain:
            return
        if facts.first_token_ms is not None:
            self._first_token.labels(facts.mode).observe(facts.first_token_ms / 1000)
        for kind, count in (
            ("prompt", facts.prompt_tokens),
            ("cached", facts.cached_tokens),
            ("completion", facts.completion_tokens),
        ):
            if count:
                self._tokens.labels(kind, facts.domain, facts.mode).inc(count)
        if facts.engine_seconds:
            self._engine_seconds.labels(facts.domain, facts.mode).inc(facts.engine_seconds)

    def read_from(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Ask `read` for more numbers whenever someone looks."""
        self.registry.register(_Reader(read))

    def render(self) -> bytes:
        """All of it, in Prometheus' text form."""
        return generate_latest(self.registry)

    def _make_observer(self, route: str, status: int, mode: str, outcome: str) -> Callable[[float], None]:
        increment = self._requests.labels(route, str(status), mode, outcome).inc
        observe_duration = self._duration.labels(route).observe

        def observe(seconds: float) -> None:
            increment()
            observe_duration(seconds)

        return observe


class _Reader(Collector):
    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()

    def describe(self) -> Iterable[Metric]:
        return []


def gauge(name: str, text: str, value: float) -> Metric:
    """One number that goes up and down."""
    return GaugeMetricFamily(f"bakeoff_{name}", text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """One number that only grows."""
    return CounterMetricFamily(f"bakeoff_{name}", text, value=value)


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Several numbers that go up and down, told apart by a label."""
    family = GaugeMetricFamily(f"bakeoff_{name}", text, labels=[label])
    for value_of, value in sorted(values.items()):
        family.add_metric([value_of], value)
    return family


@get("/metrics", include_in_schema=False, sync_to_thread=True)
def show_metrics(metrics: NamedDependency[SkipValidation[Metrics]]) -> Response[bytes]:
    """Show the numbers of this replica."""
    return Response(metrics.render(), headers={"content-type": CONTENT_TYPE_LATEST})
