import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from bakeoff.errors import BadInput
from retrieval.documents import read_changed, read_documents
from retrieval.sync import Plan, plan_sync, watch_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    (folder / "lines.jsonl").write_text('{"id": "l1", "text": "1"}\n{"id": "l2", "text": "2"}')
    return folder


def known_of(folder: Path) -> dict[str, str]:
    return {document.id: document.origin for document in read_documents([folder]).documents}


def plan(folder: Path, known: dict[str, str], *, allow_empty: bool = False) -> Plan:
    reading = read_documents([folder], allow_nothing=True) if folder.is_dir() else None
    reads, reports = (reading.reads, reading.reports) if reading else ([], [])
    return plan_sync(folder, reads, reports, known, allow_empty=allow_empty)


def plan_changed(folder: Path, known: dict[str, str], *changed: str) -> Plan:
    paths = {folder / name for name in changed}
    reading = read_changed(folder, paths)
    return plan_sync(folder, reading.reads, reading.reports, known, paths)


def ids_to_add(plan: Plan) -> list[str]:
    return [read.document.id for read in plan.to_add]


def test_what_is_new_is_added_and_what_is_gone_is_removed(folder: Path) -> None:
    known = known_of(folder) | {"elsewhere": "/other/a.txt", "by-hand": ""}
    (folder / "a.txt").unlink()
    (folder / "c.txt").write_text("c")
    (folder / "lines.jsonl").write_text('{"id": "l2", "text": "2"}\n{"id": "l3", "text": "3"}')
    planned = plan(folder, known)
    assert ids_to_add(planned) == ["c.txt", "l2", "l3", "sub/b.txt"]
    assert sorted(planned.to_remove) == ["a.txt", "l1"]
    assert planned.clashes == []


def test_a_file_that_cannot_be_read_keeps_its_documents(folder: Path) -> None:
    known = known_of(folder)
    (folder / "lines.jsonl").write_text('{"id": "l1", "text": "1"}\n{"id": 5}')
    (folder / "a.txt").write_bytes(b"")
    assert plan(folder, known).to_remove == []
    assert plan_changed(folder, known, "lines.jsonl", "a.txt").to_remove == []


def test_a_moved_document_is_not_removed(folder: Path) -> None:
    known = known_of(folder)
    (folder / "lines.jsonl").rename(folder / "moved.jsonl")
    assert plan(folder, known).to_remove == []
    assert plan_changed(folder, known, "lines.jsonl", "moved.jsonl").to_remove == []


def test_a_folder_below_it_that_is_gone_takes_its_documents_along(folder: Path) -> None:
    known = known_of(folder)
    (folder / "sub").rename(folder.parent / "sub")
    assert plan(folder, known).to_remove == ["sub/b.txt"]
    assert plan_changed(folder, known, "sub").to_remove == ["sub/b.txt"]


def test_only_what_changed_is_looked_at(folder: Path) -> None:
    known = known_of(folder)
    (folder / "a.txt").unlink()
    (folder / "sub" / "b.txt").unlink()
    (folder / "c.txt").write_text("c")
    planned = plan_changed(folder, known, "a.txt", "c.txt")
    assert (ids_to_add(planned), planned.to_remove) == (["c.txt"], ["a.txt"])


def empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("lose", [empty, lambda folder: folder.rename(folder.parent / "unmounted")])
def test_a_folder_that_is_gone_or_empty_removes_nothing_unless_that_is_meant(
    folder: Path, lose: Callable[[Path], None]
) -> None:
    known = known_of(folder)
    lose(folder)
    with pytest.raises(BadInput, match=r"Nothing was changed.*the 4 documents.*--allow-empty"):
        plan(folder, known)
    with pytest.raises(BadInput, match="Nothing was changed"):
        plan_changed(folder, known, "a.txt", "sub", "lines.jsonl")
    assert sorted(plan(folder, known, allow_empty=True).to_remove) == ["a.txt", "l1", "l2", "sub/b.txt"]


def test_an_empty_folder_that_never_held_a_document_is_fine(tmp_path: Path) -> None:
    assert plan(tmp_path, {"x": "/other/x.txt"}) == Plan([], [], [])


def test_a_document_of_another_folder_is_not_taken_over(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("other")
    planned = plan(folder, known_of(other))
    assert "a.txt" not in ids_to_add(planned)
    [clash] = planned.clashes
    assert clash == f"{folder / 'a.txt'}: document id 'a.txt' belongs to {other / 'a.txt'}"
    (other / "a.txt").unlink()
    assert "a.txt" in ids_to_add(plan(folder, {"a.txt": str(other / "a.txt")}))


def test_a_relative_folder_is_the_same_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_of(folder)
    (folder / "a.txt").unlink()
    monkeypatch.chdir(folder.parent)
    assert plan(Path("docs"), known).to_remove == ["a.txt"]
    assert plan_changed(Path("docs"), known, "a.txt").to_remove == ["a.txt"]


@pytest.fixture
def seen(folder: Path) -> Iterator[Queue[tuple[float, set[Path]]]]:
    """What the watch of `folder` yields, with the time."""
    stop = threading.Event()
    changes: Queue[tuple[float, set[Path]]] = Queue()

    def run() -> None:
        for paths in watch_folder(folder, stop):
            changes.put((time.monotonic(), paths))

    thread = threading.Thread(target=run)
    thread.start()
    yield changes
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_change_is_seen_within_a_second(folder: Path, seen: Queue[tuple[float, set[Path]]]) -> None:
    assert seen.get(timeout=5)[1] == {folder}
    (folder / ".hidden.txt").write_text("x")
    for change in (
        lambda: (folder / "sub" / "b.txt").write_text("edited"),
        lambda: (folder / "sub" / "b.txt").unlink(),
        lambda: (folder / "sub" / "b.txt").write_text("new"),
    ):
        start = time.monotonic()
        change()
        when, paths = seen.get(timeout=5)
        assert paths == {folder / "sub" / "b.txt"}
        assert when - start < 0.7


def test_many_writes_come_as_few_changes(folder: Path, seen: Queue[tuple[float, set[Path]]]) -> None:
    seen.get(timeout=5)
    for number in range(100):
        (folder / f"n{number}.txt").write_text("x")
    found: set[Path] = set()
    num_changes = 0
    while len(found) < 100:
        found |= seen.get(timeout=5)[1]
        num_changes += 1
    assert num_changes <= 5


def test_a_folder_that_does_not_exist_is_not_watched(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a folder"):
        next(watch_folder(tmp_path / "gone"))
