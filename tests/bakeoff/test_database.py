from pathlib import Path

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

import bakeoff.artefacts
import bakeoff.examples
import retrieval.tables
from bakeoff.database import MIGRATIONS, metadata, open_database
from bakeoff.domains import delete_domain, ensure_domain
from bakeoff.errors import BadInput, Mismatch

DECLARED = (bakeoff.artefacts.adapters_table, bakeoff.examples.examples_table, retrieval.tables.shots_table)


def test_the_migrations_make_exactly_the_declared_tables(engine: Engine) -> None:
    assert {table.name for table in DECLARED} < set(metadata.tables)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_migrations_go_down_again(engine: Engine) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_a_database_of_a_newer_version_is_refused(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Mismatch, match="revision 9999"):
        open_database(str(engine.url), tmp_path)


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot open the database"):
        open_database(f"sqlite:///{tmp_path / 'file' / 'b.db'}", tmp_path)


def test_deleting_a_domain_deletes_its_rows(engine: Engine) -> None:
    with engine.begin() as connection:
        ensure_domain(connection, "d")
        connection.execute(text("INSERT INTO documents VALUES ('d', 'x', 't', 'text', '')"))
        delete_domain(connection, "d")
        assert connection.scalar(text("SELECT count(*) FROM documents")) == 0
