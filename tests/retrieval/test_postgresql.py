"""The same on PostgreSQL: one server of our own, started for the session on a socket of its own."""

import asyncio
import threading
import time
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hash_embedder import HashEmbedder, ignore, write_texts
from sqlalchemy import Engine, inspect, text
from stored_answers import make_answer

import bakeoff.jobs
import bakeoff.keys  # noqa: F401
import service.tables  # noqa: F401
from bakeoff.adapters import list_events, register_adapter
from bakeoff.database import MIGRATIONS, metadata, open_database
from bakeoff.domains import delete_domain, ensure_domain, find_domain
from bakeoff.errors import BadInput, NotFound
from bakeoff.jobs import find_job, list_job_events, submit_job, wish_job
from bakeoff.keys import create_key, revoke_key
from bakeoff.promotions import promote_adapter
from retrieval.catalogue import count_documents, document_ids, list_documents
from retrieval.history import list_epochs, purge_documents, roll_back
from retrieval.index.live import Limits
from retrieval.permissions import caller_groups, change_grants
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import reindex_documents, remove_documents
from service.archive import Wanted, erase_answers, erase_answers_from, find_answer, list_answers
from service.edge.key_ring import KeyRing
from service.ledger import Ledger

pytest.importorskip("psycopg")


def ids(
    retriever: Retriever, question: str = "zebra", groups: tuple[str, ...] = (), epoch: int | None = None
) -> set[str]:
    options = SearchOptions(top_k=100, groups=caller_groups(groups), epoch=epoch)
    return {passage.document_id for passage in retriever.search("d", question, options).passages}


def test_the_migrations_make_exactly_the_declared_tables(postgres: Engine) -> None:
    with postgres.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_migrations_go_down_and_up_again(postgres: Engine, tmp_path: Path) -> None:
    write_texts(postgres, "d", {"a": "zebra", "b": "giraffe"})
    with postgres.begin() as connection:
        register_adapter(connection, "d", "a" * 16)
        promote_adapter(connection, "d", "a" * 16, None, "no gate here")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    for revision, command in (("0001", alembic.command.downgrade), ("head", alembic.command.upgrade)):
        with postgres.begin() as connection:
            config.attributes["connection"] = connection
            command(config, revision)
    reindex_documents(postgres, "d", HashEmbedder(), ignore)
    assert ids(Retriever(postgres, HashEmbedder(), tmp_path)) == {"a", "b"}
    with postgres.begin() as connection:
        events = [(event.event, event.by, event.details) for event in list_events(connection, "d")]
        assert events == [("registered", "unknown", {}), ("promoted", "unknown", {})]
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "base")
    assert inspect(postgres).get_table_names() == ["alembic_version"]


def test_documents_live_as_on_sqlite(postgres: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "indexes"
    retriever = Retriever(postgres, HashEmbedder(), folder, limits=Limits(snapshot_rows=10))
    write_texts(postgres, "d", {f"d{number}": f"zebra word{number}" for number in range(70)})
    assert ids(retriever, "word7") == {f"d{number}" for number in range(70)}
    epoch = write_texts(postgres, "d", {"d7": "zebra edited", "new": "zebra"}, {"new": ["board"]}).epoch
    assert retriever.search("d", "edited").passages[0].document_id == "d7"
    assert "new" not in ids(retriever)
    assert "new" in ids(retriever, groups=("board",))
    remove_documents(postgres, "d", [f"d{number}" for number in range(10, 70)])
    assert len(ids(retriever)) == 10
    assert len(ids(retriever, epoch=epoch)) == 70
    assert retriever.build("d").num_rows == 11
    assert len(ids(Retriever(postgres, HashEmbedder(), folder), groups=("board",))) == 11
    with pytest.raises(NotFound, match="nothing was removed"):
        remove_documents(postgres, "d", ["d10"])
    with pytest.raises(BadInput, match="epochs 0 to"):
        roll_back(postgres, "d", 99)
    roll_back(postgres, "d", epoch)
    assert len(ids(retriever, groups=("board",))) == 71
    change_grants(postgres, "d", ["d1"], grant=["staff"], revoke=["everyone"])
    assert "d1" not in ids(retriever)
    assert "d1" in ids(retriever, groups=("staff",))
    purge_documents(postgres, "d", ["d7"], folder / "d")
    roll_back(postgres, "d", epoch)
    assert "d7" not in ids(retriever) | ids(retriever, epoch=1)
    with postgres.connect() as connection:
        assert count_documents(connection, "d", caller_groups()) == 68
        assert len(list_documents(connection, "d")) == 70
        assert [row.action for row in list_epochs(connection, "d")][:3] == ["rollback", "purge", "rollback"]
    other = HashEmbedder("other")
    assert reindex_documents(postgres, "d", other, ignore).replaced == 70
    assert len(ids(Retriever(postgres, other, folder))) == 68
    with postgres.begin() as connection:
        delete_domain(connection, "d")
    with pytest.raises(NotFound):
        ids(retriever)


def test_writers_and_readers_at_once_see_whole_epochs(postgres: Engine, tmp_path: Path) -> None:
    texts = lambda word: {f"d{number}": f"{word} number{number}" for number in range(10)}
    write_texts(postgres, "d", texts("epoch1"))
    retriever = Retriever(postgres, HashEmbedder(), tmp_path)
    wrong: list[object] = []
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            result = retriever.search("d", "number3", SearchOptions(top_k=20))
            words = {passage.text.split()[0] for passage in result.passages}
            if len(result.passages) != 10 or len(words) != 1:
                wrong.append(result)

    def write(place: int) -> None:
        for count in range(8):
            write_texts(postgres, "d", texts(f"writer{place}x{count}"))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(place,)) for place in range(3)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    is_done.set()
    reader.join()
    assert wrong == []
    with postgres.connect() as connection:
        assert find_domain(connection, "d").epoch == 25
        assert len(document_ids(connection, "d")) == 10
        assert connection.scalar(text("SELECT count(*) FROM documents WHERE died = 2147483647")) == 10


