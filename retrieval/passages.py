"""Candidates and the texts of their chunks -> passages as the caller gets them, and why each was found."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
from msgspec import Struct

from bakeoff.records import Passage
from retrieval.catalogue import StoredChunk
from retrieval.chunking import text_to_embed
from retrieval.ranking import Candidate
from retrieval.tuning import Tuning, passage_features


class Explanation(Struct, frozen=True):
    """Why a passage was found, and stands where it stands."""

    dense_rank: int | None
    """Its document's rank by meaning, from 1; None when it was not found so."""
    cosine: float
    lexical_rank: int | None
    """Its document's rank by words."""
    bm25: float
    coverage: float
    """Share of the question's words, by weight, that the passage holds; 0 to 1."""
    fused: float
    reranked: float | None
    """The reranker's score; None without one."""


class Found(Struct, frozen=True):
    """A candidate with its texts."""

    candidate: Candidate
    chunk_id: str
    """Of the best chunk."""
    parts: tuple[StoredChunk, ...]
    """The best chunk and its neighbours, in the order of the document."""

    @property
    def text(self) -> str:
        """What a reranker reads: as the embedder does, of all parts together."""
        return text_to_embed(msgspec.structs.replace(self.parts[0].chunk, text=join_parts(self.parts)))


def drop_joined(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Leave out candidates whose row stands in a better one already, as its neighbour."""
    seen: set[int] = set()
    kept = []
    for candidate in candidates:
        if candidate.row not in seen:
            seen.update(candidate.neighbours)
            kept.append(candidate)
    return kept


def make_passages(found: Iterable[Found], tuning: Tuning) -> tuple[Passage, ...]:
    """Number the passages and score them; a score never rises with the rank."""
    passages = []
    score = 1.0
    for rank, one in enumerate(found, start=1):
        score = min(score, tuning.passage.probability(passage_features(one.candidate)))
        first = one.parts[0].chunk
        passages.append(
            Passage(
                rank=rank,
                score=round(score, 4),
                document_id=first.document_id,
                chunk_id=one.chunk_id,
                title=first.title,
                text=join_parts(one.parts),
                heading=first.heading,
                page=first.page,
                chunk_ids=tuple(part.chunk.chunk_id for part in one.parts),
            )
        )
    return tuple(passages)


def join_parts(parts: Sequence[StoredChunk]) -> str:
    """Texts of neighbouring chunks, a heading between two where it changes."""
    text = parts[0].chunk.text
    for before, part in pairwise(parts):
        heading = f"{part.chunk.heading}\n" if part.chunk.heading != before.chunk.heading else ""
        text += f"\n{heading}{part.chunk.text}"
    return text


def explain(candidate: Candidate, reranked: float | None) -> Explanation:
    """What the ranking knew of a candidate."""
    return Explanation(
        dense_rank=candidate.dense_rank,
        cosine=round(candidate.cosine, 4),
        lexical_rank=candidate.lexical_rank,
        bm25=round(candidate.bm25, 4),
        coverage=round(candidate.coverage, 4),
        fused=round(candidate.fused, 6),
        reranked=reranked,
    )
