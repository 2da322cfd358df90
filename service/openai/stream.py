"""Server-sent events, written fast: frames are bytes, and whatever is ready at once goes out in one piece.

A task reads the frames into a buffer from the moment the stream is opened; the response sends the buffer whenever there
is something in it, a comment when nothing came for a while (proxies cut silent connections), and stops the reader as
soon as the client has gone.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from service.facts import current_facts
from service.failures import describe

logger = logging.getLogger(__name__)

T = TypeVar("T")
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
SHORTEST_GAP_S = 0.002
"""Between two sends of one stream: what comes faster is sent together, for a send costs more than all else."""
WATCH_AFTER_S = 0.05
"""An answer that takes longer is watched for a client that goes away."""
MAX_BUFFERED = 1 << 18
"""Bytes that wait for a client that reads slowly; beyond, the answer waits too."""


def frame(data: bytes, event: str = "") -> bytes:
    """One event: `data` is JSON on one line."""
    return (b"event: %b\ndata: %b\n\n" % (event.encode(), data)) if event else b"data: %b\n\n" % data


async def open_stream(
    request: Request[Any, Any, Any],
    frames: AsyncGenerator[bytes, None],
    tell_failure: Callable[[Exception], bytes],
    keepalive_s: float,
) -> "EventStream | None":
    """Begin to read the frames, and wait for the first: what goes wrong before it still has a status of its own.

    Args:
        frames: whole events; read in a task of its own, and closed however the stream ends.
        tell_failure: an exception after the first frame -> the last events.
        keepalive_s: longest wait for the first frame, and longest silence later, in seconds.

    Returns:
        the response; None if the client left meanwhile.

    Raises:
        Exception: what the frames raise before the first one.
    """
    pump = _Pump(frames)
    try:
        if await unless_disconnected(request, pump.wait_until_begun(keepalive_s)) is None:
            await pump.stop()
            return None
        if pump.error is not None and not pump.parts:
            raise pump.error
    except BaseException:
        await pump.stop()
        raise
    return EventStream(pump, tell_failure, keepalive_s)


async def unless_disconnected(request: Request[Any, Any, Any], work: Awaitable[T]) -> T | None:
    """Await the work, but cancel it and return None as soon as the client has gone.

    Watching costs as much as a short answer does, so it begins with the first wait that a client may tire of.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    leaving: asyncio.Task[None] | None = None
    is_gone = False

    def leave(_: object) -> None:
        nonlocal is_gone
        if leaving is not None and not leaving.cancelled() and not is_done:
            is_gone = task.cancel()

    def watch() -> None:
        nonlocal leaving
        leaving = asyncio.create_task(_wait_until_gone(request.receive))
        leaving.add_done_callback(leave)

    is_done = False
    timer = loop.call_later(WATCH_AFTER_S, watch)
    try:
        return await work
    except asyncio.CancelledError:
        if is_gone and not task.uncancel():
            return None
        raise
    finally:
        is_done = True
        timer.cancel()
        if leaving is not None:
            leaving.cancel()


class _Pump:
    """Reads frames into a buffer."""

    def __init__(self, frames: AsyncGenerator[bytes, None]) -> None:
        self.parts: list[bytes] = []
        self.error: Exception | None = None
        self.is_done = False
        self.news = asyncio.Event()
        self._room = asyncio.Event()
        self._num_bytes = 0
        self._frames = frames
        self._task = asyncio.create_task(self._read())

    async def wait_until_begun(self, timeout_s: float) -> bool:
        """Wait for the first frame, the end, or the time to be up."""
        waiting = asyncio.create_task(self.news.wait())
        await asyncio.wait({waiting}, timeout=timeout_s)
        waiting.cancel()
        return True

    def take(self) -> bytes:
        """Everything that is ready."""
        self.news.clear()
        taken = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        self._num_bytes = 0
        self._room.set()
        return taken

    def add(self, part: bytes) -> None:
        """Put something between two frames."""
        self.parts.append(part)
        self.news.set()

    def cancel(self) -> None:
        """Stop reading soon."""
        self._task.cancel()

    async def stop(self) -> None:
        """Stop reading, and wait until what is read from has ended."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        parts, news = self.parts, self.news
        try:
            async with aclosing(self._frames):
                async for part in self._frames:
                    parts.append(part)
                    news.set()
                    self._num_bytes += len(part)
                    if self._num_bytes > MAX_BUFFERED:
                        self._room.clear()
                        await self._room.wait()
        except Exception as error:  # noqa: BLE001 - raised again or told to the client by whoever takes the frames
            self.error = error
        finally:
            self.is_done = True
            news.set()


class EventStream(Response[bytes]):
    """The response that a stream is. Made by `open_stream`."""

    def __init__(self, pump: _Pump, tell_failure: Callable[[Exception], bytes], keepalive_s: float) -> None:
        """Take over a stream that has begun."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(b"", media_type="text/event-stream", headers=headers)
        self._pump = pump
        self._tell_failure = tell_failure
        self._keepalive_s = keepalive_s

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:
        """What Litestar sends: status and headers as of any response, and then the events."""
        options["headers"] = {**(options.get("headers") or {}), **self.headers}
        options["media_type"] = self.media_type
        return _Events(self._pump, self._tell_failure, self._keepalive_s, options)


class _Events(ASGIResponse):
    __slots__ = ("_keepalive_s", "_pump", "_tell_failure")
    _should_set_content_length = False

    def __init__(
        self, pump: _Pump, tell_failure: Callable[[Exception], bytes], keepalive_s: float, options: dict[str, Any]
    ) -> None:
        options.pop("type_encoders", None)
        super().__init__(**options)
        self._pump = pump
        self._tell_failure = tell_failure
        self._keepalive_s = keepalive_s

    async def send_body(self, send: Send, receive: Receive) -> None:
        pump, keepalive_s = self._pump, self._keepalive_s
        loop = asyncio.get_running_loop()
        last_sent = 0.0
        timer: asyncio.Handle

        def pulse() -> None:
            nonlocal timer
            silence_s = loop.time() - last_sent
            if silence_s >= keepalive_s:
                pump.add(KEEP_ALIVE)
            timer = loop.call_later(keepalive_s if silence_s >= keepalive_s else keepalive_s - silence_s, pulse)

        timer = loop.call_later(keepalive_s, pulse) if pump.parts or pump.is_done else loop.call_soon(pulse)
        leaving = asyncio.create_task(_wait_until_gone(receive))
        leaving.add_done_callback(lambda _: pump.cancel())
        try:
            is_done = False
            while not is_done:
                await pump.news.wait()
                gap_s = last_sent + SHORTEST_GAP_S - loop.time()
                if gap_s > 0 and not pump.is_done:
                    await asyncio.sleep(gap_s)
                is_done = pump.is_done
                body = pump.take()
                if pump.error is not None:
                    body += self._tell_failure(pump.error)
                last_sent = loop.time()
                await send({"type": "http.response.body", "body": body, "more_body": not is_done})
        finally:
            timer.cancel()
            leaving.cancel()
            await pump.stop()


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def tell_failure(error: Exception) -> bytes:
    """The last events of a stream of chunks that fails midway: the status has been sent, only a frame can say it."""
    logger.warning("stream failed answer=%s error=%s", current_facts().answer_id, type(error).__name__)
    return frame(msgspec.json.encode(describe(error)[1])) + DONE
