"""A service on a real socket, with a scripted engine for what goes wrong and for speed."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from litestar import Litestar

from bakeoff.cli.serve import listen
from bakeoff.errors import ContextTooLong, EngineDown
from bakeoff.records import Delta, Message, Sampling, TokenLogprob, ToolCallPiece

DOMAIN = "hotel"


class ScriptedGenerator:
    """Says `reply` word by word and remembers what it was asked. A word of `script` makes it misbehave.

    It gives log-probabilities where they are asked for and supported, and calls the first tool that it is given.
    """

    name = "scripted:none"

    def __init__(self, supports: frozenset[str] = frozenset()) -> None:
        self.supports = supports
        self.reply = "Yes, for 10 pounds [1]."
        self.asked: list[tuple[tuple[Message, ...], str | None, Sampling]] = []
        self.loaded: list[str] = []
        self.unloaded: list[str] = []
        self.unloadable: set[str] = set()
        self.num_closed = 0

    async def start(self) -> None:
        return None

    async def load(self, adapter: str) -> None:
        if adapter in self.unloadable:
            raise RuntimeError("the engine's library has failed")
        self.loaded.append(adapter)

    async def unload(self, adapter: str) -> None:
        self.unloaded.append(adapter)

    async def stream(
        self,
        messages: Sequence[Message],
        adapter: str | None,
        sampling: Sampling,
        salt: str = "",
        *,
        whole: bool = False,
    ) -> AsyncGenerator[Delta, None]:
        self.asked.append((tuple(messages), adapter, sampling))
        question = messages[-1].content
        if "too long" in question:
            raise ContextTooLong("the prompt has 9000 tokens, the window 8192", param="messages")
        if "engine down" in question:
            raise EngineDown("the engine has stopped")
        try:
            if sampling.tools:
                name = sampling.tools[0]["function"]["name"]
                yield Delta("", tool_calls=(ToolCallPiece(0, f"call_{name}", name),))
                for piece in ('{"city":', ' "Skye"}'):
                    yield Delta("", tool_calls=(ToolCallPiece(0, arguments=piece),))
                yield Delta("", "tool_calls", prompt_tokens=20, completion_tokens=9)
                return
            words = [f"{word} " for word in self.reply.split()]
            if "first slow" in question:
                await asyncio.sleep(0.6)
            for word in words:
                if "fail midway" in question and word != words[0]:
                    raise EngineDown("the engine has stopped")
                yield Delta(word, logprobs=_say_likely(word, sampling.top_logprobs))
                await asyncio.sleep(0.05 if "slowly" in question else 0)
                while "for ever" in question:
                    yield Delta("more ")
                    await asyncio.sleep(0.02)
            yield Delta("", "stop", prompt_tokens=20, completion_tokens=len(words), cached_tokens=4)
        finally:
            self.num_closed += 1

    async def close(self) -> None:
        return None


def _say_likely(word: str, num_others: int | None) -> tuple[TokenLogprob, ...]:
    if num_others is None:
        return ()
    others = tuple(TokenLogprob(f"other{n} ", -1.0 - n, tuple(f"other{n} ".encode())) for n in range(num_others))
    return (TokenLogprob(word, -0.5, tuple(word.encode()), others),)


@contextmanager
def running(app: Litestar, port: int = 0) -> Iterator[str]:
    """Serve the application on a port of 127.0.0.1, a free one by default, until the block ends."""
    listener = listen("127.0.0.1", port)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    deadline = time.monotonic() + 120
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        assert time.monotonic() < deadline, "the service did not start in time"
        time.sleep(0.02)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(20)
