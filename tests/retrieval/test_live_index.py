import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hash_embedder import HashEmbedder, write_texts
from searching_process import SearchingProcess
from sqlalchemy import Engine

import retrieval.index.snapshot as snapshot
from bakeoff.domains import delete_domain, find_domain
from bakeoff.errors import NotFound
from retrieval.history import purge_documents
from retrieval.index import building, live, opening
from retrieval.index.live import Limits, LiveIndex
from retrieval.retriever import Retriever, SearchOptions, SearchResult, snapshots_folder
from retrieval.store import remove_documents

SMALL = Limits(snapshot_rows=50, fresh_rows=20)
QUESTIONS = [f"word{number} common topic{number % 7}" for number in range(0, 60, 7)]


def texts(num: int, word: str = "common", start: int = 0) -> dict[str, str]:
    return {
        f"d{number}": f"# One\n{word} word{number} topic{number % 7}\n\n# Two\n{word} other{number % 5}"
        for number in range(start, start + num)
    }


def search_all(retriever: Retriever, epoch: int | None = None) -> list[SearchResult]:
    return retriever.search_many("d", QUESTIONS, SearchOptions(top_k=10, epoch=epoch))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def open_index(engine: Engine, folder: Path, limits: Limits = SMALL, *, keeps: bool = False) -> LiveIndex:
    return LiveIndex(engine, "d", "hash", folder, limits, keeps=keeps)


@pytest.fixture
def indexes(tmp_path: Path) -> Path:
    return tmp_path / "indexes"


@pytest.fixture
def other(engine: Engine, tmp_path: Path) -> Iterator[SearchingProcess]:
    process = SearchingProcess(engine, tmp_path)
    yield process
    process.close()


def test_what_is_found_does_not_depend_on_how_the_index_came_about(engine: Engine, indexes: Path) -> None:
    write_texts(engine, "d", texts(10))
    warm = Retriever(engine, HashEmbedder(), indexes, limits=SMALL)
    search_all(warm)
    write_texts(engine, "d", texts(40, start=10))
    remove_documents(engine, "d", ["d3", "d33"])
    write_texts(engine, "d", {"d4": "# One\ncommon word4 edited", "d44": "# New\nfirst\n\n# One\ncommon word44 topic2"})
    fresh = search_all(warm)
    index = open_index(engine, indexes / "d")
    assert index.view().base.num_based == index.view().size
    assert search_all(Retriever(engine, HashEmbedder(), indexes)) == fresh
    assert warm.build("d").num_rows == 2 * 48 - 1
    assert search_all(warm) == fresh
    assert open_index(engine, indexes / "d").view().base.is_snapshotted
    assert search_all(Retriever(engine, HashEmbedder(), indexes)) == fresh


def test_rows_that_came_after_the_base_are_found(engine: Engine, indexes: Path) -> None:
    write_texts(engine, "d", texts(30))
    index = open_index(engine, indexes)
    assert index.view().size == 60
    write_texts(engine, "d", {"late": "quite different, about zebras"})
    view = index.view()
    assert (view.base.num_based, view.size) == (60, 61)
    retriever = Retriever(engine, HashEmbedder(), indexes)
    retriever.search("d", "zebras")
    write_texts(engine, "d", {"later": "giraffes eat leaves"})
    assert retriever.search("d", "zebras").passages[0].document_id == "late"
    assert retriever.search("d", "giraffes").passages[0].document_id == "later"


def test_a_base_is_built_in_the_background_when_many_rows_are_fresh(engine: Engine, indexes: Path) -> None:
    write_texts(engine, "d", texts(5))
    index = open_index(engine, indexes, keeps=True)
    index.view()
    write_texts(engine, "d", texts(25, start=5))
    before = index.view()
    assert (before.base.num_based, before.size) == (10, 60)
    wait_until(lambda: index.view().base.is_snapshotted)
    assert index.view().base.num_based == 60
    assert open_index(engine, indexes).view().base.is_snapshotted


