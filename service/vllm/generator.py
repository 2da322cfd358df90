"""`VllmGenerator`: the `Generator` over one or several vLLM servers. Messages in, deltas out, over their chat route.

The servers run elsewhere, in an environment of their own. Neither torch nor transformers is loaded here: vLLM writes
the prompts with the same chat template, which is proved at the start, at every load and at every return of a server.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import aiohttp

from bakeoff.artefacts import adapters_dir
from bakeoff.chat_template import read_control_tokens
from bakeoff.errors import BadInput, EngineDown
from bakeoff.models import hash_model
from bakeoff.probes import base_name
from bakeoff.records import Delta, Message, Sampling
from bakeoff.settings import Settings
from service.vllm.breaker import Breaker
from service.vllm.fleet import Fleet, Running
from service.vllm.probing import Prober
from service.vllm.refusals import ModelLost
from service.vllm.replica import Replica
from service.vllm.request import EXTRAS, encode_request
from service.vllm.routing import prompt_key
from service.vllm.salting import make_salter, open_secret
from service.vllm.shelf import AdapterShelf
from service.vllm.wire import AnswerReader, WholeReader

PARAMETERS = frozenset(
    {
        "logprobs",
        "top_logprobs",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "response_format",
        "tools",
    }
)
RUNNING_EACH = 256
"""Answers that one server works on at once, by default (`--max-num-seqs`)."""
IDLE_S = 3.0
"""A connection that has been unused for so long is closed: before vLLM does, which waits for 5 s."""


class VllmGenerator:
    """Serves a base model and its adapters from vLLM servers. Implements `service.generator.Generator`."""

    def __init__(self, settings: Settings, model_dir: Path) -> None:
        """Remember where they are; `start` asks them.

        Args:
            settings: `vllm_*`, and the home.
            model_dir: Hugging Face folder of the base model that the servers have to serve.

        Raises:
            BadInput: an address is none.
        """
        self._settings = settings
        self._model_dir = model_dir
        self._urls = read_urls(settings.vllm_urls)
        self._session: aiohttp.ClientSession | None = None
        self._fleet: Fleet | None = None
        self._shelf: AdapterShelf | None = None
        self._salt: Callable[[str], str] = str
        self._control_tokens: tuple[str, ...] = ()
        self._version = ""

    @property
    def name(self) -> str:
        """Engine, version and base model."""
        return f"vllm/{self._version}:{self._model_dir.name}" if self._version else f"vllm:{self._model_dir.name}"

    @property
    def supports(self) -> frozenset[str]:
        """OpenAI's parameters, and vLLM's own sampling extras."""
        return PARAMETERS | EXTRAS

    @property
    def max_running(self) -> int:
        """Answers that the servers can be busy with at once; more would wait there instead of in our line."""
        return RUNNING_EACH * len(self._urls)

    async def start(self) -> None:
        """Wait until a server answers, and prove that it serves our base model and chat template.

        Raises:
            NotReady: the base model is missing here, or its probe cannot be made.
            Mismatch: the servers serve something else.
            EngineDown: none answers in time.
        """
        settings = self._settings
        self._salt = make_salter(await asyncio.to_thread(open_secret, settings.home))
        self._control_tokens = read_control_tokens(self._model_dir)
        base_sha256 = await asyncio.to_thread(hash_model, self._model_dir)
        prober = Prober(settings, base_sha256)
        probe = await prober.find(base_name(base_sha256))
        timeout = aiohttp.ClientTimeout(
            total=None, connect=None, sock_connect=settings.vllm_connect_s, sock_read=settings.vllm_read_s
        )
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=2**18
        )
        session = self._session
        replicas = [
            Replica(url, session, Breaker(settings.vllm_failures, settings.vllm_pause_s), settings.vllm_api_key)
            for url in self._urls
        ]
        folder = adapters_dir(settings.home)
        self._shelf = AdapterShelf(
            askable=lambda: self._started().askable(),
            prober=prober,
            base_probe=probe,
            control_tokens=self._control_tokens,
            tolerance=settings.vllm_tolerance,
            find_adapter=lambda digest: folder / digest,
            seen_at=settings.vllm_adapters or str(folder.resolve()),
            base_dir=self._model_dir,
            base_sha256=base_sha256,
        )
        self._fleet = Fleet(
            replicas,
            probe=probe,
            control_tokens=self._control_tokens,
            tolerance=settings.vllm_tolerance,
            restore=self._shelf.restore,
        )
        try:
            await self._fleet.start(settings.vllm_start_s)
        except BaseException:
            await self._session.close()
            raise
        self._version = self._fleet.askable()[0].version

    async def load(self, adapter: str) -> None:
        """Load an adapter on every server and prove it there.

        Raises:
            NotFound: no adapter of this digest.
            Mismatch: it must not serve, or a server does not serve it as PEFT computes it.
            EngineDown: no server can be asked.
        """
        await self._adapters().ensure(adapter, anew=True)

    async def unload(self, adapter: str) -> None:
        """Unload it on every server, once its requests in flight are answered."""
        await self._adapters().unload(adapter)

    async def stream(
        self,
        messages: Sequence[Message],
        adapter: str | None,
        sampling: Sampling,
        salt: str = "",
        *,
        whole: bool = False,
    ) -> AsyncGenerator[Delta, None]:
        """Generate. Closing the iterator closes the connection, at which vLLM stops.

        Raises:
            ContextTooLong: prompt and max_tokens together exceed the window.
            BadInput: vLLM refuses a parameter.
            EngineDown: no server can be asked, or it failed.
        """
        fleet, shelf = self._started(), self._adapters()
        model = adapter or fleet.base_model
        salted = self._salt(salt)
        body = encode_request(messages, model, sampling, salted, self._control_tokens, is_streamed=not whole)
        key = prompt_key(messages, model, salt)
        with shelf.using(adapter) if adapter is not None else nullcontext():
            running = await self._open(key, adapter, body)
            try:
                reader = WholeReader(running.replica.url) if whole else AnswerReader(running.replica.url)
                while content := await running.read():  # to the very end, so that the connection is kept
                    for delta in reader.feed(content):
                        yield delta
                last = reader.finish(running.engine_seconds)
                running.replica.breaker.succeed()
            finally:
                running.close()
        yield last

    async def close(self) -> None:
        """Close every connection; the servers go on without us."""
        if self._fleet is not None:
            await self._fleet.close()
        if self._shelf is not None:
            await self._shelf.close()
        if self._session is not None:
            await self._session.close()

    def measure(self) -> dict[str, float]:
        """The servers' own figures, summed up: requests, cache use, and `prefix_cache_hit_rate` from 0 to 1."""
        return {} if self._fleet is None else self._fleet.count()

    async def _open(self, key: str, adapter: str | None, body: bytes) -> Running:
        fleet = self._started()
        if adapter is not None:
            await self._adapters().ensure(adapter)
        try:
            return await fleet.open(key, adapter, body)
        except ModelLost:
            if adapter is None:
                raise
        await self._adapters().ensure(adapter)
        return await fleet.open(key, adapter, body)

    def _started(self) -> Fleet:
        if self._fleet is None:
            raise EngineDown("the engine has not been started")
        return self._fleet

    def _adapters(self) -> AdapterShelf:
        if self._shelf is None:
            raise EngineDown("the engine has not been started")
        return self._shelf


def read_urls(value: str) -> list[str]:
    """Addresses, comma separated, without the `/v1` that clients are used to.

    Raises:
        BadInput: one is no address.
    """
    urls = [url.strip().rstrip("/").removesuffix("/v1") for url in value.split(",") if url.strip()]
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"BAKEOFF_VLLM_URLS: {url!r} is no address; say http://HOST:PORT", param="vllm_urls")
    return list(dict.fromkeys(urls))
