"""The circuit breaker of one server: after failures in a row nobody asks it for a while."""

import time
from collections.abc import Callable


class Breaker:
    """Closed: requests pass. Open: none does, until a pause is over and a trial has succeeded.

    The trial is a health probe and never somebody's question, so that no client pays for it.
    """

    def __init__(self, max_failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start closed.

        Args:
            max_failures: in a row, that open it.
            pause_s: between opening and the next trial, seconds.
            clock: seconds from any start.
        """
        self._max_failures = max_failures
        self._pause_s = pause_s
        self._clock = clock
        self._num_failures = 0
        self._opened_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests are kept away."""
        return self._opened_at is not None

    @property
    def wants_trial(self) -> bool:
        """Whether it is open and its pause is over."""
        return self._opened_at is not None and self._clock() - self._opened_at >= self._pause_s

    def succeed(self) -> None:
        """A request was answered: closed again, and the failures are forgotten."""
        self._num_failures = 0
        self._opened_at = None

    def fail(self) -> None:
        """A request failed; opens when there were too many in a row, and begins the pause anew if it is open."""
        self._num_failures += 1
        if self._opened_at is not None or self._num_failures >= self._max_failures:
            self._opened_at = self._clock()
