import random
import shutil
import time
from collections.abc import Iterator
from os import utime
from pathlib import Path
from typing import Any

import faiss
import pytest
from hash_embedder import HashEmbedder, write_texts
from msgspec import Struct
from sqlalchemy import Engine

import retrieval.index.live as live
import retrieval.index.snapshot as snapshot
import retrieval.index.vectors as vectors
from bakeoff.database import open_database
from retrieval.index.live import Limits, LiveIndex
from retrieval.retriever import Retriever, SearchOptions, SearchResult
from retrieval.store import remove_documents

FILES = ("manifest.json", "rows.npz", "documents.json", "vectors.faiss")
SMALL = Limits(snapshot_rows=50)
OPTIONS = SearchOptions(top_k=10)
KINDS = {"exact": 300, "lists": 2_000}


class Saved(Struct, frozen=True):
    """A domain with a snapshot, and what a search of it finds."""

    engine: Engine
    home: Path
    path: Path
    """The snapshot."""
    kind: str
    questions: list[str]
    expected: list[SearchResult]

    def open(self) -> Retriever:
        return Retriever(self.engine, HashEmbedder(), self.home / "indexes", limits=SMALL)

    def search(self) -> list[SearchResult]:
        return self.open().search_many("d", self.questions, OPTIONS)


def texts(num: int) -> dict[str, str]:
    draw = random.Random(0)  # noqa: S311 - draws test cases
    words = [f"word{number}" for number in range(400)]
    return {f"d{number}": " ".join(draw.choices(words, k=12)) for number in range(num)}


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    home = tmp_path_factory.mktemp(request.param)
    engine = open_database(f"sqlite:///{home / 'bakeoff.db'}", home)
    written = texts(KINDS[request.param])
    write_texts(engine, "d", written)
    with pytest.MonkeyPatch.context() as patch:
        for module in (live, vectors):
            patch.setattr(module, "EXACT_ROWS", 1_000)
        retriever = Retriever(engine, HashEmbedder(), home / "indexes", limits=SMALL)
        exact = Retriever(engine, HashEmbedder(), home / "none")
        asked = [" ".join(body.split()[:4]) for body in list(written.values())[:40]]
        before = exact.search_many("d", asked, OPTIONS)
        built = retriever.build("d")
        after = Retriever(engine, HashEmbedder(), home / "indexes").search_many("d", asked, OPTIONS)
        assert (built.kind == "Flat") == (request.param == "exact")
        # lists may miss a passage that exact search finds: keep the questions where both agree
        same = [place for place in range(len(asked)) if before[place] == after[place]][:10]
        assert len(same) == 10
        remove_documents(engine, "d", ["d7", "d299"])
        write_texts(engine, "d", {"d8": "word1 word2 edited", "late": "word3 word4"})
        (path,) = (home / "indexes" / "d").iterdir()
        questions = [asked[place] for place in same]
        expected = exact.search_many("d", questions, OPTIONS)
        found = Saved(engine, home, path, built.kind, questions, expected)
        assert found.search() == expected
        yield found
    engine.dispose()


class Spy:
    """Counts what FAISS is given to read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_calls = 0
        self._real = faiss.deserialize_index
        monkeypatch.setattr(snapshot.faiss, "deserialize_index", self)

    def __call__(self, data: Any) -> Any:
        self.num_calls += 1
        return self._real(data)


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file in one of the ways in which disks and people do."""
    data = bytearray(path.read_bytes())
    before = bytes(data)
    while bytes(data) == before:
        place = draw.randrange(len(data))
        kind = draw.choice(("bit", "bit", "bit", "truncated", "zeroed", "random", "longer", "deleted"))
        if kind == "bit":
            data[place] ^= 1 << draw.randrange(8)
        elif kind == "truncated":
            del data[place:]
        elif kind == "zeroed":
            end = min(len(data), place + draw.choice((1, 512, 4096)))
            data[place:end] = bytes(end - place)
        elif kind == "random":
            data[place : place + 16] = draw.randbytes(len(data[place : place + 16]))
        elif kind == "longer":
            data += draw.randbytes(draw.randint(1, 100))
        else:
            path.unlink()
            return kind
    path.write_bytes(data)
    return kind


