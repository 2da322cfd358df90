"""Stored answers, for administrators: look them up, and erase them with what clients kept of them.

Erasing means gone from the disk: see `bakeoff.database.erase_traces`.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, delete, select, tuple_

from bakeoff.database import erase_traces, in_parts, writing
from bakeoff.errors import NotFound
from bakeoff.records import Message, Sampling
from service.ledger import Answer
from service.tables import answers_table, stored_objects_table

_columns = answers_table.c


class Wanted(Struct, frozen=True, kw_only=True):
    """Which answers; nothing given is all of them."""

    domain: str | None = None
    user: str | None = None
    """As the client named its user."""
    owner: str | None = None
    """Id of the API key."""
    before: datetime | None = None

    def clauses(self) -> list[ColumnElement[bool]]:
        """For a query."""
        given: Mapping[Any, str | None] = {
            _columns.domain: self.domain,
            _columns.user: self.user,
            _columns.owner: self.owner,
        }
        clauses = [column == value for column, value in given.items() if value is not None]
        return clauses if self.before is None else [*clauses, _columns.created_at < self.before]


def list_answers(connection: Connection, wanted: Wanted, limit: int) -> list[Answer]:
    """Answers, the newest first."""
    query = select(answers_table).where(*wanted.clauses())
    query = query.order_by(_columns.created_at.desc(), _columns.id, _columns.choice).limit(limit)
    return [_answer(row) for row in connection.execute(query).mappings()]


def find_answer(connection: Connection, answer_id: str, choice: int = 0) -> Answer:
    """One answer.

    Raises:
        NotFound: it was never stored, or was erased.
    """
    query = select(answers_table).where(_columns.id == answer_id, _columns.choice == choice)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"there is no answer {answer_id!r} with choice {choice}; see: bakeoff answers list", param="id")
    return _answer(row)


def erase_answers(engine: Engine, wanted: Wanted) -> int:
    """Erase answers, and what clients stored of them on the server; returns how many."""
    with writing(engine) as connection:
        found = connection.execute(select(_columns.id, _columns.choice).where(*wanted.clauses()))
        num_erased = _erase(connection, [(row.id, row.choice) for row in found])
    if num_erased:
        erase_traces(engine)
    return num_erased


def erase_answer(engine: Engine, answer_id: str) -> int:
    """Erase every choice of one answer; returns how many.

    Raises:
        NotFound: it was never stored, or is erased already.
    """
    with writing(engine) as connection:
        found = connection.execute(select(_columns.id, _columns.choice).where(_columns.id == answer_id))
        keys = [(row.id, row.choice) for row in found]
        if not keys:
            raise NotFound(f"there is no answer {answer_id!r}; see: bakeoff answers list", param="id")
        _erase(connection, keys)
    erase_traces(engine)
    return len(keys)


def erase_answers_from(engine: Engine, domain: str, chunk_ids: Collection[str]) -> int:
    """Erase the answers of a domain that were made from any of these chunks; returns how many."""
    unwanted = set(chunk_ids)
    with writing(engine) as connection:
        query = select(_columns.id, _columns.choice, _columns.chunk_ids).where(_columns.domain == domain)
        rows = connection.execute(query.execution_options(yield_per=1000))
        keys = [(row.id, row.choice) for row in rows if not unwanted.isdisjoint(row.chunk_ids)]
        num_erased = _erase(connection, keys)
    if num_erased:
        erase_traces(engine)
    return num_erased


def _erase(connection: Connection, keys: list[tuple[str, int]]) -> int:
    for part in in_parts(keys):
        connection.execute(delete(answers_table).where(tuple_(_columns.id, _columns.choice).in_(part)))
    for ids in in_parts(sorted({answer_id for answer_id, _ in keys})):
        connection.execute(delete(stored_objects_table).where(stored_objects_table.c.id.in_(ids)))
    return len(keys)


def _answer(row: RowMapping) -> Answer:
    return Answer(
        **{
            **row,
            "conversation": msgspec.convert(row["conversation"], tuple[Message, ...]),
            "sampling": msgspec.convert(row["sampling"], Sampling),
            "groups": frozenset(row["groups"]),
            "chunk_ids": tuple(row["chunk_ids"]),
        }
    )


def summarise(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """One line's worth of each, without what was asked and said."""
    return [
        {
            "id": answer.id,
            "choice": answer.choice,
            "created_at": answer.created_at,
            "model": f"{answer.domain}/{answer.mode}",
            "adapter": answer.adapter,
            "owner": answer.owner,
            "user": answer.user,
            "finish_reason": answer.finish_reason,
            "error": answer.error,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_ms": answer.total_ms,
        }
        for answer in answers
    ]
