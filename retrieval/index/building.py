"""A view -> a new base of the rows that live in it, without reading the database."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from retrieval.embedder import Vectors
from retrieval.index.lexical import merge_postings
from retrieval.index.rows import Rows
from retrieval.index.vectors import VectorIndex, build_vectors
from retrieval.index.view import Base, View

_BATCH = 16_384


def build_base(view: View, questions: Vectors) -> Base:
    """Build a base of the rows that live in the view's epoch.

    Args:
        questions: (q, dim) vectors of the domain's questions, to measure recall with.
    """
    base = view.base
    kept = np.flatnonzero(base.rows.alive(view.epoch, view.size))
    based = kept[kept < base.num_based]
    fresh = kept[kept >= base.num_based]
    terms = [base.fresh_terms[row - base.num_based] for row in fresh.tolist()]
    postings = merge_postings(base.postings, based, terms)
    vectors = _build_vectors(view, based, fresh, questions)
    return Base(view.epoch, Rows(base.rows.columns(kept)), vectors, postings, base.documents)


def _build_vectors(
    view: View, based: NDArray[np.int64], fresh: NDArray[np.int64], questions: Vectors
) -> VectorIndex | None:
    old = view.base.vectors
    if old is not None:
        dim = old.index.d
    elif view.fresh is not None:
        dim = view.fresh.shape[1]
    else:
        return None

    def batches() -> Iterator[Vectors]:
        for start in range(0, len(based), _BATCH):
            assert old is not None
            yield old.index.reconstruct_batch(based[start : start + _BATCH])
        if len(fresh):
            assert view.fresh is not None
            yield view.fresh[fresh - view.base.num_based]

    num_rows = len(based) + len(fresh)
    return build_vectors(batches, num_rows, dim, questions) if num_rows else None
