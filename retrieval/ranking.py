"""Two rankings of a view's rows, by meaning and by words, fused into one ranking of documents.

Each ranking counts a document once, at its best row: a document of a thousand similar chunks takes one place, not a
thousand, so it cannot push the others out of either list, nor out of the answer.

The default is the weighted sum of cosine and coverage (BM25 as a share of the highest that the question allows, so that
both lie on one scale), after Bruch et al. 2023, An Analysis of Fusion Functions for Hybrid Retrieval. Reciprocal rank
fusion (Cormack et al. 2009) forgets by how much the first beats the second: on four of the five sets measured it falls
below the better of its two rankings, the sum on none (docs/log.md).
"""

from typing import Literal

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from retrieval.embedder import Vectors
from retrieval.index.lexical import Mask
from retrieval.index.view import Dense, View, Visible

POOL = 60
"""Rows that each ranking brings in at least."""
_CROWDED = 4
"""Rows of one document in a pool before the search is repeated without it."""
_MAX_ROUNDS = 6
_JOINED = 1
"""Chunks before and behind the best one that are joined to it, where they were found too."""

Rows = NDArray[np.int64]


class Fusion(Struct, frozen=True):
    """How the two rankings become one."""

    method: Literal["weighted-sum", "reciprocal-rank"] = "weighted-sum"
    lexical_weight: float = 0.4
    """Share of the ranking by words: 0 ranks by meaning alone, 1 by words alone."""
    rank_constant: int = 60
    """Of `reciprocal-rank`: the smaller, the more the first ranks count (Cormack et al. 2009, section 2)."""

    def __str__(self) -> str:
        if self.lexical_weight in (0, 1):
            return "lexical" if self.lexical_weight else "dense"
        return f"{self.method} {self.lexical_weight:g}"


class Candidate(Struct, frozen=True):
    """A document, or a single row where repeats are wanted, at its place in the fused ranking."""

    row: int
    """The best row."""
    neighbours: tuple[int, ...]
    """The row, and those just before and behind it in its document that were found too; in order."""
    fused: float
    dense_rank: int | None
    """From 1; None where this ranking did not find it."""
    lexical_rank: int | None
    cosine: float
    bm25: float
    coverage: float
    """Share of the highest possible BM25, 0 to 1."""


def rank_candidates(
    view: View, visible: Visible, question: str, query: Vectors, fusion: Fusion, pool: int, *, repeats: bool
) -> list[Candidate]:
    """Rank what a caller may see for a question.

    Args:
        question: as it is searched by words.
        query: (dim,) its vector.
        pool: rows that each ranking brings in at least.
        repeats: whether a document may stand in the result more than once.

    Returns:
        Best first; every document that either ranking found.
    """
    dense = _search_dense(view, query, visible.mask, pool, repeats=repeats)
    lexical = view.search_lexical(question, visible, view.size)
    by_words = _first_documents(view, lexical.rows, pool, repeats=repeats)
    rows = np.unique(np.concatenate([dense.rows, by_words]))
    if not len(rows):
        return []
    cosines = np.round(view.vectors(rows) @ query, 6)
    coverages = lexical.every[rows] / lexical.highest
    units: Rows = np.arange(view.size) if repeats else view.documents.astype(np.int64)
    ranks = (_rank_units(units[dense.rows]), _rank_units(units[by_words]))
    sums = (1 - fusion.lexical_weight) * cosines + fusion.lexical_weight * coverages
    found = _group_by_document(view, rows)
    candidates = []
    best_first = np.lexsort((rows, -sums)).tolist()
    first_places = {int(units[rows[place]]): place for place in reversed(best_first)}
    for unit, place in first_places.items():
        row = int(rows[place])
        dense_rank, lexical_rank = ranks[0].get(unit), ranks[1].get(unit)
        candidate = Candidate(
            row=row,
            neighbours=_join_neighbours(view, row, found[int(view.documents[row])]),
            fused=float(sums[place]),
            dense_rank=dense_rank,
            lexical_rank=lexical_rank,
            cosine=float(cosines[place]),
            bm25=float(lexical.every[row]),
            coverage=float(coverages[place]),
        )
        if fusion.method == "reciprocal-rank":
            candidate = structs.replace(candidate, fused=_fuse_ranks(candidate, fusion))
        candidates.append(candidate)
    kept = (candidate for candidate in candidates if candidate.fused > 0 or fusion.lexical_weight < 1)
    return sorted(kept, key=lambda candidate: (-candidate.fused, -candidate.cosine, candidate.row))


def _fuse_ranks(candidate: Candidate, fusion: Fusion) -> float:
    ranks = ((candidate.dense_rank, 1 - fusion.lexical_weight), (candidate.lexical_rank, fusion.lexical_weight))
    return sum(weight / (fusion.rank_constant + rank) for rank, weight in ranks if rank is not None)


def _search_dense(view: View, query: Vectors, mask: Mask, pool: int, *, repeats: bool) -> Dense:
    """Rank rows by cosine until enough documents are among them, not only a few that crowd the rest out."""
    found = view.search_dense(query, mask, pool)
    rows, cosines = found.rows, found.cosines
    crowded: set[int] = set()
    for _ in range(_MAX_ROUNDS):
        documents, counts = np.unique(view.documents[rows], return_counts=True)
        if repeats or len(found.rows) < pool or len(documents) >= pool // _CROWDED:
            break
        crowded |= set(documents[counts > _CROWDED].tolist())
        found = view.search_dense(query, mask & ~np.isin(view.documents, list(crowded)), pool)
        new = ~np.isin(found.rows, rows)
        rows, cosines = np.concatenate([rows, found.rows[new]]), np.concatenate([cosines, found.cosines[new]])
    order = np.lexsort((rows, -cosines))
    return Dense(rows[order], cosines[order])


def _first_documents(view: View, rows: Rows, pool: int, *, repeats: bool) -> Rows:
    """Rows up to the `pool`-th document, or the `pool`-th row where repeats are wanted."""
    if repeats or len(rows) <= pool:
        return rows[:pool]
    _, first = np.unique(view.documents[rows], return_index=True)
    places = np.sort(first)
    return rows[: places[pool - 1] + 1] if len(places) >= pool else rows


def _rank_units(units: Rows) -> dict[int, int]:
    """Unit -> its rank, from 1, where it comes first."""
    return {unit: rank for rank, unit in enumerate(dict.fromkeys(units.tolist()), start=1)}


def _group_by_document(view: View, rows: Rows) -> dict[int, dict[int, int]]:
    """Document -> position -> row, of the rows found."""
    found: dict[int, dict[int, int]] = {}
    positions = view.base.rows.positions
    for row in np.unique(rows).tolist():
        found.setdefault(int(view.documents[row]), {})[int(positions[row])] = row
    return found


def _join_neighbours(view: View, row: int, found: dict[int, int]) -> tuple[int, ...]:
    here = int(view.base.rows.positions[row])
    first = last = here
    while first - 1 in found and here - first < _JOINED:
        first -= 1
    while last + 1 in found and last - here < _JOINED:
        last += 1
    return tuple(found[position] for position in range(first, last + 1))
