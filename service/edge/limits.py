"""Limits in the memory of this replica: how much is answered at once, and how often a key may ask.

Questions beyond `max_running` wait in line, in the order in which they came; beyond `max_waiting` they are refused with
the time after which a place is likely, from how long answers took lately. A key's own limit is a bucket that fills
evenly: a client may ask `requests_per_minute` times at once after a quiet minute.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from bakeoff.errors import TooBusy

MAX_RETRY_AFTER_S = 120
RECENT = 0.1
"""Weight of the newest answer in the average of their times."""


class Places:
    """Places at the engine. Used by one event loop."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        """All free."""
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._line: deque[asyncio.Future[None]] = deque()
        self._mean_s = 1.0
        self.num_running = 0
        self.num_refused = 0

    @property
    def num_waiting(self) -> int:
        """Questions in line."""
        return len(self._line)

    async def enter(self, wait_until_gone: Callable[[], Awaitable[object]]) -> bool:
        """Take a place, in line if need be; give it back with `leave`.

        Args:
            wait_until_gone: returns when the client has gone; awaited only while in line.

        Returns:
            False if the client left the line.

        Raises:
            TooBusy: the line is full.
        """
        if self.num_running < self._max_running:
            self.num_running += 1
            return True
        if len(self._line) >= self._max_waiting:
            self.num_refused += 1
            raise TooBusy(
                f"{self.num_running} questions are being answered and {len(self._line)} wait; ask again later",
                "queue_full",
                self.retry_after_s(),
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        gone = asyncio.ensure_future(wait_until_gone())
        try:
            both: set[asyncio.Future[Any]] = {turn, gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._give_up(turn)
            raise
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        if turn.done():
            return True
        self._give_up(turn)
        return False

    def leave(self, answered_in_s: float | None) -> None:
        """Give a place back, to the next in line.

        Args:
            answered_in_s: how long the answer took; None where none was made, which says nothing of the speed.
        """
        if answered_in_s is not None:
            self._mean_s += RECENT * (answered_in_s - self._mean_s)
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.num_running -= 1

    def retry_after_s(self) -> int:
        """Seconds until a newcomer's turn would come, at the speed of the latest answers."""
        turns = (len(self._line) + 1) / self._max_running
        return min(max(math.ceil(turns * self._mean_s), 1), MAX_RETRY_AFTER_S)

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        """Leave the line; a place that was given at the same moment goes on to the next."""
        if turn.done():
            self.leave(None)
        else:
            turn.cancel()
            self._line.remove(turn)


class Allowance(Struct, frozen=True):
    """What is left of a key's limit after a request."""

    limit: int
    remaining: int
    reset_s: float
    """Until all of it is there again."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's."""
        return [
            (b"x-ratelimit-limit-requests", str(self.limit).encode()),
            (b"x-ratelimit-remaining-requests", str(self.remaining).encode()),
            (b"x-ratelimit-reset-requests", f"{self.reset_s:.3f}s".encode()),
        ]


class Buckets:
    """One bucket for each key that has a limit."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """All full."""
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, key_id: str, limit: int) -> tuple[Allowance, TooBusy | None]:
        """Count one request of a key.

        Returns:
            what is left, and why the request is refused, if it is.
        """
        now, per_s = self._clock(), limit / 60
        level, at = self._levels.get(key_id, (float(limit), now))
        level = min(level + (now - at) * per_s, limit)
        refusal = None
        if level >= 1:
            level -= 1
        else:
            wait_s = min(max(math.ceil((1 - level) / per_s), 1), MAX_RETRY_AFTER_S)
            sentence = f"this key may ask {limit} times a minute; ask again in {wait_s} s"
            refusal = TooBusy(sentence, "rate_limit_exceeded", wait_s)
        self._levels[key_id] = level, now
        return Allowance(limit, int(level), (limit - level) / per_s), refusal