def test_writing_again_what_has_not_changed_brings_no_revoked_group_back(postgres: Engine) -> None:
    texts = {f"d{number}": "zebra" for number in range(20)}
    write_texts(postgres, "d", texts)
    is_done = threading.Event()

    def write() -> None:
        while not is_done.is_set():
            write_texts(postgres, "d", texts)

    writer = threading.Thread(target=write)
    writer.start()
    for name in texts:
        change_grants(postgres, "d", [name], revoke=["everyone"])
    is_done.set()
    writer.join()
    with postgres.connect() as connection:
        assert count_documents(connection, "d", caller_groups()) == 0


def test_a_url_without_a_driver_is_opened_with_psycopg(postgres_server: Path, postgres: Engine, tmp_path: Path) -> None:
    for scheme in ("postgresql", "postgres"):
        again = open_database(f"{scheme}://postgres:s3cret@/postgres?host={postgres_server}", tmp_path)
        assert again.dialect.driver == "psycopg"
        again.dispose()
    with pytest.raises(BadInput, match="cannot open the database") as refused:
        open_database(f"postgresql://nobody:s3cret@/nothing?host={postgres_server}", tmp_path)
    assert "s3cret" not in str(refused.value)


def test_keys_are_kept_and_ended(postgres: Engine) -> None:
    ring = KeyRing(postgres)
    with postgres.begin() as connection:
        key, secret = create_key(connection, "Ann", ["staff"], requests_per_minute=3)
    asyncio.run(ring.refresh())
    found = ring.find(secret)
    assert found is not None
    assert found.key == key
    with postgres.begin() as connection:
        revoke_key(connection, "Ann")
    deadline = time.monotonic() + 1.5
    while ring.find(secret) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        asyncio.run(ring.refresh())
    assert not ring.is_empty


def test_jobs_are_queued_and_found(postgres: Engine) -> None:
    with postgres.begin() as connection:
        job = submit_job(connection, "train", "d", ["train", "--domain", "d"], is_heavy=True, details={"a": [1]})
        wish_job(connection, job.id, "cancel")
    with postgres.connect() as connection:
        assert find_job(connection, job.id).status == "cancelled"
        assert [event.message for event in list_job_events(connection, job.id)] == ["created", "cancelled"]


def test_answers_are_written_read_and_erased(postgres: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with postgres.begin() as connection:
        ensure_domain(connection, "d")
    ledger = Ledger(postgres)
    plain = make_answer(id="plain", metadata={"a": "b"}, completion="zebra \U0001f993", chunk_ids=("c1", "c2"))
    ledger.record(plain)
    ledger.record(make_answer(id="nul", completion="a\0b", metadata={"k\0": "\ud800"}, user="u" * 500))
    ledger.record(make_answer(id="lost", domain="gone", completion="secretword"))
    ledger.record(make_answer(id="wide", engine="secretword" * 50))
    ledger.flush()
    assert (ledger.num_written, ledger.num_dropped, ledger.num_waiting) == (2, 2, 0)
    assert "secretword" not in caplog.text
    with postgres.connect() as connection:
        assert find_answer(connection, "plain") == plain
        assert find_answer(connection, "nul").completion == "a\ufffdb"
        assert {answer.id for answer in list_answers(connection, Wanted(domain="d"), 10)} == {"plain", "nul"}
    assert erase_answers_from(postgres, "d", ["c2", "other"]) == 2
    assert erase_answers(postgres, Wanted(domain="d")) == 0
    ledger.record(plain)
    ledger.flush()
    with postgres.begin() as connection:
        delete_domain(connection, "d")
    with postgres.connect() as connection:
        assert list_answers(connection, Wanted(), 10) == []