def damage_often(
    saved: Saved, num: int, seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(seed)  # noqa: S311 - draws test cases
    spy = Spy(monkeypatch)
    for _ in range(num):
        name = draw.choice((*FILES, "vectors.faiss", "vectors.faiss"))
        whole = (saved.path / name).read_bytes()
        caplog.clear()
        kind = damage(saved.path / name, draw)
        try:
            assert saved.search() == saved.expected, (name, kind)
            assert spy.num_calls == 0, (name, kind)
            assert name in caplog.text, (name, kind)
        finally:
            (saved.path / name).write_bytes(whole)
    caplog.clear()
    assert saved.search() == saved.expected
    assert spy.num_calls == 1
    assert caplog.text == ""


def test_a_damaged_snapshot_changes_no_answer(
    saved: Saved, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    damage_often(saved, 20, 0, monkeypatch, caplog)


@pytest.mark.soak
def test_five_hundred_damages_of_each_kind_of_snapshot_change_no_answer(
    saved: Saved, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    damage_often(saved, 500, 1, monkeypatch, caplog)


@pytest.mark.parametrize("name", FILES)
def test_every_bit_of_a_small_piece_is_guarded(
    saved: Saved, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    spy = Spy(monkeypatch)
    whole = (saved.path / name).read_bytes()
    try:
        for place in (0, len(whole) // 2, len(whole) - 1):
            data = bytearray(whole)
            data[place] ^= 1
            (saved.path / name).write_bytes(data)
            assert saved.search()[0] == saved.expected[0]
            assert f"{name} does not have the checksum" in caplog.text
            caplog.clear()
    finally:
        (saved.path / name).write_bytes(whole)
    assert spy.num_calls == 0


def test_a_damaged_faiss_file_is_made_again(saved: Saved, tmp_path: Path) -> None:
    folder = tmp_path / "indexes"
    shutil.copytree(saved.home / "indexes", folder)
    damaged = folder / "d" / saved.path.name
    (damaged / "vectors.faiss").write_bytes(b"")
    retriever = Retriever(saved.engine, HashEmbedder(), folder, limits=SMALL)
    assert retriever.search_many("d", saved.questions, OPTIONS) == saved.expected
    built = retriever.build_if_due("d")
    assert built is not None
    assert built.kind == saved.kind
    assert retriever.build_if_due("d") is None
    assert not damaged.exists()


def test_an_unfinished_snapshot_is_never_read(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "indexes" / "d"
    shutil.copytree(saved.path, folder / ".0123456789abcdef.partial")
    spy = Spy(monkeypatch)
    retriever = Retriever(saved.engine, HashEmbedder(), tmp_path / "indexes", limits=SMALL)
    assert retriever.search_many("d", saved.questions, OPTIONS) == saved.expected
    assert (spy.num_calls, caplog.text) == (0, "")


def test_what_a_crash_left_unfinished_is_removed_after_an_hour(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", texts(60))
    folder = tmp_path / "indexes" / "d"
    for name, age_s in (("old", 7200), ("new", 10)):
        (folder / f".{name}.partial").mkdir(parents=True)
        utime(folder / f".{name}.partial", (time.time() - age_s,) * 2)
    Retriever(engine, HashEmbedder(), tmp_path / "indexes", limits=SMALL).build("d")
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 2
    assert ".new.partial" in names


def test_a_snapshot_from_before_a_backup_was_put_back_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, folder = f"sqlite:///{tmp_path / 'b.db'}", tmp_path / "indexes"
    engine = open_database(url, tmp_path)
    write_texts(engine, "d", texts(60))
    engine.dispose()
    shutil.copy(tmp_path / "b.db", tmp_path / "backup.db")
    engine = open_database(url, tmp_path)
    write_texts(engine, "d", {"lost": "zebra lost"})
    Retriever(engine, HashEmbedder(), folder, limits=SMALL).build("d")
    engine.dispose()
    shutil.copy(tmp_path / "backup.db", tmp_path / "b.db")
    engine = open_database(url, tmp_path)
    for name in ("other", "another"):  # now at an epoch that the snapshot comes before
        write_texts(engine, "d", {name: f"zebra {name}"})
    found = Retriever(engine, HashEmbedder(), folder).search("d", "zebra lost", SearchOptions(top_k=100))
    assert found == Retriever(engine, HashEmbedder(), tmp_path / "none").search(
        "d", "zebra lost", SearchOptions(top_k=100)
    )
    assert len(found.passages) == 62
    assert "never was in its state" in caplog.text
    engine.dispose()


def test_only_the_newest_snapshot_is_kept(engine: Engine, tmp_path: Path) -> None:
    retriever = Retriever(engine, HashEmbedder(), tmp_path, limits=SMALL)
    for count in range(12):
        write_texts(engine, "d", texts(60) | {"new": f"words {count}"})
        retriever.build("d")
    (path,) = (tmp_path / "d").iterdir()
    assert path.name.startswith("0000000012-")


@pytest.mark.parametrize("field", ["domain", "embedder", "terms", "generation"])
def test_a_snapshot_of_another_state_is_refused(
    engine: Engine, tmp_path: Path, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_texts(engine, "d", texts(60))
    index = LiveIndex(engine, "d", "hash", tmp_path / "i", SMALL, keeps=False)
    index.build()
    generation = index.view().generation
    wanted = {"domain": "d", "embedder": "hash", "terms": 1, "generation": generation}
    assert _read(tmp_path / "i", wanted) is not None
    assert _read(tmp_path / "i", wanted | {field: 99 if field == "terms" else "other"}) is None
    assert "made for another state" in caplog.text
    # what may hold purged documents does not stay on the disk
    assert (_read(tmp_path / "i", wanted) is None) == (field == "generation")


def _read(folder: Path, wanted: dict[str, Any]) -> object:
    return snapshot.read_snapshot(folder, wanted["domain"], wanted["embedder"], wanted["terms"], wanted["generation"])
