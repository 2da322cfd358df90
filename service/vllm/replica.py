"""One vLLM server: its HTTP calls, how busy we keep it, and whether it may be asked."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from bakeoff.errors import EngineDown, Mismatch
from service.vllm.breaker import Breaker
from service.vllm.refusals import NOT_FOUND, ModelLost, read_refusal, to_error
from service.vllm.turns import Turns

CHAT = "/v1/chat/completions"
OK = 200
CONTROL_TIMEOUT_S = 10.0
"""Of the short calls: health, models, tokenize."""
LOAD_TIMEOUT_S = 120.0
"""Of loading an adapter, and of scoring a probe."""


class ServedModel(Struct, frozen=True):
    """A line of `/v1/models`."""

    id: str
    root: str | None = None
    parent: str | None = None
    """Of an adapter: the base model. None for the base model itself."""
    max_model_len: int | None = None


class _ModelList(Struct, frozen=True):
    data: list[ServedModel]


class Unreachable(EngineDown):
    """No answer has begun: somebody else may be asked the same."""


class SharedClock:
    """Shares out a server's time among the answers it is busy with, each moment equally among those running then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shared_s = 0.0
        self._last = clock()
        self.num_running = 0

    def start(self) -> float:
        """One more runs. Returns what `stop` wants back."""
        self._advance()
        self.num_running += 1
        return self._shared_s

    def share(self, started: float) -> float:
        """Seconds that one answer has had so far, of those since its start."""
        self._advance()
        return self._shared_s - started

    def stop(self) -> None:
        """One less runs."""
        self._advance()
        self.num_running -= 1

    def _advance(self) -> None:
        now = self._clock()
        if self.num_running:
            self._shared_s += (now - self._last) / self.num_running
        self._last = now


