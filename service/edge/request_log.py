"""One line of JSON for each request. It says who asked what, how it went and what it took; never what was said."""

import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from service.facts import Facts

writers: list[Callable[[bytes], object]] = []
"""Take each line, without its end. Plain functions: `logging` would cost a request as much as all the rest here."""


class Line(Struct, frozen=True, omit_defaults=True):
    """What is logged of one request."""

    time: str
    """ISO 8601, UTC, of its end."""
    request_id: str
    method: str
    path: str
    """Template of the route, not the address: ids stay out. Empty where no route was found."""
    status: int
    outcome: str
    """See `Facts.outcome`."""
    ms: float
    bytes: int
    """Of the response's body."""
    key: str = ""
    """Id of the API key."""
    answer: str = ""
    """Id in the table `answers`; the first thing to look at with `bakeoff answers show`."""
    model: str = ""
    mode: str = ""
    adapter: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token_ms: float | None = None
    engine_seconds: float = 0.0
    error: str = ""


_encoder = msgspec.json.Encoder()


def log_request(facts: Facts, method: str, path: str, seconds: float) -> None:
    """Write the line of a request that has ended."""
    if not writers:
        return
    line = Line(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        request_id=facts.request_id,
        method=method,
        path=path,
        status=facts.status,
        outcome=facts.outcome,
        ms=round(seconds * 1000, 1),
        bytes=facts.num_bytes,
        key=facts.key_id,
        answer=facts.answer_id,
        model=f"{facts.domain}/{facts.mode}" if facts.domain else "",
        mode=facts.mode,
        adapter=facts.adapter,
        prompt_tokens=facts.prompt_tokens,
        cached_tokens=facts.cached_tokens,
        completion_tokens=facts.completion_tokens,
        first_token_ms=facts.first_token_ms and round(facts.first_token_ms, 1),
        engine_seconds=round(facts.engine_seconds, 4),
        error=facts.error,
    )
    encoded = _encoder.encode(line)
    for write in writers:
        write(encoded)


class JsonFormatter(logging.Formatter):
    """Every other log line, as JSON too."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, however many the message has."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def write_logs_as_json() -> None:
    """Send the log of this process to stderr as JSON: a line for each request, and a line for everything else."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter())
    writers.append(_write_to_stderr)


def _write_to_stderr(line: bytes) -> None:
    with suppress(OSError):  # whoever reads the log may have gone; the answer is sent already
        sys.stderr.buffer.write(line + b"\n")
        sys.stderr.buffer.flush()
