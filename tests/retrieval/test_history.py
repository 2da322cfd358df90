import threading
from pathlib import Path

import numpy as np
import pytest
from hash_embedder import HashEmbedder, write_texts
from sqlalchemy import Engine, select, text

from bakeoff.database import open_database
from bakeoff.errors import BadInput, NotFound
from retrieval.catalogue import document_ids, find_document, list_documents
from retrieval.history import list_epochs, purge_documents, roll_back
from retrieval.index.live import Limits
from retrieval.permissions import change_grants
from retrieval.retriever import Retriever, SearchOptions, SearchResult
from retrieval.store import remove_documents
from retrieval.tables import EVERYONE, chunks_table

EVERYTHING = SearchOptions(top_k=50)


def at(epoch: int) -> SearchOptions:
    return SearchOptions(top_k=50, epoch=epoch)


def without_epoch(result: SearchResult) -> object:
    return (sorted((p.document_id, p.text, p.score) for p in result.passages), result.evidence)


def change_often(engine: Engine) -> int:
    """Make some epochs; returns how many."""
    write_texts(engine, "d", {f"d{number}": f"word{number} # zebra" for number in range(6)})
    write_texts(engine, "d", {"d1": "edited zebra", "new": "new zebra"})
    remove_documents(engine, "d", ["d2", "d3"])
    write_texts(engine, "d", {"d2": "back again zebra", "d1": "edited twice"})
    return 4


def test_an_epoch_is_searched_as_it_was_then(engine: Engine, tmp_path: Path) -> None:
    retriever = Retriever(engine, HashEmbedder(), tmp_path / "i")
    write_texts(engine, "d", {"a": "zebra one", "b": "zebra two"})
    first = retriever.search("d", "zebra one", EVERYTHING)
    write_texts(engine, "d", {"a": "giraffe", "c": "zebra one"})
    second = retriever.search("d", "zebra one", EVERYTHING)
    remove_documents(engine, "d", ["b", "c"])
    third = retriever.search("d", "zebra one", EVERYTHING)
    assert [len(result.passages) for result in (first, second, third)] == [2, 3, 1]
    for searched in (retriever, Retriever(engine, HashEmbedder(), tmp_path / "i")):
        assert [searched.search("d", "zebra one", at(epoch)) for epoch in (1, 2, 3)] == [first, second, third]
    retriever.build("d")  # its base knows nothing of the past
    assert [retriever.search("d", "zebra one", at(epoch)) for epoch in (1, 2, 3)] == [first, second, third]


@pytest.mark.parametrize("epoch", [0, 4, -1])
def test_an_epoch_that_is_not_there_is_refused(engine: Engine, tmp_path: Path, epoch: int) -> None:
    write_texts(engine, "d", {"a": "zebra one"})
    remove_documents(engine, "d", ["a"])
    with pytest.raises(BadInput, match="epochs 1 to 2"):
        Retriever(engine, HashEmbedder(), tmp_path).search("d", "zebra", at(epoch))


def test_every_epoch_can_be_rolled_back_to(engine: Engine, tmp_path: Path) -> None:
    num_epochs = change_often(engine)
    retriever = Retriever(engine, HashEmbedder(), tmp_path / "i")
    results = {epoch: retriever.search("d", "zebra word1", at(epoch)) for epoch in range(1, num_epochs + 1)}
    with engine.connect() as connection:
        rows = {epoch: list_documents(connection, "d", epoch) for epoch in range(1, num_epochs + 1)}
    for goal in (2, 1, 4, 3, 3):
        new = roll_back(engine, "d", goal)
        num_epochs += 1
        assert new == num_epochs
        for searched in (retriever, Retriever(engine, HashEmbedder(), tmp_path / "i")):
            result = searched.search("d", "zebra word1", EVERYTHING)
            assert result.epoch == new
            assert without_epoch(result) == without_epoch(results[goal])
        with engine.connect() as connection:
            assert list_documents(connection, "d") == rows[goal]
    for epoch, result in results.items():  # and nothing in between is lost
        assert retriever.search("d", "zebra word1", at(epoch)) == result
    roll_back(engine, "d", 0)
    assert retriever.search("d", "zebra", EVERYTHING).passages == ()
    with pytest.raises(BadInput, match="epochs 0 to"):
        roll_back(engine, "d", 99)
    with engine.connect() as connection:
        assert [epoch.action for epoch in list_epochs(connection, "d")][-4:] == ["add", "remove", "add", "add"]


def test_who_may_see_a_document_is_not_rolled_back(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {"a": "zebra", "b": "zebra"})
    write_texts(engine, "d", {"a": "giraffe"}, groups={"a": ["board"]})
    retriever = Retriever(engine, HashEmbedder(), tmp_path)
    roll_back(engine, "d", 1)
    for options in (EVERYTHING, at(1)):
        assert [passage.document_id for passage in retriever.search("d", "zebra", options).passages] == ["b"]


def all_bytes(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())


