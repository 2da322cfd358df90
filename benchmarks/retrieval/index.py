"""The vector index at several sizes beside FAISS's own: build time, memory, latency, recall.

Vectors are those of the sets' chunks, then copies with Gaussian noise: two copies of a passage are then as near (0.74)
as a passage and its nearest other in the real sets (median). Questions are real test questions that no one tuned on.
Each contender is built in one process and searched in another; all tune on the same training questions, to find .99
(ours) or .98 (the others) of the ten nearest, which makes the others faster, never slower.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.retrieval.contenders import build_contender, search_contender
from benchmarks.retrieval.report import Row, in_child, show_table, wait_for_calm
from benchmarks.retrieval.sets import Set, embed_questions, grow, load_vectors
from retrieval.embedder import Embedder, Vectors

faiss: Any = _faiss
NOISE = 0.6
_NUM_QUESTIONS = 1_000
_NUM_TUNING = 300
_HNSW_ROWS = 100_000
MUST = {"rows": 1_000_000, "p99 ms": 10.0, "recall@10": 0.98, "memory MiB": 3072.0}


def measure_index(
    sets: Sequence[Set], sizes: Sequence[int], embedder: Embedder, folder: Path, seed: int, *, hnsw_1m: bool
) -> list[Row]:
    """Measure every contender at every size; returns the rows of the tables."""
    random = np.random.default_rng(seed)
    real = np.concatenate([load_vectors(each) for each in sets])
    asked = [np.concatenate([embed_questions(each, split, embedder) for each in sets]) for split in ("test", "train")]
    test = asked[0][random.permutation(len(asked[0]))[:_NUM_QUESTIONS]]
    train = asked[1][random.permutation(len(asked[1]))[:_NUM_TUNING]]
    rows = []
    for size in sizes:
        work = folder / f"index-{size}"
        work.mkdir(parents=True, exist_ok=True)
        prepare_size(work, real, test, train, size, seed)
        names = ["ours", "Flat", "IVF-PQ"]
        if size <= _HNSW_ROWS or hnsw_1m:
            names.insert(2, "HNSW32")
        found = []
        for name in names:
            built = in_child(build_contender, name, work, seed)
            load = wait_for_calm()
            found.append(
                {"rows": size, "index": name} | built | in_child(search_contender, name, work) | {"load": load}
            )
        show_table(f"INDEX, {size:,} vectors ({min(size, len(real)):,} real), {len(test)} test questions", found)
        for path in work.iterdir():
            if path.is_file():
                path.unlink()
        rows += found
    return rows


def prepare_size(work: Path, real: Vectors, test: Vectors, train: Vectors, size: int, seed: int) -> None:
    """Write the vectors, the questions, and the ten nearest of each, by exact search."""
    vectors = grow(real, size, NOISE, seed)
    vectors.tofile(work / "vectors.f32")
    visible = np.random.default_rng(seed + 1).random(size) < 0.05
    np.savez(
        work / "questions.npz",
        dim=real.shape[1],
        test=test,
        train=train,
        visible=visible,
        test_nearest=_nearest(vectors, test, np.arange(size)),
        train_nearest=_nearest(vectors, train, np.arange(size)),
        visible_nearest=_nearest(vectors[visible], test, np.flatnonzero(visible)),
    )


def _nearest(vectors: Vectors, questions: Vectors, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = faiss.knn(questions, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return numbers[found]


def find_failures(rows: Sequence[Row]) -> list[str]:
    """What misses its target at a million vectors."""
    ours = [row for row in rows if row["index"] == "ours" and row["rows"] >= MUST["rows"]]
    failed = []
    for row in ours:
        memory = max(row["build MiB"], row["loaded MiB"])
        recall = min(row["recall@10"], row["recall without questions"], row["recall, 5% visible"])
        if row["p99 ms"] >= MUST["p99 ms"] or recall < MUST["recall@10"] or memory >= MUST["memory MiB"]:
            failed.append(f"index: p99 {row['p99 ms']} ms, recall {recall}, {memory} MiB; must be {MUST}")
    return failed
