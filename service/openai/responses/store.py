"""Responses that are kept: rows of `stored_objects`, and the conversations that they chain up to.

A response knows the one that it goes on from, by id; a conversation is read back along these links. Ids are random and
a link is checked when it is made, so a chain has an end. Deleting a response takes its turns out for good: whatever
goes on from it says so.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from bakeoff.database import writing
from bakeoff.errors import BadInput, NotFound
from service.callers import Caller
from service.openai.responses.draft import Piece
from service.openai.responses.items import (
    Compaction,
    FileSearchCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    MessageItem,
    response_of,
)
from service.openai.responses.quotes import with_quotes, without_quotes
from service.openai.responses.schemas import ResponseObject
from service.tables import stored_objects_table

logger = logging.getLogger(__name__)

KIND = "response"
MAX_LINKS = 500
"""Longest chain that is read."""


class StoredResponse(Struct, frozen=True):
    """A response with what it came with and how it came."""

    response: ResponseObject
    items: list[Item]
    """Of its own request, not of those before."""
    pieces: list[Piece]


class _Body(Struct, frozen=True):
    response: ResponseObject
    pieces: list[Piece]


class ResponseStore:
    """Keeps responses in the database."""

    def __init__(self, engine: Engine) -> None:
        """Use this database."""
        self.engine = engine

    def save(self, stored: StoredResponse, domain: str, caller: Caller) -> None:
        """Keep a response.

        Raises:
            NotFound: its domain was deleted while it was written.
        """
        response = stored.response
        row = {
            "id": response.id,
            "kind": KIND,
            "owner": caller.key_id,
            "domain": domain,
            "created_at": datetime.fromtimestamp(response.created_at, UTC),
            "model": response.model,
            "metadata": response.metadata,
            "input": msgspec.to_builtins(stored.items),
            "body": msgspec.to_builtins(_Body(without_quotes(response), stored.pieces)),
        }
        try:
            with writing(self.engine) as connection:
                connection.execute(insert(stored_objects_table), row)
        except IntegrityError as error:
            raise NotFound(f"domain {domain!r} was deleted while it answered") from error

    def save_soon(self, stored: StoredResponse, domain: str, caller: Caller) -> None:
        """Keep a response whose client has gone: nobody waits, so a failure is logged."""

        def save() -> None:
            try:
                self.save(stored, domain, caller)
            except (NotFound, SQLAlchemyError) as error:
                logger.warning("response not stored id=%s error=%s", stored.response.id, error)

        asyncio.get_running_loop().run_in_executor(None, save)

    def find(self, response_id: str, caller: Caller) -> StoredResponse:
        """Read a response, with what it quotes as far as that is still there.

        Raises:
            NotFound: there is none of this id that is the caller's.
        """
        found = self._find(response_id, caller)
        if found is None:
            raise NotFound(f"there is no response {response_id!r}", param="response_id")
        domain = found.response.model.partition("/")[0]
        quoting = with_quotes(self.engine, found.response, domain, caller)
        return msgspec.structs.replace(found, response=quoting)

    def delete(self, response_id: str, caller: Caller) -> None:
        """Delete a response for good.

        Raises:
            NotFound: there is none of this id that is the caller's.
        """
        self.find(response_id, caller)
        with writing(self.engine) as connection:
            connection.execute(delete(stored_objects_table).where(stored_objects_table.c.id == response_id))

    def gather(self, previous: str | None, caller: Caller) -> list[Item]:
        """Every item of the conversation that ends with a response, its output included, oldest first.

        Raises:
            BadInput: it, or one that it goes on from, is not there, or the chain is too long.
        """
        turns: list[list[Item]] = []
        after = None
        while previous is not None:
            found = self._find(previous, caller)
            if found is None:
                raise BadInput(_describe_break(previous, after), param="previous_response_id")
            if len(turns) == MAX_LINKS:
                raise BadInput(
                    f"the conversation has more than {MAX_LINKS} responses; begin anew with its last turns as input",
                    param="previous_response_id",
                )
            turns.append([*found.items, *found.response.output])
            after, previous = previous, found.response.previous_response_id
        return [item for turn in reversed(turns) for item in turn]

    def history(self, stored: StoredResponse, caller: Caller) -> list[Item]:
        """What a response was given: its chain as far as it is still there, then its own input."""
        turns: list[list[Item]] = [stored.items]
        previous = stored.response.previous_response_id
        while previous is not None and len(turns) <= MAX_LINKS:
            found = self._find(previous, caller)
            if found is None:
                break
            turns.append([*found.items, *found.response.output])
            previous = found.response.previous_response_id
        return [item for turn in reversed(turns) for item in turn]

    def resolve(self, items: Sequence[Item | ItemReference], caller: Caller) -> list[Item]:
        """Put the items that are referred to in the place of the references.

        Raises:
            BadInput: a reference to an item that is not there.
        """
        known: dict[str, dict[str, Item]] = {}
        resolved: list[Item] = []
        for item in items:
            if not isinstance(item, ItemReference):
                resolved.append(item)
                continue
            response_id = response_of(item.id)
            if response_id not in known:
                found = self._find(response_id, caller)
                turns = [] if found is None else [*found.items, *found.response.output]
                known[response_id] = {turn.id: turn for turn in turns}
            if item.id not in known[response_id]:
                raise BadInput(f"there is no item {item.id!r}: its response was not stored, or deleted", param="input")
            resolved.append(known[response_id][item.id])
        return resolved

    def _find(self, response_id: str, caller: Caller) -> StoredResponse | None:
        table = stored_objects_table
        query = select(table).where(table.c.id == response_id, table.c.kind == KIND)
        if caller.key_id:
            query = query.where(table.c.owner == caller.key_id)
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        body = msgspec.convert(row.body, _Body)
        return StoredResponse(body.response, [_read(item) for item in row.input], body.pieces)


_KINDS: dict[str, type[Item]] = {
    "message": MessageItem,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "file_search_call": FileSearchCall,
    "compaction": Compaction,
}


def _read(item: dict[str, Any]) -> Item:
    return msgspec.convert(item, _KINDS[item["type"]])


def _describe_break(missing: str, after: str | None) -> str:
    if after is None:
        return f"there is no response {missing!r} to go on from: it was not stored, or deleted"
    return (
        f"the conversation is broken: response {missing!r}, which {after!r} goes on from, was deleted; send the turns "
        "that are still wanted as input"
    )