def test_nothing_of_a_purged_document_stays_on_the_disk(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {f"d{number}": f"word{number} common" for number in range(60)})
    versions = ("xylophone quartz", "xylophone marble")
    for version in versions:
        write_texts(engine, "d", {"secret-id": f"{version} {'filler ' * 50}\n\n# Part\n{version}"})
    remove_documents(engine, "d", ["secret-id"])
    write_texts(engine, "d", {"secret-id": versions[0]}, groups={"secret-id": ["secret-group"]})
    indexes = tmp_path / "indexes"
    retriever = Retriever(engine, HashEmbedder(), indexes, limits=Limits(snapshot_rows=10))
    retriever.build("d")
    table = chunks_table.c
    with engine.connect() as connection:
        rows = connection.execute(select(table.chunk_id, table.vector, table.terms).where(table.document_id != "d1"))
        secret = {row.chunk_id: row for row in rows if row.chunk_id in _secret_chunks(connection)}
    assert len(secret) >= 4
    traces = [b"xylophone", b"secret-id", b"secret-group", *map(str.encode, secret)]
    traces += [value for row in secret.values() for value in (row.vector, row.terms)]
    before = all_bytes(tmp_path)
    assert all(trace in before for trace in traces)
    purged = purge_documents(engine, "d", ["secret-id"], indexes / "d")
    assert set(purged.chunk_ids) == set(secret)
    after = all_bytes(tmp_path)
    assert [trace for trace in traces if trace in after] == []
    assert retriever.search("d", "xylophone", SearchOptions(groups=frozenset({EVERYONE, "secret-group"}))).passages
    retriever.build("d")
    assert not any(trace in all_bytes(tmp_path) for trace in traces)


def _secret_chunks(connection: object) -> set[str]:
    query = select(chunks_table.c.chunk_id).where(chunks_table.c.document_id == "secret-id")
    return set(connection.scalars(query))  # type: ignore[attr-defined]


def test_no_epoch_and_no_rollback_brings_a_purged_document_back(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {"a": "zebra one", "b": "zebra two"}, groups={"a": ["board"]})
    remove_documents(engine, "d", ["a"])
    board = frozenset({EVERYONE, "board"})
    retriever = Retriever(engine, HashEmbedder(), tmp_path / "i")
    then = SearchOptions(epoch=1, groups=board)
    assert len(retriever.search("d", "zebra", then).passages) == 2
    purge_documents(engine, "d", ["a"], tmp_path / "i" / "d")
    assert [passage.document_id for passage in retriever.search("d", "zebra", then).passages] == ["b"]
    new = roll_back(engine, "d", 1)
    for options in (then, SearchOptions(groups=board), SearchOptions(groups=board, epoch=new)):
        assert [passage.document_id for passage in retriever.search("d", "zebra", options).passages] == ["b"]
    with engine.connect() as connection:
        assert document_ids(connection, "d") == {"b"}
        with pytest.raises(NotFound):
            find_document(connection, "d", "a", board)
    with pytest.raises(NotFound, match="nothing was changed"):
        change_grants(engine, "d", ["a"], grant=["board"])
    write_texts(engine, "d", {"a": "zebra three"})  # a new document, for everyone
    assert {passage.document_id for passage in retriever.search("d", "zebra").passages} == {"a", "b"}


def test_purging_is_all_or_none(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {"a": "zebra one"})
    with pytest.raises(NotFound, match="no document gone; nothing was purged"):
        purge_documents(engine, "d", ["a", "gone"], tmp_path / "i")
    with engine.connect() as connection:
        assert document_ids(connection, "d") == {"a"}


def test_purging_succeeds_while_other_processes_read_and_write_snapshots(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {f"d{number}": f"word{number} common" for number in range(100)})
    indexes = tmp_path / "indexes"
    is_done = threading.Event()
    failures: list[Exception] = []

    def build() -> None:
        own = open_database(str(engine.url), tmp_path)
        while not is_done.is_set():
            try:
                Retriever(own, HashEmbedder(), indexes, limits=Limits(snapshot_rows=10)).build("d")
            except (OSError, RuntimeError):  # the folder was removed under it, or a purge came between
                continue
            except Exception as error:  # noqa: BLE001 - whatever else it is, the test has to fail
                failures.append(error)
        own.dispose()

    builders = [threading.Thread(target=build) for _ in range(2)]
    for builder in builders:
        builder.start()
    for number in range(40):
        purge_documents(engine, "d", [f"d{number}"], indexes / "d")
    is_done.set()
    for builder in builders:
        builder.join()
    assert failures == []
    found = Retriever(engine, HashEmbedder(), indexes).search("d", "common", SearchOptions(top_k=100))
    assert {passage.document_id for passage in found.passages} == {f"d{number}" for number in range(40, 100)}
    for manifest in indexes.glob("d/*/documents.json"):
        assert not {f'"d{number}"' for number in range(40)} & set(manifest.read_text().strip("[]").split(","))


def test_vectors_come_back_with_a_rollback_bit_for_bit(engine: Engine) -> None:
    write_texts(engine, "d", {"a": "zebra one"})
    write_texts(engine, "d", {"a": "giraffe"})
    roll_back(engine, "d", 1)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT text, vector FROM chunks WHERE born IN (1, 3) ORDER BY key")).all()
    assert len(rows) == 2
    assert rows[0] == rows[1]
    assert np.linalg.norm(np.frombuffer(rows[0].vector, np.float32)) == pytest.approx(1, abs=0.01)