@pytest.mark.parametrize("error", [RuntimeError("cannot train"), MemoryError("too large"), OSError("cannot read")])
def test_a_build_that_fails_leaves_the_old_index_serving(
    engine: Engine,
    indexes: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    monkeypatch.setattr(building, "build_vectors", failing(error))
    write_texts(engine, "d", texts(5))
    retriever = Retriever(engine, HashEmbedder(), indexes, limits=SMALL, keeps=True)
    search_all(retriever)
    write_texts(engine, "d", texts(30, start=5))
    expected = search_all(Retriever(engine, HashEmbedder(), indexes))
    assert search_all(retriever) == expected
    wait_until(lambda: "what is there serves on" in caplog.text)
    assert str(error) in caplog.text
    assert search_all(retriever) == expected
    write_texts(engine, "d", {"late": "zebras"})
    assert retriever.search("d", "zebras").passages[0].document_id == "late"
    assert caplog.text.count("what is there serves on") == 1  # not tried again with every search
    assert not list(indexes.glob("*/*"))


def test_a_build_that_failed_is_tried_again_later(
    engine: Engine, indexes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "RETRY_AFTER_S", 0.2)
    write_texts(engine, "d", texts(30))
    index = open_index(engine, indexes, keeps=True)
    with monkeypatch.context() as broken:
        broken.setattr(building, "build_vectors", failing(MemoryError("full")))
        index.view()
        wait_until(lambda: "full" in caplog.text)
    wait_until(lambda: index.view().base.is_snapshotted)


def test_a_full_disk_costs_the_snapshot_only(
    engine: Engine, indexes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write_half(_index: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("write error: No space left on device")

    monkeypatch.setattr(snapshot.faiss, "write_index", write_half)
    write_texts(engine, "d", texts(30))
    retriever = Retriever(engine, HashEmbedder(), indexes, limits=SMALL, keeps=True)
    expected = search_all(retriever)
    wait_until(lambda: "No space left" in caplog.text)
    assert search_all(retriever) == expected
    assert list(snapshots_folder(indexes, "d").iterdir()) == []
    with pytest.raises(OSError, match="No space left"):
        retriever.build("d")
    assert search_all(retriever) == expected


def test_a_folder_that_cannot_be_made_costs_the_snapshot_only(engine: Engine, indexes: Path) -> None:
    indexes.write_text("a file where the folder should be")
    write_texts(engine, "d", texts(30))
    retriever = Retriever(engine, HashEmbedder(), indexes, limits=SMALL)
    expected = search_all(retriever)
    with pytest.raises(OSError, match="Not a directory"):
        retriever.build("d")
    assert search_all(retriever) == expected


def test_a_purge_while_an_index_is_built_keeps_it_from_serving(
    engine: Engine, indexes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(engine, "d", texts(30))
    index = open_index(engine, indexes)
    build_vectors = building.build_vectors

    def purge_meanwhile(*args: Any, **options: Any) -> Any:
        purge_documents(engine, "d", ["d7"], indexes)
        return build_vectors(*args, **options)

    monkeypatch.setattr(building, "build_vectors", purge_meanwhile)
    with pytest.raises(RuntimeError, match="purged while"):
        index.build()
    assert index.view().num_dead == 0
    assert index.view().size == 58
    assert not indexes.exists()


def test_a_purge_while_a_snapshot_is_written_removes_it(
    engine: Engine, indexes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(engine, "d", texts(30))
    index = open_index(engine, indexes)
    write_snapshot = live.write_snapshot

    def purge_meanwhile(*args: Any) -> None:
        purge_documents(engine, "d", ["d7"], indexes)
        write_snapshot(*args)

    monkeypatch.setattr(live, "write_snapshot", purge_meanwhile)
    index.build()
    assert not indexes.exists()
    assert index.view().size == 58


def test_no_result_mixes_two_epochs_and_each_can_be_searched_again(engine: Engine, indexes: Path) -> None:
    num_epochs, num_documents = 30, 20
    retriever = Retriever(engine, HashEmbedder(), indexes, limits=Limits(snapshot_rows=30, fresh_rows=60), keeps=True)
    everything = SearchOptions(top_k=num_documents)
    write_texts(engine, "d", texts(num_documents, "epoch1"))
    seen: dict[int, SearchResult] = {}
    mixed: list[object] = []
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            result = retriever.search("d", "word3 topic2 other1", everything)
            words = {word for passage in result.passages for word in passage.text.split() if word.startswith("epoch")}
            if words != {f"epoch{result.epoch}"} or len(result.passages) != num_documents:
                mixed.append((result.epoch, words))
            if seen.setdefault(result.epoch, result) != result:
                mixed.append((result.epoch, "changed"))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for epoch in range(2, num_epochs + 1):
        assert write_texts(engine, "d", texts(num_documents, f"epoch{epoch}")).epoch == epoch
        time.sleep(0.02)
    is_done.set()
    for reader in readers:
        reader.join()
    assert mixed == []
    assert len(seen) > num_epochs / 2
    cold = Retriever(engine, HashEmbedder(), indexes)
    for epoch, result in seen.items():
        again = SearchOptions(top_k=num_documents, epoch=epoch)
        assert retriever.search("d", "word3 topic2 other1", again) == result
        assert cold.search("d", "word3 topic2 other1", again) == result


@pytest.mark.parametrize("read", ["load_deaths", "load_rows", "load_grants", "other_embedders"])
def test_a_write_while_the_index_catches_up_is_left_for_the_next_time(
    engine: Engine, indexes: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    write_texts(engine, "d", texts(10))
    index = open_index(engine, indexes)
    index.view()
    module = opening if read == "other_embedders" else live
    read_really = getattr(module, read)

    def write_meanwhile(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(module, read, read_really)
        write_texts(engine, "d", {"d3": "giraffe", "late": "zebra"}, {"late": ["board"], "d4": ["board"]})
        return read_really(*args, **options)

    write_texts(engine, "d", {"d2": "lion"})
    monkeypatch.setattr(module, read, write_meanwhile)
    assert index.view().epoch == 2
    view = index.view()
    keys = view.base.rows.keys[: view.size].tolist()
    assert (view.epoch, len(keys)) == (3, len(set(keys)))
    everyone = frozenset({"everyone"})
    fresh = open_index(engine, indexes).view()
    assert keys == sorted(keys)
    assert [key for key, is_seen in zip(keys, view.visible(everyone).mask, strict=True) if is_seen] == [
        key for key, is_seen in zip(fresh.base.rows.keys.tolist(), fresh.visible(everyone).mask, strict=True) if is_seen
    ]


def test_a_change_is_found_by_the_next_search_of_another_process(engine: Engine, other: SearchingProcess) -> None:
    write_texts(engine, "d", texts(30))
    assert other.search("word1 common")[0] == 1
    slowest = 0.0
    for number in range(20):
        written = write_texts(engine, "d", {f"new{number}": f"zebra{number}"}).epoch
        start = time.perf_counter()
        epoch, ids = other.search(f"zebra{number}")
        slowest = max(slowest, time.perf_counter() - start)
        assert (epoch, ids[0]) == (written, f"new{number}")
    remove_documents(engine, "d", ["new3"])
    assert "new3" not in other.search("zebra3")[1]
    assert slowest < 1


def test_a_domain_made_again_shows_nothing_of_the_old_one(engine: Engine, indexes: Path) -> None:
    write_texts(engine, "d", texts(30))
    write_texts(engine, "d", {"old": "zebras"})
    retriever = Retriever(engine, HashEmbedder(), indexes, limits=SMALL)
    retriever.build("d")
    folder = snapshots_folder(indexes, "d")
    assert len(list(folder.iterdir())) == 1
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    with engine.begin() as connection:
        delete_domain(connection, "d")
    with pytest.raises(NotFound):
        retriever.search("d", "zebras")
    write_texts(engine, "d", {f"new{number}": f"number{number} zebras" for number in range(3)})
    write_texts(engine, "d", {"new9": "giraffes"})
    with engine.connect() as connection:
        assert find_domain(connection, "d").epoch == 2  # as the old one had
    for searched in (retriever, Retriever(engine, HashEmbedder(), indexes)):
        found = {passage.document_id for passage in searched.search("d", "zebras", SearchOptions(top_k=50)).passages}
        assert found == {"new0", "new1", "new2", "new9"}


def test_documents_that_are_left_out_get_no_number(engine: Engine, indexes: Path) -> None:
    write_texts(engine, "d", texts(3))
    index = open_index(engine, indexes)
    view = index.view()
    everyone = frozenset({"everyone"})
    assert view.visible(everyone, ["d1", "unheard"]).mask.tolist() == [True, True, False, False, True, True]
    assert sorted(view.base.documents.names) == ["d0", "d1", "d2"]
