"""The keys that open this service, in memory: a request costs a hash and a look into a dict, not a query.

A key that is made or revoked counts from the next request on SQLite, in every process, as its count of changes costs
microseconds to read. On PostgreSQL a request looks again once what is known is a second old. If the database cannot be
asked, no key opens anything.
"""

import asyncio
import time
from datetime import UTC, datetime

import anyio.to_thread
from msgspec import Struct
from sqlalchemy import Engine

from bakeoff.database import reading
from bakeoff.keys import ApiKey, count_changes, hash_key, keys_by_hash
from service.callers import Caller, caller_of
from service.catalogue import ChangeCount

LOOK_EVERY_S = 1.0
"""Where the database does not tell that it has changed."""


class Entry(Struct, frozen=True):
    """A key, and who comes with it."""

    key: ApiKey
    caller: Caller


class KeyRing:
    """Every key. Used by one event loop."""

    def __init__(self, engine: Engine) -> None:
        """Nothing is read before the first `refresh`."""
        self._engine = engine
        self._count = ChangeCount(engine)
        self._counted: int | None = None
        self._looked_at = float("-inf")
        self._changes: object = None
        self._looking = asyncio.Lock()
        self._entries: dict[str, Entry] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no key was ever made: the service asks for none. Revoking the last one does not open it again."""
        return not self._entries

    async def refresh(self) -> None:
        """Bring the ring level with the database.

        Raises:
            SQLAlchemyError: it cannot be read.
        """
        counted, now = self._count.read(), time.monotonic()
        if counted == self._counted if counted is not None else now - self._looked_at < LOOK_EVERY_S:
            return
        async with self._looking:  # one at a time: an older reading must not come last
            if self._looked_at < now:
                counted, now = self._count.read(), time.monotonic()
                await anyio.to_thread.run_sync(self._look)
                self._counted, self._looked_at = counted, now  # of before: a change in between is seen next time

    def find(self, secret: str) -> Entry | None:
        """The key that this secret is, if it opens the service now."""
        entry = self._entries.get(hash_key(secret))
        return entry if entry is not None and entry.key.is_valid(datetime.now(UTC)) else None

    def _look(self) -> None:
        with reading(self._engine) as connection:
            changes = count_changes(connection)
            if changes == self._changes:
                return
            keys = keys_by_hash(connection)
        self._entries = {digest: Entry(key, caller_of(key)) for digest, key in keys.items()}
        self._changes = changes
