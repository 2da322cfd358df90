"""Keeps the base model's answers and the adapters' apart on servers that cannot compute them in one batch.

The CPU build of vLLM (0.32) gives requests without an adapter the one in its last slot as soon as one with an adapter
is in the same batch (vllm-project/vllm#48421). Where the proof of an adapter shows that, answers of the two kinds take
turns on that server from then on: right answers before fast ones. During a proof they do so everywhere, so that no
answer is wrong before it is known; otherwise this costs nothing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

HOLD_WAIT_S = 30.0
"""Longest that a proof waits for the base model's answers under way; then it runs beside them."""


class Turns:
    """Counts the answers of two kinds, and lets one kind at a time run once that is wanted."""

    def __init__(self) -> None:
        """Let both run together."""
        self.for_ever = False
        """Whether this server was seen to mix them up."""
        self._num_holds = 0
        self._running = [0, 0]
        self._line: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @property
    def is_on(self) -> bool:
        """Whether the two kinds take turns now."""
        return self.for_ever or self._num_holds > 0

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None, None]:
        """A time in which no answer of the base model runs; questions to it wait."""
        self._num_holds += 1
        is_taken = False
        try:
            try:
                async with asyncio.timeout(HOLD_WAIT_S):
                    await self.take(True)
                    is_taken = True
            except TimeoutError:
                pass
            yield
        finally:
            self._num_holds -= 1
            if is_taken:
                self._running[True] -= 1
            self._advance()

    async def take(self, has_adapter: bool) -> None:
        """Wait for the turn of this kind; whoever waits longest of the other kind is not overtaken."""
        if not self.is_on or (not self._line and not self._running[not has_adapter]):
            self._running[has_adapter] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((has_adapter, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(has_adapter)
            else:
                self._line.remove((has_adapter, turn))
                self._advance()
            raise

    def give(self, has_adapter: bool) -> None:
        """An answer has ended."""
        self._running[has_adapter] -= 1
        self._advance()

    def _advance(self) -> None:
        """Let those in line run whose turn it is: the longest waiting, and all of its kind."""
        if not self._line or (self.is_on and self._running[not self._line[0][0]]):
            return
        first = self._line[0][0]
        rest: deque[tuple[bool, asyncio.Future[None]]] = deque()
        for has_adapter, turn in self._line:
            if (self.is_on and has_adapter != first) or turn.done():  # one that is cancelled takes itself out
                rest.append((has_adapter, turn))
            else:
                self._running[has_adapter] += 1
                turn.set_result(None)
        self._line = rest
