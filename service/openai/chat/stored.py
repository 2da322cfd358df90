"""Chat completions that a client asked to keep (`store: true`): rows of `stored_objects`, each its owner's alone."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine, delete, insert, select, update

from bakeoff.database import reading, writing
from bakeoff.errors import NotFound
from bakeoff.records import Passage
from service.callers import Caller
from service.exchange import Exchange
from service.openai.chat.answers import ChatCompletion
from service.openai.chat.messages import ChatMessage
from service.openai.quotes import bare, read_again
from service.tables import stored_objects_table as table

KIND = "chat.completion"


class StoredHead(Struct, frozen=True):
    """As much of a stored completion as a list is searched by."""

    id: str
    created_at: datetime
    model: str
    metadata: dict[str, str]


class StoredCompletions:
    """Keeps completions in the database. Every method blocks."""

    def __init__(self, engine: Engine) -> None:
        """Use this database."""
        self._engine = engine

    def keep(self, exchange: Exchange, messages: Sequence[ChatMessage], completion: ChatCompletion) -> None:
        """Store a completion with the messages that it answers."""
        asked = exchange.asked
        with writing(self._engine) as connection:
            connection.execute(
                insert(table).values(
                    id=completion.id,
                    kind=KIND,
                    owner=asked.caller.key_id,
                    domain=asked.model.domain,
                    created_at=exchange.created_at,
                    model=completion.model,
                    metadata=asked.metadata,
                    input=msgspec.to_builtins(messages),
                    body=msgspec.to_builtins(_without_quotes(completion)),
                )
            )

    def list_heads(self, caller: Caller, model: str | None, metadata: Mapping[str, str]) -> list[StoredHead]:
        """The caller's completions, oldest first.

        Args:
            model: only of this one.
            metadata: only those with all of these pairs.
        """
        query = select(table.c.id, table.c.created_at, table.c.model, table.c.metadata).where(*_of(caller))
        if model is not None:
            query = query.where(table.c.model == model)
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(table.c.created_at, table.c.id)).all()
        heads = [StoredHead(row.id, row.created_at, row.model, row.metadata) for row in rows]
        return [head for head in heads if metadata.items() <= head.metadata.items()]

    def read(self, caller: Caller, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The completions of these ids, in their order, as they were answered; metadata as it is now.

        Passages are shown with their text where the caller may still read it, and left out where not.

        Raises:
            NotFound: the caller keeps no completion of one of these ids.
        """
        query = select(table.c.id, table.c.domain, table.c.body, table.c.metadata)
        with reading(self._engine) as connection:
            rows = connection.execute(query.where(*_of(caller), table.c.id.in_(ids))).all()
            bodies = [_with_quotes(connection, row.body, row.domain, caller) for row in rows]
        found = {row.id: {**body, "metadata": row.metadata} for row, body in zip(rows, bodies, strict=True)}
        for id_ in ids:
            if id_ not in found:
                raise _missing(id_)
        return [found[id_] for id_ in ids]

    def read_messages(self, caller: Caller, id_: str) -> list[ChatMessage]:
        """The messages that a completion answers.

        Raises:
            NotFound: the caller keeps no completion of this id.
        """
        with reading(self._engine) as connection:
            found = connection.execute(select(table.c.input).where(*_of(caller), table.c.id == id_)).scalar()
        if found is None:
            raise _missing(id_)
        return msgspec.convert(found, list[ChatMessage])

    def change(self, caller: Caller, id_: str, metadata: Mapping[str, str]) -> None:
        """Replace a completion's metadata.

        Raises:
            NotFound: the caller keeps no completion of this id.
        """
        with writing(self._engine) as connection:
            done = connection.execute(
                update(table).where(*_of(caller), table.c.id == id_).values(metadata=dict(metadata))
            )
        if not done.rowcount:
            raise _missing(id_)

    def delete(self, caller: Caller, id_: str) -> None:
        """Delete a completion for good.

        Raises:
            NotFound: the caller keeps no completion of this id.
        """
        with writing(self._engine) as connection:
            done = connection.execute(delete(table).where(*_of(caller), table.c.id == id_))
        if not done.rowcount:
            raise _missing(id_)


def _without_quotes(completion: ChatCompletion) -> ChatCompletion:
    evidence = completion.bakeoff
    places = tuple(map(bare, evidence.passages))
    return msgspec.structs.replace(completion, bakeoff=msgspec.structs.replace(evidence, passages=places))


def _with_quotes(connection: Connection, body: dict[str, Any], domain: str, caller: Caller) -> dict[str, Any]:
    places = msgspec.convert(body["bakeoff"]["passages"], list[Passage])
    read = [read_again(connection, place, domain, caller) for place in places]
    passages = msgspec.to_builtins([passage for passage in read if passage is not None])
    return {**body, "bakeoff": {**body["bakeoff"], "passages": passages}}


def _of(caller: Caller) -> list[Any]:
    return [table.c.kind == KIND, *([table.c.owner == caller.key_id] if caller.key_id else [])]


def _missing(id_: str) -> NotFound:
    return NotFound(f"there is no stored chat completion {id_!r}; those made with store: true are", param="id")
