"""All vLLM servers: which may be asked, which is asked, and what happens when one goes and comes back.

A server is watched. It takes questions once it has proved that it serves our base model and chat template, and stops
when its circuit breaker opens; when it is back, it proves itself anew and gets its adapters again before their traffic.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from bakeoff.errors import BakeoffError, EngineDown, Mismatch
from bakeoff.probes import Probe
from service.vllm.counters import read_counters, sum_counters
from service.vllm.parity import check_model, check_template
from service.vllm.refusals import ModelLost
from service.vllm.replica import Replica, Unreachable
from service.vllm.routing import choose

logger = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
COUNT_EVERY_S = 5.0
LOG_EVERY_S = 60.0

Restore = Callable[[Replica], Awaitable[None]]
"""Gives a server the adapters that it should have."""


class Running:
    """An answer under way on one server."""

    def __init__(self, replica: Replica, response: aiohttp.ClientResponse, started: float, has_adapter: bool) -> None:
        """Take over an open response.

        Args:
            started: what the server's clock gave.
            has_adapter: whose turn it is on the server.
        """
        self.replica = replica
        self._has_adapter = has_adapter
        self._response = response
        self._started = started

    async def read(self) -> bytes:
        """Whatever has come; empty at the end."""
        return await self.replica.read(self._response)

    @property
    def engine_seconds(self) -> float:
        """Its share of the server's time so far."""
        return self.replica.clock.share(self._started)

    def close(self) -> None:
        """End it, whether or not it has come to its end."""
        self._response.close()
        _stop(self.replica, self._has_adapter)


def _stop(replica: Replica, has_adapter: bool) -> None:
    replica.clock.stop()
    replica.turns.give(has_adapter)


