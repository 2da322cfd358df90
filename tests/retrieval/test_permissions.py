"""Who sees what: checked against a database that holds nothing but what the caller may see.

Each round changes a domain, then draws callers. For a caller, a second database is filled with the rows of the
documents that the caller may see by the test's own books, and every search must give the same there, to the last bit:
what is hidden leaves no trace in ids, texts, ranks, scores, evidence or the number of results.
"""

import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder, ignore, write_texts
from searching_process import SearchingProcess
from sqlalchemy import Engine, text

from bakeoff.database import open_database
from bakeoff.domains import find_domain
from bakeoff.errors import BadInput, NotFound
from bakeoff.records import Document
from retrieval.catalogue import count_documents, find_document
from retrieval.history import purge_documents, roll_back
from retrieval.index.live import Limits
from retrieval.permissions import caller_groups, change_grants
from retrieval.ranking import Fusion
from retrieval.retriever import Retriever, SearchOptions, SearchResult
from retrieval.store import add_documents, remove_documents
from retrieval.tables import EVERYONE
from retrieval.tuning import Tuning, save_tuning

GROUPS = ("board", "staff", "legal", "night-shift")
WORDS = [f"word{number}" for number in range(40)] + ["zebra", "common", "the", "Café", "naïve"]
FUSIONS = (
    Fusion(),
    Fusion(),
    Fusion(lexical_weight=0),
    Fusion(lexical_weight=1),
    Fusion(method="reciprocal-rank", lexical_weight=0.5),
)
TABLES = ("documents", "chunks", "grants")
OPTIONS_PER_CALLER = 16
CALLERS_PER_ROUND = 4


