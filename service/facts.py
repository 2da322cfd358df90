"""What is known of the request that is being answered: gathered on the way, read once at its end.

The middleware opens the `Facts` of a request; whoever answers it notes what it learns with `current_facts`, without
knowing who reads them: the log line and the metrics. Nothing here is a prompt, a completion or a key.
"""

from contextvars import ContextVar

from msgspec import Struct


class Facts(Struct):
    """One request. Filled in on the way."""

    request_id: str = ""
    key_id: str = ""
    answer_id: str = ""
    """As in the table `answers`."""
    domain: str = ""
    """Empty until the model has been found."""
    mode: str = ""
    adapter: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    """Of all choices together, as are the other sums."""
    first_token_ms: float | None = None
    engine_seconds: float = 0.0
    error: str = ""
    """As in `ledger.Answer`."""
    status: int = 0
    num_bytes: int = 0
    """Of the response's body."""
    is_finished: bool = False
    """Whether the response was sent to its end."""

    @property
    def outcome(self) -> str:
        """`complete`, `left` where the client went away, or `failed`."""
        if self.error == "left" or self.status == CLIENT_CLOSED:
            return "left"
        if self.error or self.status >= 500 or not self.status:
            return "failed"
        return "complete" if self.is_finished else "left"


CLIENT_CLOSED = 499
"""Status, seen by nobody, of an answer whose client has gone."""

_current: ContextVar[Facts | None] = ContextVar("facts", default=None)


def open_facts(facts: Facts) -> None:
    """Make these the facts of the current request, for it and the tasks it starts."""
    _current.set(facts)


def current_facts() -> Facts:
    """The facts of the current request; where there is none, facts that nobody reads."""
    return _current.get() or Facts()
