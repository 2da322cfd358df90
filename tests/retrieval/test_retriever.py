from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hash_embedder import HashEmbedder, ignore, write_texts
from sqlalchemy import Engine

import retrieval.retriever
from bakeoff.domains import find_domain
from bakeoff.errors import BadInput, NotFound
from bakeoff.records import Document
from retrieval.embedder import Embedder
from retrieval.history import purge_documents
from retrieval.permissions import change_grants
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import add_documents, remove_documents

Open = Callable[..., Retriever]


@pytest.fixture
def open_retriever(engine: Engine, tmp_path: Path) -> Open:
    return lambda **options: Retriever(engine, HashEmbedder(), tmp_path / "indexes", **options)


def ids(retriever: Retriever, question: str, **options: Any) -> list[str]:
    return [passage.document_id for passage in retriever.search("d", question, SearchOptions(**options)).passages]


def test_passages_are_ordered_by_score_and_follow_every_change(
    engine: Engine, corpus: list[Document], embedder: Embedder, tmp_path: Path
) -> None:
    add_documents(engine, "d", corpus, embedder, ignore)
    retriever = Retriever(engine, embedder, tmp_path)
    result = retriever.search("d", "May I bring my dog?", SearchOptions(top_k=4))
    assert result.passages[0].document_id == "pets"
    assert [passage.rank for passage in result.passages] == [1, 2, 3, 4]
    scores = [passage.score for passage in result.passages]
    assert scores == sorted(scores, reverse=True)
    remove_documents(engine, "d", ["pets"])
    after = retriever.search("d", "May I bring my dog?", SearchOptions(top_k=10))
    assert "pets" not in {passage.document_id for passage in after.passages}
    assert len(after.passages) == 5
    with engine.connect() as connection:
        assert after.epoch == find_domain(connection, "d").epoch == result.epoch + 1


def test_an_empty_domain_has_no_passages_and_a_missing_one_is_named(engine: Engine, open_retriever: Open) -> None:
    write_texts(engine, "d", {"a": "zebra"})
    retriever = open_retriever()
    assert ids(retriever, "zebra") == ["a"]
    remove_documents(engine, "d", ["a"])
    assert ids(retriever, "zebra") == ids(open_retriever(), "zebra") == []
    with pytest.raises(NotFound, match="bakeoff documents add"):
        retriever.search("other", "Anything?")


@pytest.mark.parametrize("top_k", [0, -1, 101])
def test_a_number_of_passages_out_of_range_is_refused(engine: Engine, open_retriever: Open, top_k: int) -> None:
    write_texts(engine, "d", {"a": "zebra"})
    with pytest.raises(BadInput, match="from 1 to 100"):
        ids(open_retriever(), "zebra", top_k=top_k)


@pytest.mark.parametrize("question", ["", " \n\t"])
def test_an_empty_question_is_refused(engine: Engine, open_retriever: Open, question: str) -> None:
    write_texts(engine, "d", {"a": "zebra"})
    with pytest.raises(BadInput, match="question is empty"):
        ids(open_retriever(), question)


@pytest.mark.parametrize("question", ["?!", "\u200b", "😀", "the of", "x" * 20_000, "' OR 1=1 --", "a\x00b"])
def test_no_question_breaks_a_search(engine: Engine, open_retriever: Open, question: str) -> None:
    write_texts(engine, "d", {"a": "zebra", "b": "giraffe"})
    assert sorted(ids(open_retriever(), question)) == ["a", "b"]


def test_several_questions_are_answered_as_each_alone(engine: Engine, open_retriever: Open) -> None:
    write_texts(engine, "d", {f"d{number}": f"zebra word{number}" for number in range(20)})
    retriever = open_retriever()
    questions = [f"word{number}" for number in range(10)]
    assert retriever.search_many("d", questions) == [retriever.search("d", question) for question in questions]
    assert retriever.search_many("d", []) == []


def test_a_document_of_many_similar_chunks_does_not_crowd_the_others_out(engine: Engine, open_retriever: Open) -> None:
    crowd = "\n\n".join(f"# Part {number}\nzebra crossing number {number}" for number in range(300))
    write_texts(engine, "d", {"crowd": crowd} | {f"d{number}": f"zebra text {number}" for number in range(20)})
    found = ids(open_retriever(), "zebra crossing", top_k=20)
    assert found[0] == "crowd"
    assert len(set(found)) == 20
    assert set(ids(open_retriever(), "zebra crossing number", top_k=5, repeats=True)) == {"crowd"}


def test_neighbouring_chunks_are_joined_in_the_order_of_the_document(engine: Engine, open_retriever: Open) -> None:
    write_texts(engine, "d", {"a": "# One\nzebra one\n\n# Two\nzebra two\n\n# Three\nzebra three", "b": "giraffe"})
    passage = open_retriever().search("d", "zebra two").passages[0]
    assert passage.text == "zebra one\nTwo\nzebra two\nThree\nzebra three"
    assert (passage.heading, len(passage.chunk_ids)) == ("One", 3)
    assert passage.chunk_id == passage.chunk_ids[1]


def test_passages_keep_to_the_tokens_but_the_first_is_there_in_any_case(engine: Engine, open_retriever: Open) -> None:
    write_texts(engine, "d", {f"d{number}": f"zebra number{number} and six more words here" for number in range(9)})
    retriever = open_retriever()
    every = ids(retriever, "zebra", top_k=9)
    assert len(every) == 9
    assert ids(retriever, "zebra", top_k=9, max_tokens=1) == every[:1]
    assert ids(retriever, "zebra", top_k=9, max_tokens=30) == every[:3]  # ten tokens each


