"""One epoch of a domain's index, whole: what a search works on from its first step to its last."""

import threading
from collections.abc import Collection
from functools import cached_property

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bakeoff.domains import Domain
from retrieval.embedder import Vectors
from retrieval.index.lexical import FreshPostings, Lexical, Mask, Postings, Statistics, search_lexical
from retrieval.index.rows import Documents, Rows
from retrieval.index.vectors import VectorIndex

_MAX_CALLERS = 64
"""Sets of groups whose masks a view keeps: a byte a row for each."""
_TIES, _MAX_TIES = 16, 20_000
_NO_VECTORS = np.zeros((0, 0), np.float32)


class Base:
    """What was built at once from the rows of one epoch, and the columns that fresh rows are appended to."""

    def __init__(
        self, floor: int, rows: Rows, vectors: VectorIndex | None, postings: Postings, documents: Documents
    ) -> None:
        self.floor = floor
        """Epochs before this one cannot be seen here: what died before it was left out."""
        self.rows = rows
        self.num_based = rows.size
        """Rows in `vectors` and `postings`; those behind them are fresh."""
        self.vectors = vectors
        """None for no row."""
        self.postings = postings
        self.documents = documents
        self.fresh_postings = FreshPostings()
        self.fresh_terms: list[bytes] = []
        self.is_snapshotted = False
        """Whether it is on the disk."""


class Visible(Struct, frozen=True):
    """Which rows a caller may see in a view."""

    mask: Mask
    """(rows,)"""
    statistics: Statistics


class Dense(Struct, frozen=True):
    """What the vectors found."""

    rows: NDArray[np.int64]
    """Best first; ties by the row's number."""
    cosines: Vectors


class View:
    """An epoch: the first `size` rows of a base, seen as they were in that epoch, with the permissions of now."""

    def __init__(
        self, base: Base, epoch: int, size: int, fresh: Vectors | None, permissions: int, generation: str
    ) -> None:
        self.base = base
        self.epoch = epoch
        self.size = size
        self.fresh = fresh
        """(size - num_based, dim) vectors of the rows behind the base; None for none."""
        self.permissions = permissions
        self.generation = generation
        self._visible: dict[frozenset[str], Visible] = {}
        self._lock = threading.Lock()

    def is_level_with(self, domain: Domain) -> bool:
        """Whether this is what the database holds now."""
        now = (domain.epoch, domain.permissions, domain.generation)
        return (self.epoch, self.permissions, self.generation) == now

    def at(self, epoch: int) -> "View":
        """The same rows in an earlier epoch, not before the base's floor."""
        assert self.base.floor <= epoch <= self.epoch, (self.base.floor, epoch, self.epoch)
        return View(self.base, epoch, self.size, self.fresh, self.permissions, self.generation)

    @cached_property
    def num_dead(self) -> int:
        """Rows that live in this epoch no more."""
        return self.size - int(np.count_nonzero(self._alive))

    def visible(
        self, groups: frozenset[str], without: Collection[str] = (), only: Collection[str] | None = None
    ) -> Visible:
        """Which rows these groups may see.

        Args:
            without: documents to search as if they were not there.
            only: documents to search as if there were no others; None for all.
        """
        if without or only is not None:
            mask = self.visible(groups).mask & ~self._rows_of(without)
            if only is not None:
                mask &= self._rows_of(only)
            return Visible(mask, self._count(mask))
        with self._lock:
            found = self._visible.get(groups)
            if found is None:
                granted = self.base.documents.granted(groups)
                mask = self._alive & granted[self.documents]
                found = self._visible[groups] = Visible(mask, self._count(mask))
                if len(self._visible) > _MAX_CALLERS:
                    del self._visible[next(iter(self._visible))]
            return found

    def search_dense(self, query: Vectors, mask: Mask, limit: int) -> Dense:
        """Rank visible rows by cosine.

        Args:
            query: (dim,) unit length.
            mask: (size,) rows that take part.
            limit: rows wanted.
        """
        rows, cosines = np.zeros(0, np.int64), np.zeros(0, np.float32)
        num_based = self.base.num_based
        if self.base.vectors is not None:
            rows, cosines = _search_whole_ties(self.base.vectors, query, mask[:num_based], limit)
        if self.fresh is not None:
            fresh = np.flatnonzero(mask[num_based:])
            rows = np.concatenate([rows, fresh + num_based])
            cosines = np.concatenate([cosines, self.fresh[fresh] @ query])
        cosines = np.round(cosines, 6)  # two ways to multiply differ in the last bits
        best = np.lexsort((rows, -cosines))[:limit]
        return Dense(rows[best], cosines[best])

    def search_lexical(self, question: str, visible: Visible, limit: int) -> Lexical:
        """Rank visible rows by BM25."""
        base = self.base
        words = base.rows.words[: self.size]
        return search_lexical(
            question, base.postings, base.fresh_postings, visible.mask, words, visible.statistics, limit
        )

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """Vectors of some rows, (n, dim)."""
        if not len(rows):
            return _NO_VECTORS
        based = rows < self.base.num_based
        fresh = rows[~based] - self.base.num_based
        dim = self.fresh.shape[1] if self.fresh is not None else self.base.vectors.index.d  # type: ignore[union-attr]
        found = np.zeros((len(rows), dim), np.float32)
        if self.base.vectors is not None and based.any():
            found[based] = self.base.vectors.index.reconstruct_batch(rows[based])
        if self.fresh is not None and len(fresh):
            found[~based] = self.fresh[fresh]
        return found

    @property
    def documents(self) -> NDArray[np.int32]:
        """(size,) number of each row's document."""
        return self.base.rows.documents[: self.size]

    def _rows_of(self, ids: Collection[str]) -> Mask:
        numbers = map(self.base.documents.find, ids)
        return np.isin(self.documents, np.array([number for number in numbers if number is not None], np.int32))

    @cached_property
    def _alive(self) -> Mask:
        return self.base.rows.alive(self.epoch, self.size)

    def _count(self, mask: Mask) -> Statistics:
        num_rows = int(np.count_nonzero(mask))
        num_words = int(self.base.rows.words[: self.size][mask].sum(dtype=np.int64))
        return Statistics(num_rows, num_words / max(num_rows, 1))


def _search_whole_ties(index: VectorIndex, query: Vectors, mask: Mask, limit: int) -> tuple[NDArray[np.int64], Vectors]:
    """At least `limit` rows, and every row that ties with the last of them.

    Which of the rows that tie FAISS returns depends on what else it has seen; cut by the rows' numbers, it does not.
    """
    wanted = limit + _TIES
    while True:
        rows, cosines = index.search(query, mask, wanted)
        if (
            len(rows) < wanted
            or wanted >= _MAX_TIES
            or round(float(cosines[limit - 1]), 6) > round(float(cosines[-1]), 6)
        ):
            return rows, cosines
        wanted *= 4
