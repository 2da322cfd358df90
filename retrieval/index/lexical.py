"""BM25 over the rows that a caller may see, in one epoch: exact, however the rows change.

An index that stores finished scores (bm25s, or any that is built once) carries the statistics of all documents of the
moment it was built: a caller's scores would then depend on documents that are not theirs, and on the past. Here the
postings hold counts only, and document frequency and average length are taken over the visible rows of each search, for
the price of masking the postings of the question's few terms.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from retrieval.index.terms import extract_terms, hash_term, unpack_terms

K1 = 1.2
B = 0.75
"""The usual parameters (Robertson and Zaragoza 2009, The Probabilistic Relevance Framework, section 3.4)."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Postings(Struct, frozen=True):
    """Term -> rows with counts, of the rows an index was built from; compressed sparse rows over terms."""

    terms: NDArray[np.uint32]
    """(t,) ascending."""
    starts: NDArray[np.int64]
    """(t + 1,): the postings of term i stand at starts[i] to starts[i + 1]."""
    rows: NDArray[np.int32]
    """(p,) ascending within a term."""
    counts: NDArray[np.uint16]
    """(p,)"""

    def find(self, term: int) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Rows that hold the term, and how often."""
        place = int(np.searchsorted(self.terms, term))
        if place == len(self.terms) or self.terms[place] != term:
            return self.rows[:0], self.counts[:0]
        part = slice(self.starts[place], self.starts[place + 1])
        return self.rows[part], self.counts[part]


def build_postings(blobs: Sequence[bytes]) -> Postings:
    """Build the postings of rows 0, 1, ... from their packed terms."""
    sizes, terms, counts = _unpack_all(blobs)
    rows = np.repeat(np.arange(len(blobs), dtype=np.int32), sizes)
    return _sort_postings(terms, rows, counts)


def merge_postings(postings: Postings, kept: NDArray[np.int64], fresh: Sequence[bytes]) -> Postings:
    """The postings of kept rows, renumbered from 0, with those of fresh rows behind them.

    Args:
        kept: ascending numbers of the rows of `postings` to keep.
        fresh: packed terms of the rows that follow.
    """
    size = max(int(kept[-1]) + 1 if len(kept) else 0, int(postings.rows.max(initial=-1)) + 1)
    numbers = np.full(size, -1, np.int32)
    numbers[kept] = np.arange(len(kept), dtype=np.int32)
    of_kept = numbers[postings.rows] >= 0
    terms = np.repeat(postings.terms, np.diff(postings.starts))[of_kept]
    added = build_postings(fresh)
    terms = np.concatenate([terms, np.repeat(added.terms, np.diff(added.starts))])
    rows = np.concatenate([numbers[postings.rows[of_kept]], added.rows + np.int32(len(kept))])
    counts = np.concatenate([postings.counts[of_kept], added.counts])
    return _sort_postings(terms, rows, counts)


def count_words(blobs: Sequence[bytes]) -> NDArray[np.int64]:
    """Length of each row in terms, repeats included."""
    sizes, _, counts = _unpack_all(blobs)
    totals = np.append(0, np.cumsum(counts, dtype=np.int64))
    ends = np.cumsum(sizes)
    lengths: NDArray[np.int64] = totals[ends] - totals[ends - sizes]
    return lengths


class FreshPostings:
    """The postings of the rows that came after the index was built. Appended to while older views are searched.

    A view looks at rows below its own number of rows only, and rows are appended in ascending order, so a reader never
    sees half of a row.
    """

    def __init__(self) -> None:
        self._postings: dict[int, tuple[list[int], list[int]]] = {}

    def append(self, row: int, blob: bytes) -> None:
        """Add one row, larger than all before."""
        terms, counts = unpack_terms(blob)
        for term, count in zip(terms.tolist(), counts.tolist(), strict=True):
            rows, row_counts = self._postings.setdefault(term, ([], []))
            row_counts.append(count)
            rows.append(row)

    def find(self, term: int, num_rows: int) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Rows below `num_rows` that hold the term, and how often."""
        rows, counts = self._postings.get(term, ([], []))
        found = np.array(rows, np.int32)
        found = found[found < num_rows]
        return found, np.array(counts[: len(found)], np.uint16)


