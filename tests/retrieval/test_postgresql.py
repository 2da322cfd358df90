"""The same on PostgreSQL: one server of our own, started for this module on a socket of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hash_embedder import HashEmbedder, ignore, write_texts
from sqlalchemy import Engine, inspect, text

from bakeoff.adapters import list_events, register_adapter
from bakeoff.database import MIGRATIONS, metadata, open_database
from bakeoff.domains import delete_domain, find_domain
from bakeoff.errors import BadInput, NotFound
from bakeoff.promotions import promote_adapter
from retrieval.catalogue import count_documents, document_ids, list_documents
from retrieval.history import list_epochs, purge_documents, roll_back
from retrieval.index.live import Limits
from retrieval.permissions import caller_groups, change_grants
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import reindex_documents, remove_documents

pytest.importorskip("psycopg")


def find_programs() -> Path | None:
    """Where PostgreSQL's programs are."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """A folder with the socket of a running server."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    as_user: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="bakeoff-pg-"))  # the path of a socket has to be short
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
        os.chown(home, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    data = home / "data"
    run = lambda *command: subprocess.run([*as_user, *map(str, command)], check=True, capture_output=True, cwd="/")
    try:
        run(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {home} -c listen_addresses='' -c fsync=off"
        run(programs / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start")
        try:
            yield home
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres(server: Path, tmp_path: Path) -> Iterator[Engine]:
    """An empty database at the newest migration."""
    url = f"postgresql+psycopg://postgres@/postgres?host={server}"
    engine = open_database(url, tmp_path)
    yield engine
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


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
