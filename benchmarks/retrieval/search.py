"""A whole search, question to passages, in a large domain: both rankings, fusion, permissions, and reading the texts.

The questions' vectors are there already, so what is timed is all but the embedder. Each step is a process of its own:
opening from the database alone, building, opening from the snapshot, searching.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.database import open_database
from benchmarks.retrieval.report import Row, in_child, latencies_of, memory_mib, show_table, wait_for_calm
from benchmarks.retrieval.sets import DOMAIN, Set, embed_questions
from benchmarks.retrieval.synthetic import FEW, make_domain
from retrieval.embedder import Embedder, Vectors
from retrieval.retriever import Retriever, SearchOptions
from retrieval.tables import EVERYONE

OPENING_S = 2.0
"""What opening may take at most, with a snapshot or without."""
_NUM_QUESTIONS = 500


class Known:
    """An embedder that looks vectors up."""

    max_tokens = 256

    def __init__(self, name: str, vectors: dict[str, Vectors]) -> None:
        self.name = name
        self._vectors = vectors

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts that are known."""
        return np.stack([self._vectors[text] for text in texts])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Nobody asks."""
        raise NotImplementedError


def measure_search(sets: Sequence[Set], num_chunks: int, embedder: Embedder, cache: Path, seed: int) -> list[Row]:
    """Measure opening and searching."""
    home = cache / f"search-{num_chunks}-{seed}"
    make_domain(sets, num_chunks, home, embedder.name, seed).dispose()
    texts = [question.text for each in sets for question in each.test]
    vectors = np.concatenate([embed_questions(each, "test", embedder) for each in sets])
    drawn = np.random.default_rng(seed).permutation(len(texts))[:_NUM_QUESTIONS]
    asked = [texts[at] for at in drawn.tolist()], vectors[drawn], embedder.name
    shutil.rmtree(home / "indexes", ignore_errors=True)
    rows = []
    for state in ("no snapshot", "snapshot"):
        load = wait_for_calm()
        rows.append({"opened from": state} | in_child(_search, home, *asked) | {"load": load})
        if state == "no snapshot":
            built = in_child(_build, home, *asked)
    show_table(f"SEARCH, {num_chunks:,} chunks; built in {built['build s']} s ({built['kind']})", rows)
    return [row | built for row in rows]


def find_failures(rows: Sequence[Row]) -> list[str]:
    """Openings that take too long."""
    return [
        f"search: opening from {row['opened from']} took {row['open s']} s; must be {OPENING_S} at most"
        for row in rows
        if row["open s"] > OPENING_S
    ]


def _search(home: Path, texts: list[str], vectors: Vectors, embedder: str) -> Row:
    retriever = _open(home, texts, vectors, embedder)
    started = time.perf_counter()
    retriever.refresh(DOMAIN)
    figures: Row = {"open s": round(time.perf_counter() - started, 2), "MiB": round(memory_mib("VmRSS"))}
    for name, group in (("all", EVERYONE), ("1%", FEW)):
        options = SearchOptions(groups=frozenset({group}))
        started = time.perf_counter()
        retriever.search(DOMAIN, texts[0], options)
        first = time.perf_counter() - started
        seconds = []
        for text in texts:
            started = time.perf_counter()
            retriever.search(DOMAIN, text, options)
            seconds.append(time.perf_counter() - started)
        figures[f"{name}: first ms"] = round(1000 * first, 1)
        figures |= {f"{name}: {key}": value for key, value in latencies_of(seconds).items()}
    return figures


def _build(home: Path, texts: list[str], vectors: Vectors, embedder: str) -> Row:
    started = time.perf_counter()
    built = _open(home, texts, vectors, embedder).build(DOMAIN)
    return {"build s": round(time.perf_counter() - started, 1), "kind": built.kind, "built MiB": memory_mib("VmHWM")}


def _open(home: Path, texts: list[str], vectors: Vectors, embedder: str) -> Retriever:
    known: Any = Known(embedder, dict(zip(texts, vectors, strict=True)))
    engine = open_database(f"sqlite:///{home}/bakeoff.db", home)
    return Retriever(engine, known, home / "indexes")
