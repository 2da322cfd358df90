"""Edits by one process, searches by another: how soon an edit is found, how fast searches stay, and whether any tears.

The writer stamps each edit before it calls the product, embedding included; the reader searches for the oldest edit
that is not visible yet, as fast as it can, and for a question of the sets when there is none. Every result names its
epoch, so afterwards each is checked against what the writer did: an edit must be found in exactly the epochs that hold
it. Two documents are edited in one epoch each time and searched together: both must be of the version of that epoch.
"""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from msgspec import Struct

from bakeoff.database import open_database
from bakeoff.records import Document
from benchmarks.retrieval.report import Row, latencies_of, show_table, wait_for_calm
from benchmarks.retrieval.sets import DOMAIN, Set, open_ours
from benchmarks.retrieval.synthetic import CHUNKS_A_DOCUMENT, make_domain
from retrieval.retriever import Retriever, SearchOptions, SearchResult
from retrieval.store import add_documents, remove_documents

NUM_CHUNKS = 10_000
EDITS_A_SECOND = 5
VISIBLE_S = 1.0
"""By when 99 of 100 edits must be visible to other processes."""
_PAIR = ("pair-left", "pair-right")
_PAIR_QUESTION = "pairledger version"
_WIDE = SearchOptions(top_k=50)
"""Asked for where the question is whether an edit is there, not how high it ranks."""
_GRACE_S = 30.0

_REMOVED_AFTER = 200
"""Edits between adding a document and removing it: the reader must have had the time to see it."""


class Edit(Struct, frozen=True):
    """What the writer is about to do."""

    marker: str
    """A word that only this edit's document holds."""
    is_removal: bool
    submitted: float
    """Seconds since 1970."""


class Done(Struct, frozen=True):
    """What the writer did."""

    marker: str
    is_removal: bool
    epoch: int


class Seen(Struct, frozen=True):
    """One search of the reader."""

    asked: str
    """The marker, `pair`, or nothing for an ordinary question."""
    epoch: int
    markers: frozenset[str]
    """Markers in what was found."""
    seconds: float


def measure_freshness(sets: Sequence[Set], seconds: int, burst: int, cache: Path, seed: int) -> list[Row]:
    """Measure steady edits, then a burst."""
    texts = [document.text for each in sets for document in each.documents]
    questions = [question.text for each in sets for question in each.test][:200]
    home = cache / f"freshness-{seed}-{time.time_ns()}"
    make_domain(sets, NUM_CHUNKS, home, open_ours().name, seed).dispose()
    rows = []
    for kind, num_edits, pause in (
        (f"{EDITS_A_SECOND} edits/s", seconds * EDITS_A_SECOND, 1 / EDITS_A_SECOND),
        (f"burst of {burst:,}", burst, 0.0),
    ):
        rows.append({"edits": kind} | _run(home, texts, questions, num_edits, pause, seed + len(rows)))
    shutil.rmtree(home)
    show_table(f"FRESHNESS, {NUM_CHUNKS:,} chunks, one writing and one searching process", rows)
    return rows


def find_failures(rows: Sequence[Row]) -> list[str]:
    """Edits that came too late under steady writing, and searches that tore under any."""
    failed = [f"freshness: {row['torn']} torn searches, {row['edits']}" for row in rows if row["torn"]]
    if rows[0]["visible p99 ms"] >= 1000 * VISIBLE_S:
        failed.append(f"freshness: visible after {rows[0]['visible p99 ms']} ms (p99); must be under {VISIBLE_S} s")
    return failed + [f"freshness: {row['never']} edits never seen" for row in rows if row["never"]]


def _run(home: Path, texts: list[str], questions: list[str], num_edits: int, pause: float, seed: int) -> Row:
    context = get_context("spawn")
    told, tells = context.Pipe(duplex=False)
    heard, hears = context.Pipe(duplex=False)
    reader = context.Process(target=_read, args=(home, questions, told, hears))
    reader.start()
    tells.send(None)
    heard.recv()  # it has searched once
    load = wait_for_calm()
    plan = list(_plan(texts, num_edits, seed))
    embedder = open_ours()
    embedder.embed(["warm"])
    engine = open_database(f"sqlite:///{home}/bakeoff.db", home)
    done: list[Done] = []
    started = time.time()
    for number, (marker, documents, removed) in enumerate(plan):
        if pause:
            time.sleep(max(0.0, started + number * pause - time.time()))
        if not _is_pair(number):  # a pair is replaced so soon that the reader need not see each
            tells.send(Edit(marker, bool(removed), time.time()))
        if removed:
            epoch = remove_documents(engine, DOMAIN, removed)
        else:
            epoch = add_documents(engine, DOMAIN, documents, embedder, lambda *_: None).epoch
        done.append(Done(marker, bool(removed), epoch))
    writing = time.time() - started
    tells.send(None)
    seen, delays, never = heard.recv()
    reader.join()
    visible = latencies_of(delays or [float("nan")])
    return {
        "edits/s": round(num_edits / writing, 1),
        "visible p50 ms": visible["p50 ms"],
        "visible p99 ms": visible["p99 ms"],
        "visible max ms": round(1000 * max(delays, default=float("nan")), 1),
        "never": never,
        "searches": len(seen),
        "checked": sum(bool(of.asked) for of in seen),
        "pairs": sum(of.asked == "pair" for of in seen),
        **{
            f"search {name}": value for name, value in latencies_of([of.seconds for of in seen if not of.asked]).items()
        },
        "torn": _count_torn(seen, done),
        "load": load,
    }


