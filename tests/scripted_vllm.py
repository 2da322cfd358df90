"""A vLLM server's wire without a model, for what goes wrong and for several servers at once.

It tokenises and scores as the probes say that it is given, and answers a chat word by word. It is started on a port of
its own and can be stopped and started again there, as a server that was killed.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from bakeoff.chat_template import defuse, read_control_tokens
from bakeoff.models import find_model
from bakeoff.probes import Probe
from bakeoff.settings import Settings

BASE = "base"
"""Name of the base model, unless told otherwise."""
WINDOW = 64
CONTROL_TOKENS = read_control_tokens(find_model(Settings()))


class ScriptedVllm:
    """One server. Its attributes say how it behaves and what it was asked."""

    def __init__(self, probes: Sequence[Probe] = (), home: Path | None = None) -> None:
        """Know what to reproduce.

        Args:
            probes: given.
            home: whose probes are looked up as they are written.
        """
        self.probes = list(probes)
        self.home = home
        self.base = BASE
        self.words = ["Yes, ", "of ", "course."]
        self.adapters: dict[str, str] = {}
        self.asked: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.num_loads = 0
        self.num_aborted = 0
        self.num_running = 0
        self.drops = 0
        """Chat requests whose connection is cut before anything is said."""
        self.refusals: list[tuple[int, dict[str, Any]]] = []
        """Answers to the next chat requests: status and error."""
        self.breaks_after: int | None = None
        """Words after which the connection is cut."""
        self.error_after: int | None = None
        """Words after which an error frame comes."""
        self.stall_s = 0.0
        """Before anything of an answer is said."""
        self.pause_s = 0.0
        """Before each word."""
        self.load_s = 0.0
        self.off_by = 0.0
        """Nats added to every log-probability of an adapter."""
        self.serves_base = False
        """Whether it answers adapters' names with the base model."""
        self.mixes_wrongly = False
        """Whether the base model's figures change once an adapter is loaded, as on the CPU build."""
        self.num_mixed = 0
        """Chats that ran beside one of the other kind."""
        self._kinds: list[str] = []
        self.other_template = False
        self.refuses_adapters = False
        self.unhealthy = False
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> "ScriptedVllm":
        """Listen, on the port it had before if it had one."""
        app = web.Application(client_max_size=2**24)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/metrics", self._metrics),
                web.get("/v1/models", self._models),
                web.post("/tokenize", self._tokenize),
                web.post("/v1/completions", self._score),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/load_lora_adapter", self._load),
                web.post("/v1/unload_lora_adapter", self._unload),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Vanish: every connection is cut, and no adapter is remembered."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None
        self.adapters.clear()

    def _known(self) -> list[Probe]:
        written = sorted((self.home / "probes").glob("*.json")) if self.home is not None else []
        return [*self.probes, *(msgspec.json.decode(path.read_bytes(), type=Probe) for path in written)]

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=503 if self.unhealthy else 200)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.0-scripted"})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            text="# TYPE vllm:prefix_cache_queries counter\n"
            'vllm:prefix_cache_queries_total{engine="0",model_name="base"} 100.0\n'
            'vllm:prefix_cache_hits_total{engine="0",model_name="base"} 25.0\n'
            'vllm:kv_cache_usage_perc{engine="0",model_name="base"} 0.5\n'
            "vllm:unknown_total 7.0\n"
        )

    async def _models(self, request: web.Request) -> web.Response:
        base = {"id": self.base, "root": "somewhere", "parent": None, "max_model_len": WINDOW}
        loaded = [{"id": name, "root": path, "parent": self.base} for name, path in self.adapters.items()]
        return web.json_response({"object": "list", "data": [base, *loaded]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        asked = [one["content"] for one in (await request.json())["messages"]]
        self.seen += asked
        for probe in self._known():
            for conversation in probe.conversations:
                if [defuse(message.content, CONTROL_TOKENS) for message in conversation.messages] == asked:
                    ids = list(conversation.ids)
                    return web.json_response({"tokens": [9, *ids] if self.other_template else ids})
        return web.json_response({"tokens": [0]})

    async def _score(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["model"] != self.base and asked["model"] not in self.adapters:
            return _refuse(404, "no such model", "model")
        [token], prompt = asked["logprob_token_ids"], tuple(asked["prompt"])
        found = 0.0
        for probe in self._known():
            if probe.name != asked["model"] and asked["model"] != self.base:
                continue
            for pair in probe.pairs:
                for place, target in enumerate(pair.target):
                    if (*pair.prompt, *pair.target[:place]) == prompt and target == token:
                        is_base = asked["model"] == self.base or self.serves_base
                        found = pair.base[place] if is_base else pair.adapter[place] + self.off_by
        if self.mixes_wrongly and self.adapters and asked["model"] == self.base:
            found += 1.0
        logprobs = {"top_logprobs": [{f"token_id:{token}": found}]}
        return web.json_response({"choices": [{"logprobs": logprobs}]})

    async def _load(self, request: web.Request) -> web.Response:
        if self.refuses_adapters:
            return _refuse(500, "max_lora_rank is 8")
        asked = await request.json()
        self.num_loads += 1
        await asyncio.sleep(self.load_s)
        if asked["lora_name"] in self.adapters:
            return _refuse(400, f"The lora adapter '{asked['lora_name']}' has already been loaded.")
        self.adapters[asked["lora_name"]] = asked["lora_path"]
        return web.Response(text="Success")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _refuse(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text="Success")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        if self.drops:
            self.drops -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.refusals:
            status, error = self.refusals.pop(0)
            return web.json_response({"error": error}, status=status)
        if asked["model"] != self.base and asked["model"] not in self.adapters:
            return _refuse(404, f"The model `{asked['model']}` does not exist.", "model")
        self.num_running += 1
        self._kinds.append(asked["model"])
        self.num_mixed += len({model == self.base for model in self._kinds}) > 1
        try:
            return await self._say(request)
        except (asyncio.CancelledError, ConnectionError):
            self.num_aborted += 1
            raise
        finally:
            self.num_running -= 1
            self._kinds.remove(asked["model"])

    async def _say(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.stall_s)
        details = {"cached_tokens": 3}
        usage = {"prompt_tokens": 11, "completion_tokens": len(self.words), "prompt_tokens_details": details}
        if not self.asked[-1].get("stream"):
            message = {"role": "assistant", "content": "".join(self.words)}
            return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_frame([{"index": 0, "delta": {"role": "assistant", "content": ""}}]))
        for number, word in enumerate(self.words):
            await asyncio.sleep(self.pause_s)
            if number == self.breaks_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            if number == self.error_after:
                error = {"message": "EngineCore died", "type": "InternalServerError", "code": 500}
                await response.write(f"data: {json.dumps({'error': error})}\n\n".encode())
                return response
            finish = "stop" if number == len(self.words) - 1 else None
            await response.write(_frame([{"index": 0, "delta": {"content": word}, "finish_reason": finish}]))
        await response.write(_frame([], usage) + b"data: [DONE]\n\n")
        return response


def _frame(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
    return f"data: {json.dumps({'id': 'x', 'choices': choices, 'usage': usage})}\n\n".encode()


def _refuse(status: int, message: str, param: str | None = None) -> web.Response:
    error = {"message": message, "type": "BadRequestError", "param": param, "code": status}
    return web.json_response({"error": error}, status=status)
