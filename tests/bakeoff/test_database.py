import sys
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hash_embedder import HashEmbedder, ignore, write_texts
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import StatementError

import bakeoff.adapters
import bakeoff.examples
import bakeoff.jobs
import bakeoff.keys
import retrieval.tables
import service.tables
from bakeoff.database import MIGRATIONS, describe_cause, metadata, open_database
from bakeoff.domains import delete_domain, find_domain
from bakeoff.errors import BadInput, Mismatch
from retrieval.catalogue import find_document, list_documents
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import reindex_documents, remove_documents
from retrieval.tables import EVERYONE
from retrieval.tuning import Tuning, save_tuning

DECLARED = (
    bakeoff.adapters.adapters_table,
    bakeoff.adapters.adapter_events_table,
    bakeoff.examples.examples_table,
    bakeoff.jobs.jobs_table,
    bakeoff.keys.api_keys_table,
    retrieval.tables.shots_table,
    service.tables.answers_table,
)


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


def test_errors_hold_neither_password_nor_values(engine: Engine, tmp_path: Path) -> None:
    for url in ("postgresql://bob:s3cret@127.0.0.1:1/x?password=s3cret", "nothing s3cret", "foo://b:s3cret@h/x"):
        with pytest.raises(BadInput) as refused:
            open_database(url, tmp_path)
        assert "s3cret" not in str(refused.value)
    with engine.begin() as connection, pytest.raises(StatementError) as failed:
        connection.execute(text("INSERT INTO nowhere VALUES (:prompt)"), {"prompt": "s3cret"})
    assert "s3cret" not in str(failed.value)
    assert describe_cause(failed.value) == "no such table: nowhere"


def test_a_missing_driver_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(BadInput, match=r"pip install 'bakeoff\[postgresql\]'"):
        open_database("postgresql://bob@127.0.0.1:1/x", tmp_path)


def test_deleting_a_domain_deletes_its_rows(engine: Engine, tmp_path: Path) -> None:
    for domain in ("d", "other"):
        write_texts(engine, domain, {"a": "zebra"})
    with engine.begin() as connection:
        save_tuning(connection, "d", Tuning())
        delete_domain(connection, "d")
        for table in ("documents", "chunks", "grants", "epochs", "tunings", "domains"):
            column = "name" if table == "domains" else "domain"
            left = set(connection.scalars(text(f"SELECT {column} FROM {table}")))  # noqa: S608 - no input
            assert left == (set() if table == "tunings" else {"other"})


def migrate(engine: Engine, revision: str) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        before = MigrationContext.configure(connection).get_current_revision() or ""
        command = alembic.command.upgrade if before < revision else alembic.command.downgrade
        command(config, revision)


def fill_first_revision(engine: Engine) -> None:
    """A domain as the first revision stored it, at epoch 3."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO domains VALUES ('d', 3, NULL, '2026-01-02 03:04:05.000000')"))
        connection.execute(text("INSERT INTO domains VALUES ('empty', 0, NULL, '2026-01-02 03:04:05.000000')"))
        for number in range(5):
            row = {"id": f"d{number}", "text": f"zebra word{number}", "vector": bytes(32)}
            connection.execute(text("INSERT INTO documents VALUES ('d', :id, 'Title', :text, 'a/b.md')"), row)
            insert = "INSERT INTO chunks VALUES ('d', :id, :id, 0, :text, 'old', :vector)"
            connection.execute(text(insert), row)


def test_documents_of_the_first_revision_come_over_and_are_searched_once_indexed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'b.db'}"
    old = create_engine(url)
    migrate(old, "0001")
    fill_first_revision(old)
    old.dispose()
    engine = open_database(url, tmp_path)
    with engine.connect() as connection:
        rows = list_documents(connection, "d")
        assert [(row.id, row.title, row.source, row.chunks, row.groups) for row in rows] == [
            (f"d{number}", "Title", "a/b.md", 0, (EVERYONE,)) for number in range(5)
        ]
        assert find_document(connection, "d", "d3", [EVERYONE])[0].text == "zebra word3"
        assert find_domain(connection, "d").epoch == 3
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    retriever = Retriever(engine, HashEmbedder(), tmp_path / "indexes")
    assert retriever.search("d", "zebra").passages == ()
    counts = reindex_documents(engine, "d", HashEmbedder(), ignore)
    assert (counts.replaced, counts.embedded, counts.epoch) == (5, 5, 4)
    assert retriever.search("d", "word3").passages[0].document_id == "d3"
    assert len(retriever.search("d", "zebra").passages) == 5
    assert retriever.search("d", "zebra", SearchOptions(epoch=3)).passages == ()
    assert retriever.search("empty", "zebra").passages == ()
    engine.dispose()


def test_living_documents_go_down_to_the_first_revision_and_come_up_again(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {"a": "zebra", "b": "giraffe", "gone": "lion"})
    write_texts(engine, "d", {"a": "zebra edited"})
    remove_documents(engine, "d", ["gone"])
    migrate(engine, "0001")
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, text FROM documents ORDER BY id")).all()
        assert [tuple(row) for row in rows] == [("a", "zebra edited"), ("b", "giraffe")]
    again = open_database(str(engine.url), tmp_path)
    reindex_documents(again, "d", HashEmbedder(), ignore)
    found = Retriever(again, HashEmbedder(), tmp_path / "i").search("d", "zebra").passages
    assert [passage.document_id for passage in found] == ["a", "b"]
    again.dispose()