class Lexical(Struct, frozen=True):
    """What BM25 found."""

    rows: NDArray[np.int64]
    """Rows with at least one term of the question, best first."""
    scores: Floats
    """(n,) BM25, descending."""
    every: Floats
    """BM25 of every row, 0 for rows that are not visible or hold no term."""
    highest: float
    """What no passage could exceed for this question: BM25 / highest is the share of the question it covers."""


class Statistics(Struct, frozen=True):
    """What BM25 needs to know of the visible rows."""

    num_rows: int
    mean_words: float


def search_lexical(
    question: str,
    postings: Postings,
    fresh: FreshPostings,
    visible: Mask,
    words: NDArray[np.int32],
    statistics: Statistics,
    limit: int,
) -> Lexical:
    """Rank the visible rows by BM25.

    Args:
        visible: (n,) which rows take part.
        words: (n,) length of each row.
        statistics: of the visible rows.
        limit: rows wanted; ties are broken by the row's number.

    Source: Robertson and Zaragoza 2009, section 3; the idf is Lucene's, ln(1 + (N - df + .5) / (df + .5)), never
    negative.
    """
    scores = np.zeros(len(visible), np.float32)
    highest = 0.0
    for term in sorted(map(hash_term, extract_terms(question))):
        found = [postings.find(term), fresh.find(term, len(visible))]
        rows = np.concatenate([rows for rows, _ in found])
        counts = np.concatenate([counts for _, counts in found]).astype(np.float32)
        seen = visible[rows]
        rows, counts = rows[seen], counts[seen]
        num_found = len(rows)
        idf = float(np.log1p((statistics.num_rows - num_found + 0.5) / (num_found + 0.5)))
        highest += idf * (K1 + 1)
        norm = K1 * (1 - B + B * words[rows] / max(statistics.mean_words, 1e-9))
        scores[rows] += (idf * (K1 + 1) * counts / (counts + norm)).astype(np.float32)
    return _best(scores, highest, limit)


def _unpack_all(blobs: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint16]]:
    """Unpack many texts: how many terms each has, and the hashes and counts of all, one after another."""
    sizes = np.fromiter((len(blob) // 6 for blob in blobs), np.int64, len(blobs))
    halves = np.frombuffer(b"".join(blobs), "<u2")  # of each text: two a hash, then one a count
    is_hash = np.repeat(np.tile(np.array([True, False]), len(sizes)), np.stack([2 * sizes, sizes], axis=1).ravel())
    return sizes, halves[is_hash].view("<u4"), halves[~is_hash]


def _sort_postings(terms: NDArray[np.uint32], rows: NDArray[np.int32], counts: NDArray[np.uint16]) -> Postings:
    """Rows have to come in ascending order for each term."""
    keyed = np.sort(terms.astype(np.uint64) << np.uint64(32) | np.arange(len(terms), dtype=np.uint64))
    order = (keyed & np.uint64(2**32 - 1)).astype(np.int64)  # as a stable argsort, several times as fast
    ordered = terms[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    return Postings(ordered[starts], np.append(starts, len(terms)).astype(np.int64), rows[order], counts[order])


def _best(scores: Floats, highest: float, limit: int) -> Lexical:
    rows = np.flatnonzero(scores > 0)
    if len(rows) > limit:  # keep every row that ties with the last one wanted, then sort
        least = np.partition(scores[rows], len(rows) - limit)[len(rows) - limit]
        rows = rows[scores[rows] >= least]
    rows = rows[np.argsort(-scores[rows], kind="stable")][:limit].astype(np.int64)
    return Lexical(rows, scores[rows], scores, highest or 1.0)
