"""The adapters that the vLLM servers hold: loaded by digest on every server, and proved there before any traffic.

An adapter is ready when each server that takes questions serves it and agrees with PEFT. A server that comes back gets
them again first. A name is a digest and never stands for other weights, so vLLM's prefix cache, which goes by name and
path, cannot answer with the keys and values of an adapter that is gone (vllm-project/vllm#42125).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bakeoff.adapter_files import CONFIG_FILE, check_adapter_folder, read_config
from bakeoff.errors import BakeoffError, EngineDown, Mismatch, NotReady
from bakeoff.probes import Probe
from service.vllm.parity import check_adapter, check_template
from service.vllm.probing import Prober
from service.vllm.replica import Replica

logger = logging.getLogger(__name__)

UNLOAD_WAIT_S = 600.0
REFUSED_FOR_S = 30.0
"""For so long a question to an adapter that could not be loaded is refused without another try."""
_LOOK_EVERY_S = 0.05


class AdapterShelf:
    """Knows which adapters are ready, and makes them so."""

    def __init__(
        self,
        *,
        askable: Callable[[], Sequence[Replica]],
        prober: Prober,
        base_probe: Probe,
        control_tokens: Sequence[str],
        tolerance: float,
        find_adapter: Callable[[str], Path],
        seen_at: str,
        base_dir: Path,
        base_sha256: str,
    ) -> None:
        """Begin with none.

        Args:
            askable: the servers that take questions.
            prober: gives what an adapter has to reproduce.
            base_probe: what the base model has to reproduce.
            control_tokens: of the base model's tokenizer.
            tolerance: mean difference from PEFT allowed, nats a token.
            find_adapter: digest -> its folder here.
            seen_at: the folder of adapters as the servers see it.
            base_dir: Hugging Face folder of the base model.
            base_sha256: `bakeoff.models.hash_model` of it.
        """
        self._askable = askable
        self._prober = prober
        self._base_probe = base_probe
        self._control_tokens = control_tokens
        self._tolerance = tolerance
        self._find_adapter = find_adapter
        self._seen_at = seen_at.rstrip("/")
        self._base_dir = base_dir
        self._base_sha256 = base_sha256
        self._ready: set[str] = set()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._in_use: Counter[str] = Counter()
        self._refusals: dict[str, tuple[float, BakeoffError]] = {}

    @contextmanager
    def using(self, digest: str) -> Iterator[None]:
        """Keep an adapter from being unloaded."""
        self._in_use[digest] += 1
        try:
            yield
        finally:
            self._in_use[digest] -= 1

    async def ensure(self, digest: str, *, anew: bool = False) -> None:
        """Make an adapter ready, unless it is. Whoever asks for the same one meanwhile waits for the same load.

        Args:
            anew: try again even if it could not be loaded a moment ago.

        Raises:
            NotFound: there is no such adapter.
            Mismatch: it must not serve, or a server does not serve it as PEFT computes it.
            EngineDown: no server can be asked.
        """
        if digest in self._ready and any(digest in replica.adapters for replica in self._askable()):
            return
        refused_at, refusal = self._refusals.get(digest, (0.0, None))
        if refusal is not None and not anew and time.monotonic() - refused_at < REFUSED_FOR_S:
            raise type(refusal)(str(refusal))
        task = self._loading.get(digest)
        if task is None:
            task = self._loading[digest] = asyncio.create_task(self._load(digest))
            task.add_done_callback(lambda done: self._note(digest, done))
        await asyncio.shield(task)  # one client that leaves must not end the load others wait for

    async def restore(self, replica: Replica) -> None:
        """Give a server the adapters that are ready elsewhere, or were before it stopped."""
        for digest in sorted(self._ready - replica.adapters - replica.refused - self._loading.keys()):
            try:
                await self._put(replica, digest)
            except Mismatch as error:
                replica.refused.add(digest)
                logger.error("adapter cannot be loaded again url=%s adapter=%s error=%s", replica.url, digest, error)

    async def unload(self, digest: str) -> None:
        """Forget an adapter everywhere, once its answers under way are complete."""
        if digest in self._loading:
            await asyncio.wait([self._loading[digest]])
        self._ready.discard(digest)
        deadline = time.monotonic() + UNLOAD_WAIT_S
        while self._in_use[digest] and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_EVERY_S)
        if digest not in self._ready:  # nobody has asked for it meanwhile
            await self._take_away(self._askable(), digest)

    async def close(self) -> None:
        """Give up the loads under way; the servers keep what they have."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    async def _load(self, digest: str) -> None:
        start = time.monotonic()
        await asyncio.to_thread(self._check_folder, digest)
        replicas = [replica for replica in self._askable() if digest not in replica.adapters]
        if not self._askable():
            raise EngineDown(f"no vLLM server can be asked to load adapter {digest}; try again in a few seconds")
        found = await asyncio.gather(*(self._put(replica, digest) for replica in replicas), return_exceptions=True)
        failures = [failure for failure in found if isinstance(failure, BaseException)]
        refusals = [failure for failure in failures if not isinstance(failure, EngineDown)]
        if refusals or (failures and not any(digest in replica.adapters for replica in self._askable())):
            self._ready.discard(digest)
            await self._take_away(replicas, digest)
            raise (refusals or failures)[0]
        self._ready.add(digest)  # a server that went away in between gets it when it is back
        seconds = time.monotonic() - start
        logger.info("adapter ready adapter=%s replicas=%d seconds=%.1f", digest, len(replicas), seconds)

    def _note(self, digest: str, done: asyncio.Task[None]) -> None:
        del self._loading[digest]
        failure = None if done.cancelled() else done.exception()
        if isinstance(failure, Mismatch | NotReady):
            self._refusals[digest] = (time.monotonic(), failure)
        else:
            self._refusals.pop(digest, None)

    def _check_folder(self, digest: str) -> None:
        folder = self._find_adapter(digest)
        check_adapter_folder(folder, self._base_dir, self._base_sha256)
        if read_config(folder / CONFIG_FILE).use_dora:
            raise Mismatch(
                f"adapter {digest} is a DoRA adapter, which vLLM cannot serve; serve it with the embedded engine "
                "(unset BAKEOFF_VLLM_URLS), or train again with lora_variant 'lora'"
            )

    async def _put(self, replica: Replica, digest: str) -> None:
        """Load on one server, and prove it there."""
        probe = await self._prober.find(digest)
        if digest not in {model.id for model in await replica.models()}:
            try:
                await replica.load_adapter(digest, f"{self._seen_at}/{digest}")
            except Mismatch:
                if digest not in {model.id for model in await replica.models()}:  # another service was faster
                    raise
        try:
            await check_template(replica, digest, probe, self._control_tokens)
            parity, mixes = await check_adapter(replica, probe, self._base_probe, self._tolerance)
        except Mismatch:
            await self._take_away([replica], digest)
            raise
        if not mixes and not replica.turns.for_ever:
            replica.turns.for_ever = True
            logger.warning(
                "vLLM answers for the base model with an adapter when both are in one batch (vllm-project/vllm#48421), "
                "so they take turns there url=%s",
                replica.url,
            )
        replica.adapters.add(digest)
        logger.info(
            "adapter proved url=%s adapter=%s difference_from_reference=%.5f from_base=%.3f",
            replica.url,
            digest,
            parity.difference,
            parity.from_base,
        )

    async def _take_away(self, replicas: Sequence[Replica], digest: str) -> None:
        for replica in replicas:
            replica.adapters.discard(digest)
            try:
                await replica.unload_adapter(digest)
            except BakeoffError as error:
                logger.warning("adapter cannot be unloaded url=%s adapter=%s error=%s", replica.url, digest, error)