def test_documents_left_out_are_searched_as_if_they_were_not_there(engine: Engine, open_retriever: Open) -> None:
    texts = {f"d{number}": f"zebra word{number} giraffe{number % 3}" for number in range(12)}
    write_texts(engine, "d", texts)
    retriever = open_retriever()
    without = retriever.search("d", "zebra giraffe1", SearchOptions(top_k=20, without=frozenset({"d1", "d4", "none"})))
    remove_documents(engine, "d", ["d1", "d4"])
    gone = retriever.search("d", "zebra giraffe1", SearchOptions(top_k=20))
    assert (without.passages, without.evidence, without.explanations) == (
        gone.passages,
        gone.evidence,
        gone.explanations,
    )
    assert len(gone.passages) == 10


class ByLength:
    """Ranks the longest first."""

    name = "by-length"

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text)) for text in texts]


def test_a_reranker_orders_the_best_anew(engine: Engine, open_retriever: Open) -> None:
    write_texts(engine, "d", {f"d{number}": "zebra" + " long" * number for number in range(10)})
    result = open_retriever(reranker=ByLength()).search("d", "zebra", SearchOptions(top_k=3))
    assert [passage.document_id for passage in result.passages] == ["d9", "d8", "d7"]
    assert [explanation.reranked for explanation in result.explanations] == [50.0, 45.0, 40.0]


@pytest.mark.parametrize("is_found", [True, False])
@pytest.mark.parametrize("change", ["revoke", "purge"])
def test_what_is_hidden_while_a_search_runs_has_no_part_in_its_result(
    engine: Engine, open_retriever: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, is_found: bool
) -> None:
    write_texts(engine, "d", {"a": "zebra", "b": "zebra giraffe", "c": "lion"})
    retriever = open_retriever()
    rank_candidates = retrieval.retriever.rank_candidates
    rankings: list[object] = []

    def hide_after_ranking(*args: Any, **options: Any) -> Any:
        found = rank_candidates(*args, **options)
        if not rankings and change == "revoke":
            change_grants(engine, "d", ["a"], revoke=["everyone"])
        elif not rankings:
            purge_documents(engine, "d", ["a"], tmp_path / "indexes" / "d")
        rankings.append(found)
        return found

    monkeypatch.setattr(retrieval.retriever, "rank_candidates", hide_after_ranking)
    if is_found:
        assert ids(retriever, "zebra") == ["b", "c"]
    else:  # what is not in the result counts in its scores
        result = retriever.search("d", "zebra giraffe", SearchOptions(top_k=1))
        assert result == open_retriever().search("d", "zebra giraffe", SearchOptions(top_k=1))
    assert len(rankings) >= 2


def test_an_edit_while_a_search_runs_leaves_its_result_of_one_epoch(
    engine: Engine, open_retriever: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(engine, "d", {"a": "zebra old", "b": "zebra old too"})
    retriever = open_retriever()
    rank_candidates = retrieval.retriever.rank_candidates

    def edit_after_ranking(*args: Any, **options: Any) -> Any:
        found = rank_candidates(*args, **options)
        write_texts(engine, "d", {"a": "zebra new", "b": "zebra new too"})
        return found

    monkeypatch.setattr(retrieval.retriever, "rank_candidates", edit_after_ranking)
    result = retriever.search("d", "zebra")
    assert result.epoch == 1
    assert sorted(passage.text for passage in result.passages) == ["zebra old", "zebra old too"]


def test_only_some_documents_are_searched_as_if_there_were_no_others(engine: Engine, open_retriever: Open) -> None:
    texts = {f"d{number}": f"zebra word{number} giraffe{number % 3}" for number in range(12)}
    write_texts(engine, "d", texts, {"d7": ["staff"]})
    retriever = open_retriever()
    wanted = frozenset({"d1", "d4", "d7", "none"})
    found = retriever.search("d", "zebra giraffe2", SearchOptions(top_k=1, only=wanted))
    assert [passage.document_id for passage in found.passages] == ["d4"]  # of all documents it would be d2, d5 or d8
    few = retriever.search("d", "zebra giraffe1", SearchOptions(top_k=20, only=wanted))
    remove_documents(engine, "d", [name for name in texts if name not in ("d1", "d4")])
    gone = retriever.search("d", "zebra giraffe1", SearchOptions(top_k=20))
    assert (few.passages, few.evidence) == (gone.passages, gone.evidence)
    assert {passage.document_id for passage in few.passages} == {"d1", "d4"}
    assert retriever.search("d", "zebra", SearchOptions(only=frozenset())).passages == ()
    both = SearchOptions(only=frozenset({"d1", "d4"}), without=frozenset({"d1"}))
    assert [passage.document_id for passage in retriever.search("d", "zebra", both).passages] == ["d4"]


def test_a_search_may_do_without_the_reranker(engine: Engine, open_retriever: Open) -> None:
    write_texts(engine, "d", {f"d{number}": "zebra" + " long" * number for number in range(10)})
    plain = open_retriever().search("d", "zebra", SearchOptions(top_k=3))
    result = open_retriever(reranker=ByLength()).search("d", "zebra", SearchOptions(top_k=3, reranks=False))
    assert result == plain
