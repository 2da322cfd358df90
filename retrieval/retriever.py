"""Question -> the best passages of one epoch that the caller may see: the module that answers questions for others.

A search takes a view of the index, ranks rows in it, and then reads the texts and the caller's permissions in one
transaction of the database. When permissions changed or a text was purged since the view was made, it starts over with
a new view: what a caller gets is what the database grants at that moment, and from one epoch, whole.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from sqlalchemy import Engine

from bakeoff.database import reading
from bakeoff.domains import find_domain
from bakeoff.errors import BadInput
from bakeoff.records import Passage
from retrieval.catalogue import load_chunks
from retrieval.embedder import Embedder, Vectors
from retrieval.index.live import Limits, LiveIndex
from retrieval.index.vectors import Built
from retrieval.index.view import View
from retrieval.normalise import fold_text
from retrieval.passages import Explanation, Found, drop_joined, explain, make_passages
from retrieval.ranking import POOL, Candidate, rank_candidates
from retrieval.reranker import Reranker
from retrieval.tables import EVERYONE
from retrieval.tuning import Tuning, evidence_features, load_tuning

MAX_TOP_K = 100
RERANKED = 20
"""Candidates a reranker reads."""
_MAX_TRIES = 50


class SearchOptions(Struct, frozen=True, kw_only=True):
    """What is asked of a search beside the question."""

    top_k: int = 5
    """Passages wanted, 1 to 100."""
    groups: frozenset[str] = frozenset({EVERYONE})
    """Of the caller; see `permissions.caller_groups`."""
    epoch: int | None = None
    """An epoch of the past; None searches the newest."""
    repeats: bool = False
    """Whether several passages may come from one document."""
    max_tokens: int = 0
    """Of all passages together, as the embedder counts; the first passage is kept whatever its length. 0: no limit."""
    without: frozenset[str] = frozenset()
    """Documents to search as if they were not there."""
    only: frozenset[str] | None = None
    """Documents to search as if there were no others; None for all."""
    reranks: bool = True
    """Whether the reranker, where there is one, orders the best candidates anew."""


class SearchResult(Struct, frozen=True):
    """Passages of one question."""

    epoch: int
    passages: tuple[Passage, ...]
    """Best first; fewer than `top_k` where the caller may see fewer documents, or the token limit is reached."""
    evidence: float = 0.0
    """How likely any of them holds the answer, 0 to 1."""
    is_answerable: bool = True
    """Whether the evidence reaches the domain's threshold; true for a domain that was not tuned."""
    explanations: tuple[Explanation, ...] = ()
    """One a passage."""