class Replica:
    """A vLLM server among equals."""

    def __init__(self, url: str, session: aiohttp.ClientSession, breaker: Breaker, api_key: str = "") -> None:
        """Remember where it is; nothing is asked yet.

        Args:
            url: base address without `/v1`.
            session: shared by all.
            breaker: of this server alone.
            api_key: sent where it is not empty.
        """
        self.url = url
        self.breaker = breaker
        self.clock = SharedClock()
        self.turns = Turns()
        self.adapters: set[str] = set()
        """Digests that it serves, proved."""
        self.refused: set[str] = set()
        """Digests that it could not be given since it was admitted; not tried again by themselves."""
        self.base_model = ""
        """Its name of the base model, once it is admitted."""
        self.version = ""
        self.is_admitted = False
        """Whether it serves our base model and chat template, proved since it was last seen to start."""
        self.figures: dict[str, float] = {}
        """Its own counters, as last read."""
        self._session = session
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    @property
    def num_running(self) -> int:
        """Answers of ours under way."""
        return self.clock.num_running

    @property
    def takes_questions(self) -> bool:
        """Whether it may be asked now."""
        return self.is_admitted and not self.breaker.is_open

    async def open(self, body: bytes) -> aiohttp.ClientResponse:
        """Send a chat completion and wait until its answer begins.

        Whoever gets the response closes it. Before its end that closes the connection too, at which vLLM ends the
        request; after its end the connection is in the pool already.

        Raises:
            Unreachable: nothing has come back, and another server may be asked.
            ModelLost: it does not serve this model (any more).
            BadInput: it refuses the request.
            EngineDown: it has failed.
        """
        try:
            response = await self._session.post(self.url + CHAT, data=body, headers=self._headers)
        except aiohttp.SocketTimeoutError as error:  # it has the question and is slow: nobody else is to be asked too
            self.breaker.fail()
            raise EngineDown(f"the vLLM server at {self.url} has said nothing for too long") from error
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            self.breaker.fail()
            raise Unreachable(f"the vLLM server at {self.url} cannot be reached: {_describe(error)}") from error
        except (TimeoutError, aiohttp.ClientError) as error:
            self.breaker.fail()
            raise EngineDown(f"the vLLM server at {self.url} does not answer: {_describe(error)}") from error
        if response.status != OK:
            try:
                raise await self._refused(response)
            finally:
                response.close()
        return response

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """Whatever of the answer has come; empty at its end.

        Raises:
            EngineDown: it broke off.
        """
        try:
            return await response.content.readany()
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            self.breaker.fail()
            raise EngineDown(
                f"the vLLM server at {self.url} broke off in the middle of an answer: {_describe(error)}"
            ) from error

    async def models(self) -> list[ServedModel]:
        """What it serves."""
        return msgspec.json.decode(await self._call("GET", "/v1/models"), type=_ModelList).data

    async def check_health(self) -> None:
        """Ask whether its engine runs.

        Raises:
            EngineDown: it does not.
        """
        await self._call("GET", "/health")

    async def read_version(self) -> str:
        """The version of vLLM."""
        return str(msgspec.json.decode(await self._call("GET", "/version"))["version"])

    async def read_metrics(self) -> str:
        """Its counters, in Prometheus' text form."""
        return (await self._call("GET", "/metrics")).decode(errors="replace")

    async def tokenize(self, model: str, messages: list[dict[str, Any]]) -> list[int]:
        """Token ids that its chat template makes of messages."""
        found = await self._call("POST", "/tokenize", {"model": model, "messages": messages})
        return [int(token) for token in msgspec.json.decode(found)["tokens"]]

    async def score(self, model: str, prompt: list[int], token: int, cache_salt: str) -> float:
        """Log-probability of one token after a prompt, nats.

        It is asked as the next token, among those that vLLM draws from: `prompt_logprobs`, which would give a whole
        text at once, ends the process of the CPU build where adapters are enabled.
        """
        wanted = {
            "model": model,
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": [token],
            "return_tokens_as_token_ids": True,
            "cache_salt": cache_salt,
        }
        content = await self._call("POST", "/v1/completions", wanted, LOAD_TIMEOUT_S)
        found = msgspec.json.decode(content)["choices"][0]["logprobs"]["top_logprobs"][0].get(f"token_id:{token}")
        if found is None:
            raise Mismatch(
                f"the vLLM server at {self.url} gives no log-probability of a named token (logprob_token_ids); "
                "vLLM 0.32 or newer is needed"
            )
        return float(found)

    async def load_adapter(self, name: str, path: str) -> None:
        """Make it load an adapter.

        Raises:
            Mismatch: it cannot, in its words.
            EngineDown: it is not there.
        """
        await self._change("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, name)

    async def unload_adapter(self, name: str) -> None:
        """Make it forget an adapter; nothing happens if it has none of this name."""
        try:
            await self._change("/v1/unload_lora_adapter", {"lora_name": name}, name)
        except Mismatch:
            if name in {model.id for model in await self.models()}:
                raise

    async def _change(self, path: str, wanted: dict[str, str], name: str) -> None:
        status, content = await self._send("POST", path, wanted, LOAD_TIMEOUT_S)
        if status == OK:
            return
        refusal = read_refusal(status, content)
        if status == NOT_FOUND and refusal.message == "Not Found":
            raise Mismatch(
                f"the vLLM server at {self.url} does not let adapters be changed while it runs; start it with "
                "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
            )
        raise Mismatch(f"the vLLM server at {self.url} refuses adapter {name}: {refusal.message}")

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout_s: float = CONTROL_TIMEOUT_S
    ) -> bytes:
        status, content = await self._send(method, path, body, timeout_s)
        if status != OK:
            raise to_error(read_refusal(status, content), self.url)
        return content

    async def _send(self, method: str, path: str, body: Any, timeout_s: float) -> tuple[int, bytes]:
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(method, self.url + path, data=data, headers=self._headers) as response,
            ):
                return response.status, await response.read()
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            raise Unreachable(f"the vLLM server at {self.url} does not answer: {_describe(error)}") from error

    async def _refused(self, response: aiohttp.ClientResponse) -> Exception:
        error = to_error(read_refusal(response.status, await response.read()), self.url)
        if not isinstance(error, EngineDown):
            self.breaker.succeed()
        elif not isinstance(error, ModelLost):
            self.breaker.fail()
        return error


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__
