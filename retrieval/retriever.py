"""Question -> the best passages of one epoch: the only module of retrieval that answers questions for others.

The FAISS index is a cache of the database: each search reads the domain's epoch, and when it has moved on, the index is
built anew from the vectors of that epoch before it answers. A search sees one epoch, whole.
"""

import threading
from collections.abc import Sequence

import faiss
from msgspec import Struct
from sqlalchemy import Engine

from bakeoff.domains import find_domain
from bakeoff.errors import BadInput, Mismatch
from bakeoff.records import Passage
from retrieval.embedder import Embedder
from retrieval.store import load_chunks, load_vectors, other_embedders

MAX_TOP_K = 100


class SearchResult(Struct, frozen=True):
    """Passages of one question."""

    epoch: int
    passages: tuple[Passage, ...]
    """Best first; fewer than `top_k` where the domain holds fewer chunks."""


class _Index(Struct):
    epoch: int
    chunk_ids: list[str]
    vectors: faiss.IndexFlatIP | None


class Retriever:
    """Searches domains; thread-safe, and one serves every thread of a process."""

    def __init__(self, engine: Engine, embedder: Embedder) -> None:
        self._engine = engine
        self._embedder = embedder
        self._indexes: dict[str, _Index] = {}
        self._lock = threading.Lock()

    def search(self, domain: str, question: str, top_k: int) -> SearchResult:
        """Return the passages nearest to the question.

        Args:
            top_k: passages wanted, 1 to 100.

        Raises:
            NotFound: no such domain.
            BadInput: an empty question or a `top_k` out of range.
            Mismatch: the domain's documents were embedded by another embedder.
        """
        return self.search_many(domain, [question], top_k)[0]

    def search_many(self, domain: str, questions: Sequence[str], top_k: int) -> list[SearchResult]:
        """Search several questions in one epoch; otherwise as `search`."""
        if not 1 <= top_k <= MAX_TOP_K:
            raise BadInput(f"top_k must be from 1 to {MAX_TOP_K}, but is {top_k}", param="top_k")
        if not all(question.strip() for question in questions):
            raise BadInput("the question is empty", param="question")
        if not questions:
            return []
        embeddings = None
        while True:
            index = self._current_index(domain)
            if index.vectors is None:
                return [SearchResult(index.epoch, ())] * len(questions)
            if embeddings is None:
                embeddings = self._embedder.embed(questions)
            scores, positions = index.vectors.search(embeddings, min(top_k, len(index.chunk_ids)))
            wanted = {index.chunk_ids[position] for row in positions for position in row}
            with self._engine.connect() as connection:
                chunks = load_chunks(connection, domain, sorted(wanted))
            if wanted <= chunks.keys():  # else the documents changed meanwhile: search the new epoch
                break
        results = []
        for row_scores, row in zip(scores, positions, strict=True):
            found = [chunks[index.chunk_ids[position]] for position in row]
            passages = tuple(
                Passage(rank, round(float(score), 6), chunk.document_id, chunk.chunk_id, chunk.title, chunk.text)
                for rank, (score, chunk) in enumerate(zip(row_scores, found, strict=True), start=1)
            )
            results.append(SearchResult(index.epoch, passages))
        return results

    def epoch(self, domain: str) -> int:
        """The domain's epoch now."""
        with self._engine.connect() as connection:
            return find_domain(connection, domain).epoch

    def _current_index(self, domain: str) -> _Index:
        with self._lock:
            epoch = self.epoch(domain)
            index = self._indexes.get(domain)
            if index is None or index.epoch != epoch:
                index = self._indexes[domain] = self._build(domain)
            return index

    def _build(self, domain: str) -> _Index:
        with self._engine.connect() as connection, connection.begin():
            epoch = find_domain(connection, domain).epoch
            chunk_ids, vectors = load_vectors(connection, domain, self._embedder.name)
            others = other_embedders(connection, domain, self._embedder.name)
        if others:
            raise Mismatch(
                f"documents of domain {domain!r} are embedded by {', '.join(others)}, not by {self._embedder.name}; "
                f"embed them again with: bakeoff documents add PATH --domain {domain}, "
                "or set BAKEOFF_EMBEDDER back"
            )
        if not chunk_ids:
            return _Index(epoch, [], None)
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return _Index(epoch, chunk_ids, index)
