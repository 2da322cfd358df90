"""Every answer, stored: who asked what of which model, what was said, and what it took. Written in batches.

An answer must not wait for the disk, so a thread of its own writes what has come together every fifth of a second. A
crash loses at most that; closing writes everything. Rows that the database does not take now (locked, disk full) are
kept, up to a limit, and tried again.
"""

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, insert
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from bakeoff.database import describe_cause, writing
from bakeoff.records import Message, Sampling
from service.tables import answers_table

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 0.2
RETRY_AFTER_S = 2.0
MAX_WAITING = 20_000
"""Rows kept in memory while the database takes none; beyond, the oldest go, and the log says how many."""

MAX_USER_CHARS = 200
"""Kept of a client's name for its user."""


class Answer(Struct, frozen=True, kw_only=True):
    """One choice of one request: a row of `answers`."""

    id: str
    choice: int
    created_at: datetime
    route: str
    """`chat.completions`, `completions` or `responses`."""
    owner: str
    domain: str
    mode: str
    adapter: str | None
    epoch: int
    engine: str
    prompts_version: int
    prompt_hash: str
    """Digest of the messages as rendered: what the model was shown, without keeping it twice."""
    task: str
    conversation: tuple[Message, ...]
    """As the client sent it."""
    groups: frozenset[str]
    """Of the caller."""
    chunk_ids: tuple[str, ...]
    """Of the passages, in their order."""
    sampling: Sampling
    completion: str
    finish_reason: str | None
    error: str | None
    """Kind of what ended it before its finish: an error's name, or `left` for a client that went away."""
    abstained: bool
    evidence: float | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prepare_ms: float
    """From the request to the rendered prompt: resolving, searching, rendering."""
    first_token_ms: float
    """From the request to the first text."""
    total_ms: float
    engine_seconds: float
    user: str
    metadata: dict[str, str]


class Ledger:
    """Takes answers at once and writes them soon."""

    def __init__(self, engine: Engine) -> None:
        """Write to this database; `start` begins."""
        self._engine = engine
        self._waiting: deque[Answer] = deque()
        self._lock = threading.Lock()
        self._has_work = threading.Event()
        self._is_closing = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._write_on, name="ledger", daemon=True)
        self.num_written = 0
        self.num_dropped = 0

    @property
    def num_waiting(self) -> int:
        """Answers that are not yet in the database."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def record(self, answer: Answer) -> None:
        """Take one answer; never waits for the database."""
        with self._lock:
            self._waiting.append(answer)
            self._trim()
        self._has_work.set()

    def flush(self) -> None:
        """Write everything that was recorded before this call.

        Raises:
            SQLAlchemyError: the database does not take it now; it is kept.
        """
        with self._writing:
            with self._lock:
                answers = list(self._waiting)
                self._waiting.clear()
            try:
                self._write(answers)
            finally:
                with self._lock:
                    self._waiting.extendleft(reversed(answers))  # what is left of them
                    self._trim()

    def close(self) -> None:
        """Write everything and end."""
        self._is_closing.set()
        self._has_work.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self.flush()
        except SQLAlchemyError as error:
            logger.error("answers lost num=%d cause=%s", self.num_waiting, describe_cause(error))

    def _trim(self) -> None:
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.num_dropped += 1

    def _write_on(self) -> None:
        dropped = 0
        while not self._is_closing.is_set():
            self._has_work.wait()
            self._is_closing.wait(WRITE_EVERY_S)
            self._has_work.clear()
            try:
                self.flush()
            except SQLAlchemyError as error:
                logger.error("answers wait for the database num=%d cause=%s", self.num_waiting, describe_cause(error))
                self._is_closing.wait(RETRY_AFTER_S)
                self._has_work.set()
            if self.num_dropped > dropped:
                logger.error("answers lost num=%d", self.num_dropped - dropped)
                dropped = self.num_dropped

    def _write(self, answers: list[Answer]) -> None:
        """Write what can be written and take it out of the list, together with what never can be.

        Raises:
            SQLAlchemyError: the database takes nothing now.
        """
        try:
            self._insert(answers)
            answers.clear()
        except _UNWRITABLE:  # one of them: the others must not suffer for it
            while answers:
                try:
                    self._insert(answers[:1])
                except _UNWRITABLE as error:
                    # Its domain was deleted meanwhile, most likely: its answers go with it.
                    logger.warning("answer not stored id=%s cause=%s", answers[0].id, type(error).__name__)
                    self.num_dropped += 1
                del answers[0]

    def _insert(self, answers: list[Answer]) -> None:
        if not answers:
            return
        rows = [_row(answer) for answer in answers]
        with writing(self._engine) as connection:
            connection.execute(insert(answers_table), rows)
        self.num_written += len(rows)


_UNWRITABLE = (IntegrityError, DataError, ValueError, TypeError)
"""A row that no database takes, now or later."""


def now() -> datetime:
    """The time that rows are stamped with."""
    return datetime.now(UTC)


def _row(answer: Answer) -> dict[str, Any]:
    row = {field: getattr(answer, field) for field in answer.__struct_fields__}
    for field in ("conversation", "chunk_ids", "sampling"):
        row[field] = msgspec.to_builtins(row[field])
    row["groups"] = sorted(answer.groups)
    row["user"] = answer.user[:MAX_USER_CHARS]
    return {field: _storable(value) for field, value in row.items()}


def _storable(value: Any) -> Any:
    """The value without what no database stores as text: NUL and halves of characters."""
    if isinstance(value, str):
        if "\0" not in value and value.isascii():
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value
