"""The files of a service: rows and disk together, and what is swept away in the background."""

import asyncio
import logging
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio.to_thread
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from bakeoff.database import writing
from bakeoff.errors import BakeoffError
from service.callers import Caller
from service.openai.files.checks import find_problem
from service.openai.files.folder import NewFile, files_dir, sweep
from service.openai.files.records import (
    StoredFile,
    delete_row,
    find_file,
    insert_file,
    list_expired,
    list_files,
    new_file_id,
    stored_names,
)
from service.openai.vector_stores.removal import clear_expired_stores, detach_file

logger = logging.getLogger(__name__)

SWEEP_EVERY_S = 60.0


class Cabinet:
    """Keeps uploaded files."""

    def __init__(self, engine: Engine, home: Path, max_file_mib: int) -> None:
        self._engine = engine
        self._home = home
        self.folder = files_dir(home)
        self.max_bytes = max_file_mib * 2**20

    def keep(
        self, new: NewFile, filename: str, purpose: str, owner: str, created_at: datetime, expires_at: datetime | None
    ) -> StoredFile:
        """Make a written file one of ours.

        Raises:
            DiskFull: there is no room.
        """
        problem = find_problem(new.path) if purpose == "fine-tune" else None
        file = StoredFile(
            id=new_file_id(),
            owner=owner,
            filename=filename,
            purpose=purpose,
            bytes=new.num_bytes,
            sha256=new.sha256,
            stored_as=new.path.name,
            status="processed" if problem is None else "error",
            status_details=problem,
            created_at=created_at,
            expires_at=expires_at,
        )

        def commit() -> None:
            with writing(self._engine) as connection:
                insert_file(connection, file)

        new.keep(commit)
        return file

    def find(self, file_id: str, caller: Caller) -> StoredFile:
        """The file; see `records.find_file`."""
        with self._engine.connect() as connection:
            return find_file(connection, file_id, caller)

    def list(self, caller: Caller, purpose: str | None) -> list[StoredFile]:
        """The caller's files, oldest first."""
        with self._engine.connect() as connection:
            return list_files(connection, caller, purpose)

    def path(self, file: StoredFile) -> Path:
        """Where it lies."""
        return self.folder / file.stored_as

    def delete(self, file: StoredFile) -> None:
        """Delete a file for ever, and what vector stores have learned from it."""
        detach_file(self._engine, self._home, file.id)
        with writing(self._engine) as connection:
            delete_row(connection, file.id)
        detach_file(self._engine, self._home, file.id)  # from now on no store can take it in; one may have just before
        self.path(file).unlink(missing_ok=True)

    def sweep(self, *, leftovers: bool) -> None:
        """Delete what has expired.

        Args:
            leftovers: look for what crashes have left behind, too.
        """
        with self._engine.connect() as connection:
            expired = list_expired(connection)
        for file in expired:
            self.delete(file)
        num_stores = clear_expired_stores(self._engine, datetime.now(UTC))
        num_left = sweep(self.folder, self._stored_names) if leftovers else 0
        if expired or num_stores or num_left:
            logger.info("swept files=%d stores=%d leftovers=%d", len(expired), num_stores, num_left)

    async def sweep_for_ever(self) -> None:
        """Sweep now and then; a failure is logged and tried again."""
        leftovers = True
        while True:
            try:
                await anyio.to_thread.run_sync(partial(self.sweep, leftovers=leftovers))
                leftovers = False
            except (BakeoffError, SQLAlchemyError, OSError) as error:
                logger.error("files cannot be swept error=%s", error)
            await asyncio.sleep(SWEEP_EVERY_S)

    def _stored_names(self) -> set[str]:
        with self._engine.connect() as connection:
            return stored_names(connection)
