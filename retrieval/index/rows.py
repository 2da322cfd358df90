"""The columns of an index: one row a chunk, appended as documents change and never moved while anyone looks.

A row lives from the epoch in which it was born until the one in which it died. A view of an epoch takes the first so
many rows and compares: that a later epoch appends rows, or writes a death into an old one, changes nothing for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, select

from retrieval.embedder import Vectors
from retrieval.index.lexical import Mask, count_words
from retrieval.tables import ALIVE, chunks_table, epochs_table, grants_table

COLUMNS = {
    "keys": np.int64,
    "documents": np.int32,
    "positions": np.int32,
    "born": np.int32,
    "died": np.int32,
    "words": np.int32,
}
_BATCH = 4096


class Documents:
    """Document ids by number, and who may see each. Numbers are given once and never change."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = list(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._granted: dict[str, Mask] = {}

    def number(self, document_id: str) -> int:
        """The number that stands for a document, given now if it is new."""
        number = self._numbers.get(document_id)
        if number is None:
            number = self._numbers[document_id] = len(self.names)
            self.names.append(document_id)
        return number

    def find(self, document_id: str) -> int | None:
        """The number of a document; None for one that has none. For readers: gives no numbers away."""
        return self._numbers.get(document_id)

    def grant(self, changes: Iterable[tuple[str, str, bool]]) -> None:
        """Take over changes of who may see what: (document id, group, granted or not)."""
        for document_id, group, is_granted in changes:
            number = self.number(document_id)
            granted = self._granted.get(group, np.zeros(0, np.bool_))
            if len(granted) <= number:
                granted = np.append(granted, np.zeros(number + 1 + number // 2 - len(granted), np.bool_))
                self._granted[group] = granted
            granted[number] = is_granted

    def granted(self, groups: Iterable[str]) -> Mask:
        """Which documents one of these groups may see, by number."""
        mask = np.zeros(len(self.names), np.bool_)
        for group in groups:
            granted = self._granted.get(group, mask[:0])[: len(mask)]
            mask[: len(granted)] |= granted
        return mask


class Rows:
    """Growing columns, one row a chunk."""

    keys: NDArray[np.int64]
    """The chunk's key in the database; ascending."""
    documents: NDArray[np.int32]
    """Numbers of `Documents`."""
    positions: NDArray[np.int32]
    """Place of the chunk in its document."""
    born: NDArray[np.int32]
    died: NDArray[np.int32]
    words: NDArray[np.int32]
    """Length in terms."""

    def __init__(self, columns: Mapping[str, NDArray[Any]] | None = None) -> None:
        self.size = 0
        for name, kind in COLUMNS.items():
            setattr(self, name, np.zeros(0, kind))
        if columns is not None:
            self.append(columns)

    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Append rows: every column, of one length, keys above all before."""
        size = self.size + len(columns["keys"])
        for name, kind in COLUMNS.items():
            column = getattr(self, name)
            if len(column) < size:
                grown = np.zeros(max(size, len(column) * 3 // 2), kind)
                grown[: self.size] = column[: self.size]
                column = grown
            column[self.size : size] = columns[name]
            setattr(self, name, column)
        self.size = size

    def bury(self, deaths: Sequence[tuple[int, int]]) -> None:
        """Write down deaths: (key, epoch); keys that are not here are passed over."""
        if not deaths:
            return
        places = np.searchsorted(self.keys[: self.size], np.array([key for key, _ in deaths]))
        for place, (key, epoch) in zip(places.tolist(), deaths, strict=True):
            if place < self.size and self.keys[place] == key:
                self.died[place] = epoch

    def alive(self, epoch: int, size: int) -> Mask:
        """Which of the first `size` rows live in an epoch, (size,)."""
        alive: Mask = (self.born[:size] <= epoch) & (self.died[:size] > epoch)
        return alive

    def columns(self, kept: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The columns of some rows."""
        return {name: getattr(self, name)[kept] for name in COLUMNS}


class Loaded(Struct, frozen=True):
    """Chunks from the database, in the order of their keys."""

    columns: dict[str, NDArray[np.int64]]
    """As `Rows` has them."""
    vectors: Vectors
    """(n, dim); (0, 0) for none."""
    terms: list[bytes]
    """Packed."""

    def take(self, places: NDArray[np.int64]) -> "Loaded":
        """Some of the chunks, in this order."""
        columns = {name: column[places] for name, column in self.columns.items()}
        return Loaded(columns, self.vectors[places], [self.terms[place] for place in places.tolist()])


def load_rows(
    connection: Connection,
    domain: str,
    embedder: str,
    documents: Documents,
    *,
    alive_at: int | None = None,
    after: int = 0,
) -> Loaded:
    """Load chunks.

    Args:
        documents: numbers their documents.
        alive_at: only those that live in this epoch.
        after: only those born after this epoch.
    """
    table = chunks_table.c
    query = select(table.key, table.document_id, table.position, table.born, table.died, table.terms, table.vector)
    query = query.where(table.domain == domain, table.embedder == embedder)
    if after:
        query = query.where(table.born > after)
    if alive_at is not None:
        query = query.where(table.born <= alive_at, table.died > alive_at)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(5)]
    terms: list[bytes] = []
    vectors: list[Vectors] = []
    result = connection.execution_options(yield_per=_BATCH).execute(query)
    for batch in result.partitions():
        keys, names, *others, packed, blobs = zip(*batch, strict=True)
        for part, values in zip(parts, (keys, map(documents.number, names), *others), strict=True):
            part.append(np.fromiter(values, np.int64, len(keys)))
        terms += packed
        vectors.append(stack_vectors(blobs))
    if not terms:
        return Loaded({name: np.zeros(0, np.int64) for name in COLUMNS}, np.zeros((0, 0), np.float32), [])
    named = {name: np.concatenate(part) for name, part in zip(COLUMNS, parts, strict=False)}
    named["words"] = count_words(terms)
    loaded = Loaded(named, np.concatenate(vectors), terms)
    order = np.argsort(named["keys"], kind="stable")  # a database would sort vectors and all, on the disk
    return loaded if (order[1:] > order[:-1]).all() else loaded.take(order)


def load_deaths(connection: Connection, domain: str, after: int) -> list[tuple[int, int]]:
    """Keys of the chunks born up to an epoch that died after it, with the epoch of their death."""
    table = chunks_table.c
    query = select(table.key, table.died).where(
        table.domain == domain, table.died > after, table.died < ALIVE, table.born <= after
    )
    return [(key, died) for key, died in connection.execute(query)]


def load_grants(connection: Connection, domain: str, after: int = -1) -> list[tuple[str, str, bool]]:
    """Who may see what, as far as it changed after this count of changes."""
    table = grants_table.c
    query = select(table.document_id, table.caller_group, table.is_granted)
    query = query.where(table.domain == domain, table.changed > after)
    return [(document_id, group, is_granted) for document_id, group, is_granted in connection.execute(query)]


def load_start(connection: Connection, domain: str, epoch: int) -> str:
    """When an epoch began; empty for one that is not in the books. No two epochs of any domain began together."""
    table = epochs_table.c
    start = connection.scalar(select(table.created_at).where(table.domain == domain, table.epoch == epoch))
    return "" if start is None else start.isoformat()


def other_embedders(connection: Connection, domain: str, embedder: str, epoch: int, *, after: int = 0) -> list[str]:
    """Names of the embedders, beside this one, that embedded chunks alive in an epoch and born after another."""
    table = chunks_table.c
    alive = and_(table.born <= epoch, table.died > epoch, table.born > after)
    query = select(table.embedder).where(table.domain == domain, alive, table.embedder != embedder).distinct()
    return sorted(connection.scalars(query))


def stack_vectors(blobs: Sequence[bytes]) -> Vectors:
    """Turn stored vectors into one array, (n, dim) float32; (0, 0) for none."""
    if not blobs:
        return np.zeros((0, 0), np.float32)
    return np.frombuffer(b"".join(blobs), np.float32).reshape(len(blobs), -1)
