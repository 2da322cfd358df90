"""The database: one engine, one metadata that every package declares its tables on, and the migrations.

It is the truth for domains, documents, chunks with their vectors, examples and adapters; files beside it (indexes,
folded weights) are derived and can be made again. SQLite by default, in WAL mode: readers never wait for a writer.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import alembic.command
import alembic.config
from advanced_alchemy.config import EngineConfig, SQLAlchemySyncConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, MetaData, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from bakeoff.errors import BadInput, Mismatch

T = TypeVar("T")
logger = logging.getLogger(__name__)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
MIGRATIONS = Path(__file__).parent / "migrations"
SQLITE_BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_TRIES = 50


def open_database(url: str, home: Path) -> Engine:
    """Connect, and bring the schema to the newest migration (one process at a time).

    Args:
        url: any SQLAlchemy URL.
        home: state folder, made if missing; holds the lock of the migration.

    Raises:
        BadInput: the database cannot be opened there.
        Mismatch: it was written by a newer Bakeoff.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        config = SQLAlchemySyncConfig(
            connection_string=_name_driver(url).render_as_string(hide_password=False),
            engine_config=EngineConfig(hide_parameters=True),  # rows hold prompts, and errors are logged
            metadata=metadata,
            enable_file_object_listener=False,
        )
        engine = config.get_engine()
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _tune_sqlite)
        _migrate(engine, home)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"the database {hide_password(url)} needs the package {error.name}, which is not installed; "
            "for PostgreSQL: pip install 'bakeoff[postgresql]'"
        ) from error
    except NoSuchModuleError as error:
        raise BadInput(f"no driver is known for the database {hide_password(url)}") from error
    except (OperationalError, OSError) as error:
        check = "BAKEOFF_HOME and the disk's space" if url.startswith("sqlite") else "BAKEOFF_DATABASE_URL"
        raise BadInput(
            f"cannot open the database {hide_password(url)}: {describe_cause(error)}. Check {check}"
        ) from error
    return engine


def hide_password(url: str) -> str:
    """The URL as it may be shown."""
    try:
        shown = make_url(url)
    except (ArgumentError, ValueError):
        return "of an address that cannot be read"
    query = {name: "***" if "password" in name else value for name, value in shown.query.items()}
    return shown.set(query=query).render_as_string(hide_password=True)


def describe_cause(error: BaseException) -> str:
    """What went wrong, without the statement, its values or the rows it met."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def _name_driver(url: str) -> URL:
    """The parsed URL, with psycopg for PostgreSQL where it names no driver.

    Raises:
        BadInput: it is no URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise BadInput("BAKEOFF_DATABASE_URL is not an address such as postgresql://USER:PASSWORD@HOST/NAME") from error
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername in ("postgresql", "postgres") else parsed


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection whose statements all see one state of the database; never waits for a writer."""
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN")  # the driver itself begins before writes only
            yield connection
    else:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that commits when the block ends well. SQLite lets one write at a time: the others wait here."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # a lock taken after the first read could be refused
        yield connection


def in_parts(values: Sequence[T]) -> Iterable[Sequence[T]]:
    """As many at a time as a database takes in one statement."""
    return (values[start : start + 500] for start in range(0, len(values), 500))


def erase_traces(engine: Engine) -> None:
    """Make sure that deleted rows are gone from the disk too: from the write-ahead log and from dead row versions."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name != "sqlite":
            connection.exec_driver_sql("VACUUM")
            return
        for _ in range(CHECKPOINT_TRIES):  # secure_delete has overwritten the rows themselves
            if not connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one():
                return
            time.sleep(0.1)
    logger.warning("the write-ahead log is in use; what was erased leaves it with the next checkpoint")


def _migrate(engine: Engine, home: Path) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with FileLock(home / "migration.lock"), engine.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
            raise Mismatch(f"the database is at revision {current}, which this Bakeoff does not know: update Bakeoff")
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


def _tune_sqlite(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_TIMEOUT_MS}")
    cursor.close()
