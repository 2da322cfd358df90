"""FAISS over the vectors of many rows: exact while they are few, inverted lists when they are many.

Inner product on unit vectors is cosine. From `EXACT_ROWS` rows on, vectors are kept as float16 in inverted lists, and
the number of lists looked into is the smallest that finds `RECALL` of what exact search finds, measured on questions
held out for it (the domain's own where it has any) when the index is built. Which rows take part is decided inside
the search, and the fewer do, the more lists are looked into, until it is all of them: so a caller who sees little of a
domain finds as much of that as another finds of the whole.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import faiss as _faiss
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from retrieval.embedder import Vectors
from retrieval.index.lexical import Mask

logger = logging.getLogger(__name__)
faiss: Any = _faiss
"""Its type stubs know neither index parameters nor array arguments."""

EXACT_ROWS = 20_000
"""Up to here exact search takes a few milliseconds and needs no training."""
RECALL = 0.99
"""Of the ten nearest rows; what users must get is 0.98."""
_RECALL_AT = 10
_MIN_QUESTIONS, _MAX_QUESTIONS = 50, 300
_MAX_TRAINING = 64
"""Training vectors per list; FAISS takes up to 256, for centroids that find no more."""
_TIE = 1e-4
"""Rows whose cosines differ by less count as equally near: copies of one text, and what float16 cannot tell apart."""

Batches = Callable[[], Iterator[Vectors]]
"""Calls up all vectors, in order, some thousand rows at a time; called more than once."""


class Built(Struct, frozen=True):
    """How an index was built: part of its snapshot's manifest."""

    kind: str
    """As FAISS's index factory writes it."""
    num_rows: int
    num_probes: int
    """Lists looked into; 0 for an exact index."""
    recall: float
    """Share of the ten nearest rows that it finds, against exact search."""
    num_questions: int
    """On how many questions that was measured; 0 for an exact index."""


class VectorIndex(Struct, frozen=True):
    """A trained and filled index; never changed again, so any number of threads may search it."""

    index: Any
    """A FAISS index; row i of it is row i of the base."""
    built: Built

    def search(self, query: Vectors, visible: Mask | None, limit: int) -> tuple[NDArray[np.int64], Vectors]:
        """Find the rows nearest to a question.

        Args:
            query: (dim,) unit length.
            visible: (n,) which rows take part; None for all.
            limit: rows wanted.

        Returns:
            (rows, cosines), best first; fewer than `limit` only where fewer rows take part.
        """
        num_visible = self.built.num_rows if visible is None else int(np.count_nonzero(visible))
        limit = min(limit, num_visible)
        if limit == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        if visible is not None and num_visible == len(visible):
            visible = None
        probes = self.built.num_probes
        if probes and visible is not None:  # as many rows to compare with as when all take part
            probes = min(-(-probes * len(visible) // num_visible), self.index.nlist)
        rows, cosines = self._search_index(query, visible, limit, probes)
        if len(rows) < limit:
            rows, cosines = self._search_index(query, visible, limit, self.index.nlist)
        return rows, cosines

    def _search_index(
        self, query: Vectors, visible: Mask | None, limit: int, num_probes: int
    ) -> tuple[NDArray[np.int64], Vectors]:
        selector = None
        if visible is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(visible, bitorder="little"))
        if num_probes:
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=num_probes)
        else:
            parameters = faiss.SearchParameters(sel=selector)
        cosines, rows = self.index.search(query[None], limit, params=parameters)
        found = rows[0] >= 0
        return rows[0][found], cosines[0][found]


