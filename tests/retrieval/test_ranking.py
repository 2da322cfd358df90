"""Fusion, one passage a document, neighbours, the token limit: on a corpus where the right order is known."""

from pathlib import Path

import pytest
from hash_embedder import HashEmbedder
from sqlalchemy import Engine

from bakeoff.records import Document
from retrieval.normalise import fold_text
from retrieval.ranking import Fusion
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import add_documents
from retrieval.tuning import Tuning

LONG = "\n\n".join(f"# Part {number}\n\nThe heron number {number} fishes at pond {number}." for number in range(40))


@pytest.fixture
def retriever(engine: Engine, tmp_path: Path) -> Retriever:
    documents = [
        Document("long", "Herons", LONG),
        Document("one", "Ponds", "A heron was seen at the pond in May."),
        Document("two", "Birds", "Swans and one heron live here."),
        Document("three", "Fish", "Trout swim in the river."),
    ]
    add_documents(engine, "d", documents, HashEmbedder(), lambda *_: None)
    return Retriever(engine, HashEmbedder(), tmp_path)


def ranked(retriever: Retriever, question: str, fusion: Fusion) -> list[str]:
    query = HashEmbedder().embed([fold_text(question)])[0]
    found = retriever.candidates("d", question, query, SearchOptions(), Tuning(fusion=fusion))
    return [name for name, _ in found]


def test_a_document_of_many_chunks_takes_one_place(retriever: Retriever) -> None:
    result = retriever.search("d", "Where does the heron fish?", SearchOptions(top_k=4))
    assert sorted(passage.document_id for passage in result.passages) == ["long", "one", "three", "two"]
    repeated = retriever.search("d", "heron pond number 7", SearchOptions(top_k=4, repeats=True))
    assert [passage.document_id for passage in repeated.passages].count("long") > 1


def test_neighbouring_chunks_come_as_one_passage_in_the_order_of_the_document(retriever: Retriever) -> None:
    [passage] = retriever.search("d", "heron number fishes pond", SearchOptions(top_k=1)).passages
    assert 2 <= len(passage.chunk_ids) <= 3
    assert passage.chunk_id in passage.chunk_ids
    places = [LONG.index(line) for line in passage.text.splitlines() if line.startswith("The heron")]
    assert places == sorted(places)
    assert len(places) == len(passage.chunk_ids)


def test_passages_keep_to_the_token_limit_but_for_the_first(retriever: Retriever) -> None:
    options = SearchOptions(top_k=4, max_tokens=12)
    passages = retriever.search("d", "Swans and one heron live here.", options).passages
    assert len(passages) == 1
    everything = retriever.search("d", "Swans and one heron live here.", SearchOptions(top_k=4)).passages
    assert passages[0] == everything[0]
    assert len(everything) == 4


def test_weights_of_zero_and_one_rank_by_one_ranking_alone(retriever: Retriever) -> None:
    by_words = ranked(retriever, "Trout", Fusion("weighted-sum", 1.0))
    assert by_words == ["three"]  # the others hold no word of the question
    assert set(ranked(retriever, "Trout", Fusion("weighted-sum", 0.0))) == {"long", "one", "two", "three"}


def test_reciprocal_rank_fusion_is_the_sum_of_the_papers_formula(retriever: Retriever) -> None:
    query = HashEmbedder().embed(["heron pond"])[0]
    fusion = Fusion("reciprocal-rank", 0.25, 60)
    found = retriever.candidates("d", "heron pond", query, SearchOptions(), Tuning(fusion=fusion))
    assert found
    for _, candidate in found:
        dense = 0.75 / (60 + candidate.dense_rank) if candidate.dense_rank else 0.0
        lexical = 0.25 / (60 + candidate.lexical_rank) if candidate.lexical_rank else 0.0
        assert candidate.fused == pytest.approx(dense + lexical)
    assert [candidate.fused for _, candidate in found] == sorted((c.fused for _, c in found), reverse=True)


def test_scores_are_probabilities_that_never_rise_with_the_rank(retriever: Retriever) -> None:
    scores = [p.score for p in retriever.search("d", "heron at the pond", SearchOptions(top_k=4)).passages]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
