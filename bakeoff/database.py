"""The database: one engine, one metadata that every package declares its tables on, and the migrations.

It is the truth for domains, documents, chunks with their vectors, examples and adapters; files beside it (indexes,
folded weights) are derived and can be made again. SQLite by default, in WAL mode: readers never wait for a writer.
"""

from pathlib import Path

import alembic.command
import alembic.config
from advanced_alchemy.config import EngineConfig, SQLAlchemySyncConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import Engine, MetaData, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError

from bakeoff.errors import BadInput, Mismatch

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
            connection_string=url, engine_config=EngineConfig(), metadata=metadata, enable_file_object_listener=False
        )
        engine = config.get_engine()
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _tune_sqlite)
        _migrate(engine, home)
    except (OperationalError, OSError) as error:
        cause = getattr(error, "orig", error)
        raise BadInput(f"cannot open the database {url}: {cause}. Check BAKEOFF_HOME and the disk's space") from error
    return engine


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
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_TIMEOUT_MS}")
    cursor.close()