def _is_pair(number: int) -> bool:
    return number % 5 == 2


def _plan(texts: list[str], num_edits: int, seed: int) -> Iterator[tuple[str, list[Document], list[str]]]:
    """(marker, documents to add, ids to remove) of each edit, in turns of five.

    Change a document, add one, change both of the pair, change a document, remove one that was added.
    """
    random = np.random.default_rng(seed)
    changed = iter(random.permutation(NUM_CHUNKS // CHUNKS_A_DOCUMENT).tolist())
    added: list[tuple[int, str]] = []
    for number in range(num_edits):
        marker = f"mark{seed}x{number:05d}"
        text = f"{marker} {marker} {marker}. {texts[random.integers(len(texts))][:400]}"
        if _is_pair(number):
            both = f"{_PAIR_QUESTION} {marker}. The pairledger version of both is {marker}."
            yield marker, [Document(name, name, f"{name} {both}", "") for name in _PAIR], []
        elif number % 5 == 1:
            added.append((number, marker))
            yield marker, [Document(f"added-{marker}", "Added", text, "")], []
        elif number % 5 == 4 and added[0][0] < number - _REMOVED_AFTER:
            _, old = added.pop(0)
            yield old, [], [f"added-{old}"]
        else:
            name = f"made-{next(changed):07d}"
            yield marker, [Document(name, name, text, "")], []


def _read(home: Path, questions: list[str], told: Connection, hears: Connection) -> None:
    """Search until the writer is done and everything was seen, or a while has passed."""
    engine = open_database(f"sqlite:///{home}/bakeoff.db", home)
    retriever = Retriever(engine, open_ours(), home / "indexes", keeps=True)
    told.recv()
    retriever.search(DOMAIN, questions[0])
    hears.send(None)
    waiting: list[Edit] = []
    seen: list[Seen] = []
    delays: list[float] = []
    ends = float("inf")
    turn = 0
    while time.time() < ends and (waiting or ends == float("inf")):
        while told.poll():
            edit = told.recv()
            if edit is None:
                ends = time.time() + _GRACE_S
            else:
                waiting.append(edit)
        turn += 1
        if waiting and turn % 4:
            edit = waiting[0]
            found = _ask(retriever, edit.marker, edit.marker, _WIDE, seen)
            if (edit.marker in found) != edit.is_removal:
                delays.append(time.time() - edit.submitted)
                waiting.pop(0)
            else:
                waiting.append(waiting.pop(0))
        elif turn % 2 or turn % 8 == 4:  # in a burst too, when edits always wait
            _ask(retriever, "pair", _PAIR_QUESTION, _WIDE, seen)
        else:
            _ask(retriever, "", questions[turn % len(questions)], SearchOptions(), seen)
    hears.send((seen, delays, len(waiting)))


def _ask(retriever: Retriever, asked: str, question: str, options: SearchOptions, seen: list[Seen]) -> frozenset[str]:
    started = time.perf_counter()
    result = retriever.search(DOMAIN, question, options)
    seconds = time.perf_counter() - started
    markers = _find_markers(result, only_pair=asked == "pair")
    seen.append(Seen(asked, result.epoch, markers, seconds))
    return markers


def _find_markers(result: SearchResult, *, only_pair: bool) -> frozenset[str]:
    """Markers of the passages; of the pair, one for each document, so that two versions, or one document, show."""
    found = set()
    for passage in result.passages:
        if only_pair and passage.document_id not in _PAIR:
            continue
        prefix = f"{passage.document_id} " if only_pair else ""
        found |= {prefix + marker for marker in re.findall(r"mark\d+x\d{5}", passage.text)}
    return frozenset(found)


def _count_torn(seen: Sequence[Seen], done: Sequence[Done]) -> int:
    """Searches that did not show what their epoch holds."""
    added = {edit.marker: edit.epoch for edit in done if not edit.is_removal}
    removed = {edit.marker: edit.epoch for edit in done if edit.is_removal}
    pairs = [(edit.epoch, edit.marker) for number, edit in enumerate(done) if _is_pair(number)]
    torn = 0
    for of in seen:
        if of.asked == "pair":
            newest = [marker for epoch, marker in pairs if epoch <= of.epoch][-1:]
            expected = {f"{name} {marker}" for name in _PAIR for marker in newest}
            torn += bool(newest) and of.markers != expected
        elif of.asked:
            is_there = added[of.asked] <= of.epoch < removed.get(of.asked, of.epoch + 1)
            torn += is_there != (of.asked in of.markers)
    return torn
