"""Every answer, stored: who asked what of which model, what was said, and what it took. Written in batches.

An answer must not wait for the disk, so a thread of its own writes what has come together every fifth of a second. A
crash loses at most that; closing writes everything. Rows that the database does not take now (locked, disk full) are
kept, up to a limit, and tried again.
"""

import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, insert
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from bakeoff.database import writing
from bakeoff.records import Message, Sampling
from service.tables import answers_table

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 0.2
RETRY_AFTER_S = 2.0
MAX_WAITING = 20_000
"""Rows kept in memory while the database takes none; beyond, the oldest go, and the log says how many."""


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
        self._has_work = threading.Event()
        self._is_closing = False
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._write_on, name="ledger", daemon=True)
        self.num_written = 0
        self.num_dropped = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def record(self, answer: Answer) -> None:
        """Take one answer; never waits."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.num_dropped += 1
        self._waiting.append(answer)
        self._has_work.set()

    def flush(self) -> None:
        """Write everything that was recorded before this call.

        Raises:
            SQLAlchemyError: the database does not take it; it is kept.
        """
        with self._writing:
            rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                self._write(rows)
            except BaseException:
                self._waiting.extendleft(reversed(rows))
                raise

    def close(self) -> None:
        """Write everything and end."""
        self._is_closing = True
        self._has_work.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self.flush()
        except SQLAlchemyError as error:
            logger.error("answers lost num=%d error=%s", len(self._waiting), error)

    def _write_on(self) -> None:
        dropped = 0
        while not self._is_closing:
            self._has_work.wait()
            time.sleep(0 if self._is_closing else WRITE_EVERY_S)
            self._has_work.clear()
            try:
                self.flush()
            except SQLAlchemyError as error:
                logger.error("answers cannot be stored waiting=%d error=%s", len(self._waiting), error)
                if not self._is_closing:
                    time.sleep(RETRY_AFTER_S)
                    self._has_work.set()
            if self.num_dropped > dropped:
                logger.error("answers lost num=%d", self.num_dropped - dropped)
                dropped = self.num_dropped

    def _write(self, answers: list[Answer]) -> None:
        if not answers:
            return
        rows = [_row(answer) for answer in answers]
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(answers_table), rows)
            self.num_written += len(rows)
        except IntegrityError:  # a domain was deleted meanwhile: its answers go with it
            for row in rows:
                try:
                    with writing(self._engine) as connection:
                        connection.execute(insert(answers_table), row)
                    self.num_written += 1
                except IntegrityError as error:
                    logger.warning("answer not stored id=%s error=%s", row["id"], error.orig)


def now() -> datetime:
    """The time that rows are stamped with."""
    return datetime.now(UTC)


def _row(answer: Answer) -> dict[str, Any]:
    row = {field: getattr(answer, field) for field in answer.__struct_fields__}
    for field in ("conversation", "chunk_ids", "sampling"):
        row[field] = msgspec.to_builtins(row[field])
    return {**row, "groups": sorted(answer.groups)}