class Retriever:
    """Searches domains; thread-safe, and one serves every thread of a process."""

    def __init__(
        self,
        engine: Engine,
        embedder: Embedder,
        folder: Path,
        *,
        reranker: Reranker | None = None,
        limits: Limits | None = None,
        keeps: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            folder: holds a folder of snapshots for each domain.
            reranker: orders the best candidates anew.
            limits: when indexes are built anew.
            keeps: whether they are built anew in the background: for processes that stay.
        """
        self._engine = engine
        self._embedder = embedder
        self._folder = folder
        self._reranker = reranker
        self._limits = limits or Limits()
        self._keeps = keeps
        self._indexes: dict[str, LiveIndex] = {}
        self._lock = threading.Lock()

    def search(self, domain: str, question: str, options: SearchOptions | None = None) -> SearchResult:
        """Return the best passages for a question.

        Raises:
            NotFound: no such domain.
            BadInput: an empty question, `top_k` out of range, or an epoch that the domain does not have.
            Mismatch: the domain's documents were embedded by another embedder.
        """
        return self.search_many(domain, [question], options)[0]

    def search_many(
        self, domain: str, questions: Sequence[str], options: SearchOptions | None = None
    ) -> list[SearchResult]:
        """Search several questions, each as `search` does."""
        options = options or SearchOptions()
        if not 1 <= options.top_k <= MAX_TOP_K:
            raise BadInput(f"top_k must be from 1 to {MAX_TOP_K}, but is {options.top_k}", param="top_k")
        if not all(question.strip() for question in questions):
            raise BadInput("the question is empty", param="question")
        with self._engine.connect() as connection:
            find_domain(connection, domain)
        if not questions:
            return []
        folded = [fold_text(question) for question in questions]
        queries = self._embedder.embed(folded)
        with self._engine.connect() as connection:
            tuning = load_tuning(connection, domain, self._embedder.name)
        pairs = zip(folded, queries, strict=True)
        return [self._search(domain, question, query, options, tuning) for question, query in pairs]

    def candidates(
        self, domain: str, question: str, query: Vectors, options: SearchOptions, tuning: Tuning
    ) -> list[tuple[str, Candidate]]:
        """What a search would choose from: document id and candidate, best first. For fitting a tuning."""
        view = self._view(domain, options.epoch)
        visible = view.visible(options.groups, options.without, options.only)
        found = rank_candidates(view, visible, question, query, tuning.fusion, POOL, repeats=options.repeats)
        names = view.base.documents.names
        return [(names[int(view.documents[candidate.row])], candidate) for candidate in found]

    def describe(self, domain: str) -> dict[str, object]:
        """What a search depends on beside documents and question: tuning, embedder, reranker."""
        with self._engine.connect() as connection:
            tuning = load_tuning(connection, domain, self._embedder.name)
        reranker = None if self._reranker is None else self._reranker.name
        return {
            "tuning": msgspec.structs.replace(tuning, fitted_at=None),
            "embedder": self._embedder.name,
            "reranker": reranker,
        }

    def refresh(self, domain: str) -> None:
        """Bring the domain's index level with the database now, so that no search has to."""
        self._index(domain).view()

    def build(self, domain: str) -> Built:
        """Build the domain's index anew and snapshot it; see `LiveIndex.build`."""
        return self._index(domain).build()

    def build_if_due(self, domain: str) -> Built | None:
        """Build the domain's index anew where it is time for that; see `LiveIndex.build_if_due`."""
        return self._index(domain).build_if_due()

    def _search(
        self, domain: str, question: str, query: Vectors, options: SearchOptions, tuning: Tuning
    ) -> SearchResult:
        pool = max(POOL, 4 * options.top_k)
        reranker = self._reranker if options.reranks else None
        for _ in range(_MAX_TRIES):
            view = self._view(domain, options.epoch)
            visible = view.visible(options.groups, options.without, options.only)
            candidates = rank_candidates(view, visible, question, query, tuning.fusion, pool, repeats=options.repeats)
            chosen = drop_joined(candidates)[: options.top_k if reranker is None else max(RERANKED, options.top_k)]
            keys = view.base.rows.keys
            wanted = [int(keys[row]) for candidate in chosen for row in candidate.neighbours]
            with reading(self._engine) as connection:
                now = find_domain(connection, domain)
                chunks = load_chunks(connection, domain, wanted, options.groups)
            if (now.permissions, now.generation) == (view.permissions, view.generation) and chunks.keys() >= set(
                wanted
            ):
                break
        else:
            raise RuntimeError(f"permissions of domain {domain!r} changed {_MAX_TRIES} times during one search")
        found = [
            Found(
                candidate,
                chunks[int(keys[candidate.row])].chunk.chunk_id,
                tuple(chunks[int(keys[row])] for row in candidate.neighbours),
            )
            for candidate in chosen
        ]
        scores = None
        if reranker is not None and found:
            scores = reranker.score(question, [one.text for one in found])
        if scores is not None:
            order = np.argsort(-np.array(scores), kind="stable")[: options.top_k].tolist()
            found, scores = [found[place] for place in order], [scores[place] for place in order]
        passages = make_passages(found, tuning)
        passages = passages[: self._fit_tokens(passages, options.max_tokens)]
        explanations = tuple(
            explain(one.candidate, None if scores is None else scores[place])
            for place, one in enumerate(found[: len(passages)])
        )
        evidence = tuning.evidence.probability(evidence_features(candidates)) if candidates else 0.0
        return SearchResult(
            epoch=view.epoch,
            passages=passages,
            evidence=round(evidence, 4),
            is_answerable=evidence >= tuning.threshold,
            explanations=explanations,
        )

    def _fit_tokens(self, passages: Sequence[Passage], max_tokens: int) -> int:
        """How many of the first passages fit; at least one."""
        if not max_tokens or not passages:
            return len(passages)
        total = 0
        for count, num_tokens in enumerate(self._embedder.count_tokens([passage.text for passage in passages])):
            total += num_tokens
            if total > max_tokens and count:
                return count
        return len(passages)

    def _view(self, domain: str, epoch: int | None) -> View:
        index = self._index(domain)
        return index.view() if epoch is None else index.past_view(epoch)

    def _index(self, domain: str) -> LiveIndex:
        with self._lock:
            index = self._indexes.get(domain)
            if index is None:
                folder = snapshots_folder(self._folder, domain)
                index = LiveIndex(self._engine, domain, self._embedder.name, folder, self._limits, keeps=self._keeps)
                self._indexes[domain] = index
            return index


def snapshots_folder(folder: Path, domain: str) -> Path:
    """Where a domain's snapshots lie."""
    return folder / domain