class Fleet:
    """The servers and what is known of them."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        probe: Probe,
        control_tokens: Sequence[str],
        tolerance: float,
        restore: Restore,
    ) -> None:
        """Know the servers; `start` begins to watch them.

        Args:
            replicas: at least one.
            probe: of the base model.
            control_tokens: of its tokenizer.
            tolerance: mean difference from PEFT allowed, nats a token.
            restore: called for each server that can be asked, again and again.
        """
        self.replicas = tuple(replicas)
        self.base_model = ""
        """The servers' name of the base model."""
        self._probe = probe
        self._control_tokens = control_tokens
        self._tolerance = tolerance
        self._restore = restore
        self._watchers: list[asyncio.Task[None]] = []
        self._said: dict[str, str] = {}

    async def start(self, timeout_s: float) -> None:
        """Wait until a server can be asked.

        Raises:
            Mismatch: those that answer serve something else.
            EngineDown: none answers in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = await asyncio.gather(*map(self._admit, self.replicas), return_exceptions=True)
            failures = [failure for failure in found if isinstance(failure, BaseException)]
            for failure in failures:
                if not isinstance(failure, EngineDown | Mismatch):
                    raise failure
            if len(failures) < len(self.replicas):
                break
            for failure in failures:
                if isinstance(failure, Mismatch):
                    raise failure
            if time.monotonic() > deadline:
                raise EngineDown(f"{failures[0]}. Start it (see the guide on vLLM), or unset BAKEOFF_VLLM_URLS")
            logger.info("waiting for vLLM error=%s", failures[0])
            await asyncio.sleep(WATCH_EVERY_S)
        self._watchers = [asyncio.create_task(self._watch(replica)) for replica in self.replicas]
        self._watchers.append(asyncio.create_task(self._count()))

    async def close(self) -> None:
        """Stop watching."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    def askable(self) -> list[Replica]:
        """The servers that take questions now."""
        return [replica for replica in self.replicas if replica.takes_questions]

    async def open(self, key: str, adapter: str | None, body: bytes) -> Running:
        """Send a request to the server that suits it, or to another one where that cannot be reached.

        Args:
            key: requests of one key are best kept together.
            adapter: digest; only servers that have proved to serve it are asked.
            body: of the request.

        Raises:
            EngineDown: there is no server to ask, or it failed.
            ModelLost: those that served the adapter do not any more.
            BadInput: the server refuses the request.
        """
        has_adapter = adapter is not None
        tried: list[Replica] = []
        failure: BakeoffError | None = None
        for _ in range(max(2, len(self.replicas))):
            able = [one for one in self.askable() if adapter is None or adapter in one.adapters]
            fresh = [one for one in able if one not in tried]
            if not able or (not fresh and isinstance(failure, ModelLost)):
                break
            replica = choose(fresh or able, key)
            await replica.turns.take(has_adapter)
            started = replica.clock.start()
            try:
                return Running(replica, await replica.open(body), started, has_adapter)
            except (Unreachable, ModelLost) as error:
                _stop(replica, has_adapter)
                tried.append(replica)
                failure = error
                if isinstance(error, ModelLost):
                    self._lose(replica, adapter)
            except BaseException:
                _stop(replica, has_adapter)
                raise
        raise failure or EngineDown(self._why_none(adapter))

    def count(self) -> dict[str, float]:
        """The servers' own figures, summed up, as last read."""
        figures = sum_counters(replica.figures for replica in self.replicas)
        return {"replicas": float(len(self.replicas)), "replicas_up": float(len(self.askable())), **figures}

    def _why_none(self, adapter: str | None) -> str:
        up = len(self.askable())
        if up and adapter is not None:
            return f"none of the {up} vLLM servers that answer serves adapter {adapter}; try again in a few seconds"
        said = "; ".join(self._said.values())
        return f"none of the {len(self.replicas)} vLLM servers can be asked now{f': {said}' if said else ''}"

    def _lose(self, replica: Replica, adapter: str | None) -> None:
        """A server was started anew, without our noticing."""
        logger.warning("vLLM was started anew url=%s", replica.url)
        if adapter is None:
            replica.is_admitted = False
        replica.adapters.discard(adapter or "")

    async def _watch(self, replica: Replica) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await self._look(replica)
            except BakeoffError as error:
                self._say(replica, str(error))
            except Exception:  # the watch must go on, or the server would never be asked again
                logger.exception("watching vLLM failed url=%s", replica.url)

    async def _look(self, replica: Replica) -> None:
        if replica.breaker.is_open and not replica.breaker.wants_trial:
            return
        try:
            await replica.check_health()
            served = {model.id for model in await replica.models()}
        except EngineDown:
            replica.breaker.fail()
            if replica.breaker.is_open:
                self._dismiss(replica)
            raise
        if replica.breaker.is_open:
            self._dismiss(replica)
            replica.breaker.succeed()
        if replica.adapters - served:
            logger.warning("vLLM was started anew url=%s", replica.url)
            self._dismiss(replica)
        if not replica.is_admitted:
            await self._admit(replica)
        await self._restore(replica)
        if self._said.pop(replica.url, None):
            logger.info("vLLM answers again url=%s", replica.url)

    def _dismiss(self, replica: Replica) -> None:
        replica.is_admitted = False
        replica.adapters.clear()
        replica.refused.clear()

    async def _admit(self, replica: Replica) -> None:
        """Let a server take questions once it has proved what it serves.

        Raises:
            Mismatch: it serves something else.
            EngineDown: it does not answer.
        """
        await replica.check_health()
        base = next((model for model in await replica.models() if model.parent is None), None)
        if base is None:
            raise Mismatch(f"the vLLM server at {replica.url} serves no base model; start it with --model FOLDER")
        if self.base_model and base.id != self.base_model:
            raise Mismatch(
                f"the vLLM server at {replica.url} calls the base model {base.id!r}, the others {self.base_model!r}; "
                "start all with the same --served-model-name"
            )
        replica.version = await replica.read_version()
        await check_template(replica, base.id, self._probe, self._control_tokens)
        parity = await check_model(replica, base.id, self._probe, self._tolerance)
        self.base_model = replica.base_model = base.id
        replica.is_admitted = True
        logger.info(
            "vLLM admitted url=%s version=%s window=%s difference_from_reference=%.5f",
            replica.url,
            replica.version,
            base.max_model_len,
            parity.difference,
        )

    def _say(self, replica: Replica, words: str) -> None:
        if self._said.get(replica.url) != words:
            logger.warning("vLLM cannot be asked url=%s error=%s", replica.url, words)
        self._said[replica.url] = words

    async def _count(self) -> None:
        logged_at, last = time.monotonic(), -1.0
        while True:
            for replica in self.askable():
                try:
                    replica.figures = read_counters(await replica.read_metrics())
                except BakeoffError as error:
                    self._say(replica, str(error))
            figures = self.count()
            queries = figures.get("prefix_cache_queries", 0.0)
            if queries != last and time.monotonic() - logged_at >= LOG_EVERY_S:
                logged_at, last = time.monotonic(), queries
                logger.info("prefix cache hit_rate=%.3f prompt_tokens=%d", figures["prefix_cache_hit_rate"], queries)
            await asyncio.sleep(COUNT_EVERY_S)
