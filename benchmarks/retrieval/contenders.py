"""The vector indexes that are compared: each is built in one fresh process and searched in the next."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np

from benchmarks.retrieval.report import Row, latencies_of, memory_mib
from retrieval.embedder import Vectors
from retrieval.index.lexical import build_postings
from retrieval.index.rows import COLUMNS
from retrieval.index.snapshot import FORMAT, Manifest, read_snapshot, write_snapshot
from retrieval.index.vectors import Batches, VectorIndex, build_vectors, choose_probes

faiss: Any = _faiss
_BATCH = 16_384
_POOL = 60
"""Rows asked for in the timed searches, as the product does."""
_RECALL = 0.98
_NO_QUESTIONS = np.zeros((0, 0), np.float32)


def build_contender(name: str, work: Path, seed: int) -> Row:
    """Build a contender from the vectors of a folder and write it there."""
    batches, size, asked = _open(work)
    before = memory_mib("VmRSS")
    started = time.perf_counter()
    if name == "ours":
        ours = build_vectors(batches, size, int(asked["dim"]), asked["train"], seed=seed)
        built = {"build s": round(time.perf_counter() - started, 1), "build MiB": round(memory_mib("VmHWM") - before)}
        _write_ours(work, ours, batches, size, seed)
        return {"kind": ours.built.kind} | built
    index = faiss.index_factory(int(asked["dim"]), _factory(name, size), faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        num_lists = faiss.extract_index_ivf(index).nlist
        sample = _take(batches, np.sort(np.random.default_rng(seed).permutation(size)[: 64 * num_lists]))
        index.train(sample)
    for batch in batches():
        index.add(batch)
    built = {"build s": round(time.perf_counter() - started, 1), "build MiB": round(memory_mib("VmHWM") - before)}
    faiss.write_index(index, str(work / "peer.faiss"))
    return {"kind": _factory(name, size)} | built


def search_contender(name: str, work: Path) -> Row:
    """Open a contender and search it, one question at a time."""
    asked = np.load(work / "questions.npz")
    visible, test, nearest = asked["visible"], asked["test"], asked["test_nearest"]
    before = memory_mib("VmRSS")
    if name == "ours":
        ours = _read_ours(work)
        memory = memory_mib("VmRSS") - before
        effort = ours.built.num_probes
        between = int((work / "between.txt").read_text())

        def search(query: Vectors, limit: int) -> Any:
            return ours.search(query, None, limit)[0]

        def search_visible(query: Vectors, limit: int) -> Any:
            return ours.search(query, visible, limit)[0]

        def search_between(query: Vectors, limit: int) -> Any:
            return ours._search_index(query, None, limit, between)[0] if between else search(query, limit)

        extra = {
            "probes without questions": between,
            "recall without questions": _recall(search_between, test, nearest),
            "recall, 5% visible": _recall(search_visible, test, asked["visible_nearest"]),
        }
        extra |= {f"{name}, 5% visible": value for name, value in latencies_of(_time(search_visible, test)).items()}
    else:
        index = faiss.read_index(str(work / "peer.faiss"))
        memory = memory_mib("VmRSS") - before
        effort = _tune(name, index, asked["train"], asked["train_nearest"])
        extra = {}
        if name == "Flat":  # exact, whatever the question
            few = max(100, 10_000_000 // index.ntotal)
            test, nearest = test[:few], nearest[:few]

        def search(query: Vectors, limit: int) -> Any:
            return index.search(query[None], limit)[1][0]

    recall = _recall(search, test, nearest)
    figures = {"loaded MiB": round(memory), "probes": effort, **latencies_of(_time(search, test))}
    return figures | {"recall@10": recall} | extra


def _open(work: Path) -> tuple[Batches, int, Any]:
    asked = np.load(work / "questions.npz")
    dim = int(asked["dim"])
    path = work / "vectors.f32"
    size = path.stat().st_size // (4 * dim)

    def batches() -> Iterator[Vectors]:
        """Reads, never maps: mapped pages would count as memory."""
        with path.open("rb") as file:
            for _ in range(0, size, _BATCH):
                yield np.fromfile(file, np.float32, _BATCH * dim).reshape(-1, dim)

    return batches, size, asked


def _factory(name: str, size: int) -> str:
    num_lists = 2 ** round(np.log2(4 * size**0.5))  # np: no polysemous training, which takes minutes and no search uses
    return {"Flat": "Flat", "HNSW32": "HNSW32", "IVF-PQ": f"IVF{num_lists},PQ96np"}[name]


def _tune(name: str, index: Any, questions: Vectors, nearest: Any) -> int:
    """Set the least effort, a power of two up to 256, that finds .98; returns it."""
    if name == "Flat":
        return 0
    effort = 8
    while True:
        effort *= 2
        if name == "HNSW32":
            index.hnsw.efSearch = effort
        else:
            index.nprobe = effort
        if effort >= 256 or _recall(
            lambda query, limit: index.search(query[None], limit)[1][0], questions, nearest
        ) >= (_RECALL):
            return effort


def _recall(search: Callable[[Vectors, int], Any], questions: Vectors, nearest: Any) -> float:
    found = [search(question, 10) for question in questions]
    shares = [len(np.intersect1d(ours, exact)) / len(exact) for ours, exact in zip(found, nearest, strict=True)]
    return round(float(np.mean(shares)), 4)


def _time(search: Callable[[Vectors, int], Any], questions: Vectors) -> list[float]:
    for question in questions[:50]:
        search(question, _POOL)
    seconds = []
    for question in questions:
        started = time.perf_counter()
        search(question, _POOL)
        seconds.append(time.perf_counter() - started)
    return seconds


def _write_ours(work: Path, ours: VectorIndex, batches: Batches, size: int, seed: int) -> None:
    """As a snapshot without rows or words; and the probes that a domain without questions would get."""
    between = 0
    if ours.built.num_probes:
        between = choose_probes(ours.index, batches, _NO_QUESTIONS, np.random.default_rng(seed))[0]
    (work / "between.txt").write_text(str(between))
    manifest = Manifest(
        format=FORMAT,
        domain="benchmark",
        epoch=1,
        start="",
        generation="",
        embedder="",
        terms_version=0,
        num_rows=size,
        built=ours.built,
        files={},
    )
    columns = {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}
    write_snapshot(work / "snapshots", manifest, [], columns, build_postings([]), ours)


def _read_ours(work: Path) -> VectorIndex:
    snapshot = read_snapshot(work / "snapshots", "benchmark", "", 0, "")
    assert snapshot is not None and snapshot.vectors is not None
    return snapshot.vectors


def _take(batches: Batches, wanted: Any) -> Vectors:
    start, taken = 0, []
    for batch in batches():
        taken.append(batch[wanted[(wanted >= start) & (wanted < start + len(batch))] - start])
        start += len(batch)
    return np.concatenate(taken)
