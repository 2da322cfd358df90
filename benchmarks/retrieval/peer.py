"""The same chunks, vectors and questions through LanceDB: indexing, ranking, latency and freshness beside ours.

LanceDB runs in an environment that is made for it and lives in the cache folder; files go to and fro. It is set up as
its documentation says: vectors by cosine without an approximate index, which it recommends below 100,000 rows, so its
search is exact; its own full-text index; hybrid search with its reciprocal-rank reranker. It is given our chunks and
vectors ready; our time for indexing includes cutting the documents. Queries of both are timed after embedding.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from bakeoff.database import open_database
from bakeoff.records import Document
from bakeoff.settings import CHECKOUT
from benchmarks.retrieval.quality import METHODS, score
from benchmarks.retrieval.report import Row, latencies_of, show_table, wait_for_calm
from benchmarks.retrieval.sets import DOMAIN, Set, embed_questions, load_vectors
from retrieval.embedder import Embedder, Vectors
from retrieval.normalise import fold_text
from retrieval.ranking import Fusion
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import add_documents
from retrieval.tables import ALIVE, chunks_table
from retrieval.tuning import Tuning

_REQUIREMENTS = CHECKOUT / "benchmarks" / "requirements-peer.txt"
_SCRIPT = Path(__file__).parent / "peer_lancedb.py"
_EDITS = 20


class Known:
    """The embedder, but for texts whose vectors are known."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}
        self.name = embedder.name
        self.max_tokens = embedder.max_tokens
        self.count_tokens = embedder.count_tokens

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts; those that are new are remembered."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        self._vectors |= dict(zip(new, self._embedder.embed(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])


def measure_peer(sets: Sequence[Set], embedder: Embedder, cache: Path, seed: int) -> list[Row]:
    """Measure both on every set."""
    python = _make_environment(cache)
    rows = []
    for each in sets:
        work = cache / f"peer-{each.name}-{seed}-{time.time_ns()}"
        work.mkdir(parents=True)
        load = wait_for_calm()
        queries = embed_questions(each, "test", embedder)
        rows += [row | {"load": load} for row in _measure_ours(each, queries, embedder, work)]
        _export(each, queries, work)
        quiet = os.environ | {"LANCE_LOG": "error"}  # a warning about each search would count into its time
        subprocess.run([str(python), str(_SCRIPT), str(work)], check=True, env=quiet)
        theirs = json.loads((work / "result.json").read_text())
        rows += [_read_row(each, theirs, kind) | {"load": load} for kind in ("dense", "lexical", "hybrid")]
        shutil.rmtree(work)
    show_table("PEER, LanceDB; times without embedding", rows)
    return rows


def _measure_ours(each: Set, queries: Vectors, embedder: Embedder, work: Path) -> list[Row]:
    known = Known(embedder)
    edits = [
        Document(f"edit-{number}", "", f"The reference code is edit{number:03d}x.", "") for number in range(_EDITS)
    ]
    known.embed([question.text for question in each.test] + [edit.text for edit in edits])
    warm = open_database(f"sqlite:///{work}/warm.db", work)
    add_documents(warm, DOMAIN, [*each.documents, *edits], known, lambda *_: None)
    engine = open_database(f"sqlite:///{work}/ours.db", work)
    retriever = Retriever(engine, known, work / "indexes")
    started = time.perf_counter()
    add_documents(engine, DOMAIN, each.documents, known, lambda *_: None)
    retriever.refresh(DOMAIN)
    indexed = round(time.perf_counter() - started, 2)
    rows = []
    for name, fusion in (("dense", METHODS["dense"]), ("lexical", METHODS["lexical"]), ("hybrid", Fusion())):
        seconds, ranked = [], []
        for asked, query in zip(each.test, queries, strict=True):
            found = retriever.candidates(DOMAIN, asked.text, query, SearchOptions(), Tuning(fusion=fusion))
            ranked.append([document for document, _ in found][:10])
            if name == "hybrid":
                started = time.perf_counter()
                retriever.search(DOMAIN, asked.text, SearchOptions(top_k=10))
                seconds.append(time.perf_counter() - started)
        row = {"set": each.name, "by": "ours", "ranking": name, "index s": indexed}
        times = latencies_of(seconds) if seconds else {"p50 ms": None, "p99 ms": None}
        rows.append(row | times | {"nDCG@10": score(each.test, ranked)["nDCG@10"], "edit to found ms": None})
    rows[-1]["edit to found ms"] = _measure_edits(engine, retriever, known, edits)
    return rows


def _measure_edits(engine: Any, retriever: Retriever, known: Known, edits: Sequence[Document]) -> float:
    """Median time from adding a document, its vector ready, to finding it by its own words, in milliseconds."""
    delays = []
    for edit in edits:
        started = time.perf_counter()
        add_documents(engine, DOMAIN, [edit], known, lambda *_: None)
        while not any(passage.document_id == edit.id for passage in retriever.search(DOMAIN, edit.text).passages):
            pass
        delays.append(time.perf_counter() - started)
    return round(1000 * float(np.median(delays)), 1)


def _export(each: Set, queries: Vectors, work: Path) -> None:
    table = chunks_table.c
    with each.engine.connect() as connection:
        query = select(table.document_id, table.title, table.text).where(table.died == ALIVE).order_by(table.key)
        rows = connection.execute(query).all()
    chunks = [{"document": row[0], "text": fold_text(f"{row[1]}\n{row[2]}")} for row in rows]
    (work / "chunks.json").write_text(json.dumps(chunks))
    (work / "questions.json").write_text(json.dumps([question.text for question in each.test]))
    np.savez(work / "vectors.npz", chunks=load_vectors(each), questions=queries)


def _read_row(each: Set, theirs: dict[str, Any], kind: str) -> Row:
    times = latencies_of(theirs["seconds"][kind])
    row = {"set": each.name, "by": theirs["name"], "ranking": kind, "index s": round(theirs["index_s"], 2)} | times
    edits = round(1000 * float(np.median(theirs["edits"])), 1) if kind == "hybrid" else None
    ranked = [found[:10] for found in theirs["ranked"][kind]]
    return row | {"nDCG@10": score(each.test, ranked)["nDCG@10"], "edit to found ms": edits}


def _make_environment(cache: Path) -> Path:
    folder = (cache / "peer-environment").absolute()
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(_REQUIREMENTS)], check=True)
        (folder / "installed").touch()
    return python
