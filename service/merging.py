"""Streams of deltas, read together and in time: several choices as one stream, and one timer for a whole answer."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from bakeoff.records import Delta

T = TypeVar("T")


async def merge(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Read several streams at once: (number of the stream, its next piece). Closing it closes them all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as stream:
            async for piece in stream:
                yield 0, piece
        return
    queue: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue()

    async def read(number: int, stream: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(stream):
                async for piece in stream:
                    queue.put_nowait((number, piece))
            queue.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads the queue
            queue.put_nowait(error)

    readers = [asyncio.create_task(read(number, stream)) for number, stream in enumerate(streams)]
    try:
        num_running = len(readers)
        while num_running:
            entry = await queue.get()
            if entry is None:
                num_running -= 1
            elif isinstance(entry, Exception):
                raise entry
            else:
                yield entry
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


class Bell:
    """Rings once when an answer's time is over: one timer for all its deltas, of which there are many."""

    def __init__(self, deadline: float | None) -> None:
        self._waiting: asyncio.Task[object] | None = None
        self._is_over = False
        loop = asyncio.get_running_loop()
        wait_s = None if deadline is None else deadline - time.monotonic()
        self._timer = None if wait_s is None else loop.call_later(wait_s, self._ring)

    async def wait(self, deltas: AsyncGenerator[Delta, None]) -> Delta | None:
        """The next delta, if there is one.

        Raises:
            TimeoutError: the time is over.
        """
        if self._has_rung():
            raise TimeoutError
        task = self._waiting = asyncio.current_task()
        try:
            return await anext(deltas, None)
        except asyncio.CancelledError:
            if self._has_rung() and task is not None and not task.uncancel():
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _has_rung(self) -> bool:
        return self._is_over

    def _ring(self) -> None:
        self._is_over = True
        if self._waiting is not None:
            self._waiting.cancel()