class Books:
    """What the domain holds and who may see it, kept by the test itself."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, str]] = [{}]
        """Document id -> text, in every epoch."""
        self.groups: dict[str, set[str]] = {}

    @property
    def now(self) -> dict[str, str]:
        return self.epochs[-1]

    def visible(self, groups: frozenset[str], epoch: int) -> dict[str, str]:
        return {name: body for name, body in self.epochs[epoch].items() if self.groups[name] & groups}

    def forget(self, ids: set[str]) -> None:
        self.epochs = [{name: body for name, body in epoch.items() if name not in ids} for epoch in self.epochs]
        for name in ids:
            del self.groups[name]


class World:
    """A domain that changes at random, and retrievers that have seen it before."""

    def __init__(self, home: Path, seed: int) -> None:
        self.draw = random.Random(seed)  # noqa: S311 - draws test cases
        self.url = f"sqlite:///{home / 'bakeoff.db'}"
        self.folder = home / "indexes"
        self.engine = open_database(self.url, home)
        self.writer = open_database(self.url, home)
        limits = Limits(snapshot_rows=40, fresh_rows=30)
        self.warm = Retriever(self.engine, HashEmbedder(), self.folder, limits=limits)
        self.shadow = open_database(f"sqlite:///{home / 'shadow.db'}", home / "shadow")
        self.books = Books()
        self.fusion = Fusion()
        self.num_cases = 0
        self._write(self._texts(60))

    def close(self) -> None:
        for engine in (self.engine, self.writer, self.shadow):
            engine.dispose()

    def _text(self) -> str:
        num_sections = self.draw.choice((1, 1, 2, 3))
        sections = (
            f"# {self.draw.choice(WORDS)}\n{' '.join(self.draw.choices(WORDS, k=self.draw.randint(2, 14)))}"
            for _ in range(num_sections)
        )
        return "\n\n".join(sections)

    def _texts(self, num: int) -> dict[str, str]:
        texts = {f"d{self.draw.randint(0, 99)}": self._text() for _ in range(num)}
        names = list(texts)
        if len(names) > 1 and self.draw.random() < 0.3:  # the same words, seen by others
            texts[names[0]] = texts[names[1]]
        return texts

    def _some(self, num: int) -> list[str]:
        names = sorted(self.books.now)
        return self.draw.sample(names, min(num, len(names)))

    def _write(self, texts: Mapping[str, str]) -> None:
        groups = {
            name: self.draw.choices((*GROUPS, EVERYONE), k=self.draw.choice((0, 1, 1, 2)))
            for name in texts
            if self.draw.random() < 0.5
        }
        before = dict(self.books.now)
        write_texts(self.writer, "d", texts, groups)
        if before | texts != before:
            num_epochs = self._epoch() - len(self.books.epochs) + 1
            self.books.epochs += [before | texts] * num_epochs
            assert num_epochs == 1
        for name in texts:
            self.books.groups[name] = set(groups.get(name, self.books.groups.get(name, {EVERYONE})))

    def _epoch(self) -> int:
        with self.writer.connect() as connection:
            return find_domain(connection, "d").epoch

    def change(self) -> None:
        """One random change of documents or permissions."""
        kind = self.draw.choice(("add", "add", "remove", "rollback", "purge", "grant", "grant", "grant", "crowd"))
        if kind == "add":
            self._write(self._texts(self.draw.randint(1, 12)))
        elif kind == "crowd":  # one document with very many chunks about the same
            word = self.draw.choice(WORDS)
            sections = (f"# part {number}\n{word} {word} {number}" for number in range(self.draw.randint(20, 90)))
            self._write({f"d{self.draw.randint(0, 99)}": "\n\n".join(sections)})
        elif kind == "remove" and len(self.books.now) > 20:
            gone = self._some(self.draw.randint(1, 6))
            remove_documents(self.writer, "d", gone)
            self.books.epochs.append({name: body for name, body in self.books.now.items() if name not in gone})
        elif kind == "rollback":
            goal = self.draw.randint(max(1, len(self.books.epochs) - 8), len(self.books.epochs) - 1)
            roll_back(self.writer, "d", goal)
            self.books.epochs.append(dict(self.books.epochs[goal]))
        elif kind == "purge" and len(self.books.now) > 30:
            gone = self._some(self.draw.randint(1, 2))
            purge_documents(self.writer, "d", gone, self.folder / "d")
            self.books.forget(set(gone))
            self.books.epochs.append(dict(self.books.now))
        elif kind == "grant":
            names = self._some(self.draw.randint(1, 20))
            pool = (*GROUPS, EVERYONE)
            grant, revoke = self.draw.sample(pool, self.draw.randint(0, 2)), self.draw.sample(pool, 1)
            change_grants(self.writer, "d", names, grant=grant, revoke=revoke)
            for name in names:
                self.books.groups[name] = (self.books.groups[name] | set(grant)) - set(revoke)
        assert self._epoch() == len(self.books.epochs) - 1

    def tend(self) -> None:
        """Change how the index is made up, or how it ranks."""
        choice = self.draw.random()
        if choice < 0.2:
            self.warm.build("d")
        elif choice < 0.4:
            self.warm = Retriever(self.engine, HashEmbedder(), self.folder)
        elif choice < 0.6:
            self.fusion = self.draw.choice(FUSIONS)
            with self.writer.begin() as connection:
                save_tuning(connection, "d", Tuning(fusion=self.fusion, embedder="hash"))

    def check_caller(self) -> None:
        """Search as one caller, here and where nothing else is."""
        groups = caller_groups(self.draw.sample(GROUPS, self.draw.choice((0, 0, 1, 1, 2, 4))))
        granted = {name for name, names in self.books.groups.items() if names & groups}
        self._fill_shadow(granted)
        alone = Retriever(self.shadow, HashEmbedder(), self.folder.with_name("none"))
        hidden = sorted(self.books.now.keys() - granted)
        now = len(self.books.epochs) - 1
        for _ in range(OPTIONS_PER_CALLER):
            options = SearchOptions(
                top_k=self.draw.choice((1, 3, 5, 10, 20, 60)),
                groups=groups,
                epoch=self.draw.randint(max(1, now - 6), now) if self.draw.random() < 0.2 else None,
                repeats=self.draw.random() < 0.2,
                max_tokens=self.draw.choice((0, 0, 0, 30)),
                without=frozenset(self._some(2)) if self.draw.random() < 0.1 else frozenset(),
            )
            questions = [self._question(hidden) for _ in range(self.draw.choice((1, 2, 3)))]
            expected = alone.search_many("d", questions, options)
            found = self.warm.search_many("d", questions, options)
            for question, result, same in zip(questions, found, expected, strict=True):
                self._check(question, options, result, same)

    def _question(self, hidden: list[str]) -> str:
        if hidden and self.draw.random() < 0.3:  # exactly the words of something that is not theirs
            return self.books.now[self.draw.choice(hidden)][:200]
        return " ".join(self.draw.choices([*WORDS, "unheard"], k=self.draw.randint(1, 6)))

    def _check(self, question: str, options: SearchOptions, result: SearchResult, expected: SearchResult) -> None:
        case = (question, options, self.fusion)
        assert result == expected, case
        epoch = len(self.books.epochs) - 1 if options.epoch is None else options.epoch
        assert result.epoch == epoch
        visible = self.books.visible(options.groups, epoch)
        found = [passage.document_id for passage in result.passages]
        assert set(found) <= visible.keys() - options.without, case
        for passage in result.passages:
            lines = set(visible[passage.document_id].replace("# ", "").splitlines())
            assert set(passage.text.splitlines()) <= lines, case
        if not options.repeats:
            assert len(found) == len(set(found)), case
        if not options.repeats and not options.max_tokens and self.fusion.lexical_weight < 1:
            assert len(found) == min(options.top_k, len(visible.keys() - options.without)), case
        self.num_cases += 1

    def _fill_shadow(self, ids: set[str]) -> None:
        with self.shadow.connect() as connection:
            connection.exec_driver_sql("ATTACH ? AS whole", (self.url.removeprefix("sqlite:///"),))
            connection.exec_driver_sql("PRAGMA synchronous=OFF")
            connection.exec_driver_sql("DELETE FROM domains")
            for table in ("domains", *TABLES, "tunings"):
                connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM whole.{table}")  # noqa: S608
            connection.exec_driver_sql("CREATE TEMP TABLE seen (id TEXT PRIMARY KEY)")
            if ids:
                connection.exec_driver_sql("INSERT INTO seen VALUES (?)", [(name,) for name in sorted(ids)])
            for table, column in zip(TABLES, ("id", "document_id", "document_id"), strict=True):
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT id FROM seen)")  # noqa: S608
            connection.exec_driver_sql("DROP TABLE seen")
            connection.commit()
            connection.exec_driver_sql("DETACH whole")


def run_world(home: Path, seed: int, num_cases: int) -> int:
    world = World(home, seed)
    while world.num_cases < num_cases:
        for _ in range(world.draw.choice((1, 1, 2, 3))):
            world.change()
        world.tend()
        for _ in range(CALLERS_PER_ROUND):
            world.check_caller()
    world.close()
    return world.num_cases


@pytest.mark.parametrize("seed", range(3))
def test_what_is_hidden_changes_nothing_that_a_caller_gets(tmp_path: Path, seed: int) -> None:
    assert run_world(tmp_path, seed, 1_000) >= 1_000


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_what_is_hidden_changes_nothing_in_a_hundred_thousand_searches(tmp_path: Path, seed: int) -> None:
    assert run_world(tmp_path, seed, 5_000) >= 5_000


def search_ids(retriever: Retriever, groups: frozenset[str] = frozenset({EVERYONE})) -> list[str]:
    return [p.document_id for p in retriever.search("d", "zebra", SearchOptions(top_k=50, groups=groups)).passages]


def test_a_revocation_counts_from_the_next_search_of_every_process(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {f"d{number}": f"zebra {number}" for number in range(10)})
    second = open_database(str(engine.url), tmp_path)
    retrievers = [Retriever(each, HashEmbedder(), tmp_path / "indexes") for each in (engine, engine, second)]
    other = SearchingProcess(engine, tmp_path)
    staff = caller_groups(["staff"])
    for number in range(10):
        assert all(f"d{number}" in search_ids(retriever) for retriever in retrievers)
        assert f"d{number}" in other.search("zebra")[1]
        change_grants(second, "d", [f"d{number}"], grant=["staff"], revoke=[EVERYONE])
        assert all(f"d{number}" not in search_ids(retriever) for retriever in retrievers)
        assert f"d{number}" not in other.search("zebra")[1]
        assert f"d{number}" in other.search("zebra", ["staff"])[1]
        assert all(f"d{number}" in search_ids(retriever, staff) for retriever in retrievers)
    assert other.search("zebra") == (1, [])
    purge_documents(second, "d", ["d4"], tmp_path / "indexes" / "d")
    assert len(other.search("zebra", ["staff"])[1]) == 9
    assert all(len(search_ids(retriever, staff)) == 9 for retriever in retrievers)
    other.close()
    second.dispose()


def race(engine: Engine, home: Path, duration_s: float) -> int:
    """Search in threads while another revokes, grants, edits and purges; returns the number of searches."""
    write_texts(engine, "d", {f"d{number}": f"zebra {number}" for number in range(30)})
    second = open_database(str(engine.url), home)
    limits = Limits(snapshot_rows=20, fresh_rows=10)
    shared = Retriever(engine, HashEmbedder(), home / "indexes", limits=limits, keeps=True)
    hidden: dict[str, int] = {}
    """Documents that are revoked for sure -> the number of the revocation."""
    wrong: list[object] = []
    num_searches = [0, 0, 0]
    is_done = threading.Event()

    def search(place: int, retriever: Retriever) -> None:
        while not is_done.is_set():
            before = dict(hidden)
            found = search_ids(retriever)
            wrong.extend(name for name in found if name in before and hidden.get(name) == before[name])
            num_searches[place] += 1

    retrievers = (shared, shared, Retriever(second, HashEmbedder(), home / "indexes"))
    threads = [threading.Thread(target=search, args=pair) for pair in enumerate(retrievers)]
    for thread in threads:
        thread.start()
    draw = random.Random(0)  # noqa: S311 - draws test cases
    end = time.monotonic() + duration_s
    count = 0
    purged: set[str] = set()
    while time.monotonic() < end:
        count += 1
        name = f"d{draw.randint(0, 29)}"
        if name in hidden:
            del hidden[name]
            if name in purged:
                write_texts(engine, "d", {name: f"zebra {count}"})
            else:
                change_grants(engine, "d", [name], grant=[EVERYONE])
            purged.discard(name)
        elif draw.random() < 0.7:
            change_grants(engine, "d", [name], revoke=[EVERYONE])
            hidden[name] = count
        elif draw.random() < 0.5:
            write_texts(engine, "d", {name: f"zebra {count}"})
        else:
            purge_documents(engine, "d", [name], home / "indexes" / "d")
            hidden[name] = count
            purged.add(name)
    is_done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(num_searches) > 10
    second.dispose()
    return sum(num_searches)


def test_no_search_that_starts_after_a_revocation_shows_the_document(engine: Engine, tmp_path: Path) -> None:
    assert race(engine, tmp_path, 3) > 50


@pytest.mark.soak
def test_no_search_of_two_minutes_shows_a_revoked_document(engine: Engine, tmp_path: Path) -> None:
    assert race(engine, tmp_path, 120) > 1_000


def test_reading_back_shows_only_what_the_caller_may_see(engine: Engine) -> None:
    groups = {"board-only": ["board"], "nobody": [], "both": ["board", "staff"]}
    write_texts(engine, "d", dict.fromkeys((*groups, "open"), "zebra"), groups)
    with engine.connect() as connection:
        counts = [count_documents(connection, "d", caller_groups(names)) for names in ((), ("staff",), ("board",))]
        assert counts == [1, 2, 3]
        assert find_document(connection, "d", "board-only", caller_groups(["board"]))[0].text == "zebra"
        for name in ("board-only", "nobody", "both", "unheard"):  # hidden or missing: nobody can tell
            with pytest.raises(NotFound, match=f"holds no document '{name}'"):
                find_document(connection, "d", name, caller_groups())


def test_who_sees_nothing_learns_nothing(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {"a": "zebra"}, {"a": ["board"]})
    result = Retriever(engine, HashEmbedder(), tmp_path).search("d", "zebra")
    assert (result.passages, result.evidence, result.explanations) == ((), 0, ())


def test_granting_is_all_or_none_and_names_what_is_wrong(engine: Engine) -> None:
    add_documents(engine, "d", [Document("a", "", "zebra")], HashEmbedder(), ignore)
    with pytest.raises(NotFound, match="no document gone; nothing was changed"):
        change_grants(engine, "d", ["a", "gone"], revoke=[EVERYONE])
    with pytest.raises(BadInput, match="'no spaces' is not a name"):
        change_grants(engine, "d", ["a"], grant=["no spaces"])
    with pytest.raises(BadInput, match="name a group"):
        change_grants(engine, "d", ["a"])
    with engine.connect() as connection:
        before = find_domain(connection, "d")
    assert change_grants(engine, "d", ["a"], grant=["staff", EVERYONE]) == {"a": (EVERYONE, "staff")}
    assert change_grants(engine, "d", ["a"], grant=["staff"]) == {"a": (EVERYONE, "staff")}  # changes nothing
    with engine.connect() as connection:
        assert find_domain(connection, "d").permissions == before.permissions + 1
        assert find_domain(connection, "d").epoch == before.epoch
        assert connection.scalar(text("SELECT count(*) FROM grants WHERE is_granted")) == 2
