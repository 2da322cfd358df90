"""Keeps the base model's answers and the adapters' apart on servers that cannot compute them in one batch.

The CPU build of vLLM (0.32) gives requests without an adapter the one in its last slot as soon as one with an adapter
is in the same batch (vllm-project/vllm#48421). Where the proof of an adapter shows that, answers of the two kinds take
turns on that server: right answers before fast ones. Elsewhere this costs nothing.
"""

import asyncio
from collections import deque


class Turns:
    """Counts the answers of two kinds, and lets one kind at a time run once that is wanted."""

    def __init__(self) -> None:
        """Let both run together."""
        self.is_on = False
        self._running = [0, 0]
        self._line: deque[tuple[bool, asyncio.Future[None]]] = deque()

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
        if not self._line or self._running[not self._line[0][0]]:
            return
        kind = self._line[0][0]
        rest: deque[tuple[bool, asyncio.Future[None]]] = deque()
        for has_adapter, turn in self._line:
            if has_adapter != kind or turn.done():  # one that is cancelled takes itself out
                rest.append((has_adapter, turn))
            else:
                self._running[kind] += 1
                turn.set_result(None)
        self._line = rest