def build_exact(vectors: Vectors) -> VectorIndex:
    """Index (n, dim) vectors for exact search."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return VectorIndex(index, Built("Flat", len(vectors), 0, 1.0, 0))


def build_vectors(batches: Batches, num_rows: int, dim: int, questions: Vectors, *, seed: int = 0) -> VectorIndex:
    """Index vectors in the way that fits their number, and measure what it finds.

    Args:
        batches: the vectors; `num_rows` in all, (., dim) float32 of unit length.
        questions: (q, dim) vectors of questions to measure recall with.
        seed: draws the training vectors, and the questions to measure with.
    """
    if num_rows <= EXACT_ROWS:
        return build_exact(np.concatenate([np.zeros((0, dim), np.float32), *batches()]))
    num_lists = 2 ** round(np.log2(4 * num_rows**0.5))
    draw = np.random.default_rng(seed)
    wanted = np.sort(draw.permutation(num_rows)[: num_lists * _MAX_TRAINING])
    quantizer = faiss.IndexFlatIP(dim)
    kind = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexIVFScalarQuantizer(quantizer, dim, num_lists, kind, faiss.METRIC_INNER_PRODUCT, False)
    index.cp.max_points_per_centroid = _MAX_TRAINING
    index.cp.spherical = True
    index.cp.seed = seed
    index.train(_take(batches, wanted))
    for batch in batches():
        index.add(batch)
    index.make_direct_map()
    probes, recall, num_questions = choose_probes(index, batches, questions, draw)
    built = Built(f"IVF{num_lists},SQfp16", num_rows, probes, round(recall, 4), num_questions)
    logger.info(
        "index built kind=%s rows=%d probes=%d recall@%d=%.4f", built.kind, num_rows, probes, _RECALL_AT, recall
    )
    return VectorIndex(index, built)


def choose_probes(
    index: Any, batches: Batches, questions: Vectors, draw: np.random.Generator
) -> tuple[int, float, int]:
    """The smallest power of two of lists that reaches the recall wanted, its recall, and on how many questions.

    A row counts as found by its cosine, not by its number (as in ann-benchmarks, Aumueller et al. 2020): of many
    copies of a text, any will do.

    Args:
        index: inverted lists, filled.
        batches: its vectors.
        questions: to measure with; where they are too few, points between rows take their place.
        draw: chooses among them.
    """
    questions = questions[draw.permutation(len(questions))[:_MAX_QUESTIONS]]
    if len(questions) < _MIN_QUESTIONS:
        questions = _draw_between(batches, index.ntotal, draw)
    least = _tenth_cosines(batches, questions) - _TIE
    probes, recall = 4, 0.0
    while recall < RECALL and probes < index.nlist:
        probes = min(probes * 2, index.nlist)
        cosines, _ = index.search(questions, _RECALL_AT, params=faiss.SearchParametersIVF(nprobe=probes))
        recall = float(np.mean(cosines >= least))
    return probes, recall, len(questions)


def _draw_between(batches: Batches, num_rows: int, draw: np.random.Generator) -> Vectors:
    """Points halfway between two rows, in place of questions: (n, dim).

    Rows themselves would not do: they lie inside their lists, so a few lists hold all that is near to them, and as many
    find .93 of what real questions look for. Between rows it is a little harder than with questions (docs/log.md).
    """
    rows = _take(batches, np.sort(draw.permutation(num_rows)[: 2 * _MAX_QUESTIONS]))
    pairs = draw.permutation(len(rows))[: len(rows) // 2 * 2].reshape(2, -1)
    points = rows[pairs[0]] + rows[pairs[1]]
    between: Vectors = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    return between


def _tenth_cosines(batches: Batches, questions: Vectors) -> Vectors:
    """Cosine of each question's tenth nearest row, by exact search: (q, 1)."""
    nearest = np.zeros((len(questions), 0), np.float32)
    for batch in batches():
        limit = min(_RECALL_AT, len(batch))
        found, _ = faiss.knn(questions, batch, limit, metric=faiss.METRIC_INNER_PRODUCT)
        nearest = -np.sort(-np.concatenate([nearest, found], axis=1), axis=1)[:, :_RECALL_AT]
    return nearest[:, -1:]


def _take(batches: Batches, wanted: NDArray[np.int64]) -> Vectors:
    """The rows with these ascending numbers."""
    taken = []
    start = 0
    for batch in batches():
        here = wanted[(wanted >= start) & (wanted < start + len(batch))] - start
        taken.append(batch[here])
        start += len(batch)
    return np.concatenate(taken)
