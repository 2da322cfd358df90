"""Tuning on planted questions: what it chooses and what its probabilities mean can be checked by hand."""

from pathlib import Path

import numpy as np
import pytest
from hash_embedder import HashEmbedder
from sqlalchemy import Engine

from bakeoff.errors import BadInput
from bakeoff.records import Document, Example
from retrieval.fitting import fit_tuning, ndcg_at
from retrieval.ranking import Fusion
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import add_documents
from retrieval.tuning import Logistic, Tuning, load_tuning, save_tuning

TOPICS = ("parking", "breakfast", "pool", "dogs", "taxi", "sauna")


def make_domain(engine: Engine, tmp_path: Path) -> tuple[Retriever, list[Example]]:
    """Sixty pages about sixty inns; questions name the inn, and every third names an inn that has no page."""
    draw = np.random.default_rng(3)
    documents, examples = [], []
    for number in range(60):
        topic = TOPICS[number % len(TOPICS)]
        documents.append(
            Document(f"d{number}", f"Inn{number}x", f"About {topic} at the inn: it costs {number} pounds.")
        )
        noise = " ".join(draw.choice(["please", "tell", "quickly", "kindly", "know", "today"], 3))
        name = f"Inn{number}x" if number % 3 else f"Inn{number}y"
        examples.append(Example(f"e{number}", f"{noise} {topic} {name}", "yes", (), (f"d{number}",)))
    add_documents(engine, "d", documents, HashEmbedder(), lambda *_: None)
    return Retriever(engine, HashEmbedder(), tmp_path), examples


def fit(retriever: Retriever, examples: list[Example], **changes: object) -> Tuning:
    options = SearchOptions(top_k=1)
    return fit_tuning(retriever, "d", examples, HashEmbedder(), lambda *_: None, options=options, **changes)  # type: ignore[arg-type]


def test_the_choice_is_by_ndcg_and_the_threshold_keeps_what_was_asked(engine: Engine, tmp_path: Path) -> None:
    retriever, examples = make_domain(engine, tmp_path)
    tuning = fit(retriever, examples, keep=0.9)
    assert tuning.ndcg[str(tuning.fusion)] >= tuning.ndcg[str(Fusion())]
    assert tuning.num_questions == 60
    assert tuning.answered == pytest.approx(0.9, abs=0.04)
    assert tuning.declined > 0.5
    risks = [point.risk for point in tuning.risk_coverage]
    assert [point.coverage for point in tuning.risk_coverage] == sorted(
        (p.coverage for p in tuning.risk_coverage), reverse=True
    )
    assert risks[-1] < risks[0]
    assert tuning.calibration_error < 0.1
    lenient = fit(retriever, examples, keep=0.99)
    assert lenient.threshold <= tuning.threshold


def test_the_same_seed_gives_the_same_tuning(engine: Engine, tmp_path: Path) -> None:
    retriever, examples = make_domain(engine, tmp_path)
    first, second = (fit(retriever, examples, seed=5) for _ in range(2))
    assert first.evidence == second.evidence
    assert (first.fusion, first.threshold) == (second.fusion, second.threshold)


def test_a_tuning_counts_from_the_next_search_and_for_its_embedder_only(engine: Engine, tmp_path: Path) -> None:
    retriever, examples = make_domain(engine, tmp_path)
    tuning = fit(retriever, examples)
    before = retriever.search("d", "weather on the moon", SearchOptions(top_k=1))
    with engine.begin() as connection:
        save_tuning(connection, "d", tuning)
        assert load_tuning(connection, "d", "another").num_questions == 0
    after = retriever.search("d", "weather on the moon", SearchOptions(top_k=1))
    assert before.is_answerable
    assert not after.is_answerable
    assert retriever.search("d", examples[1].question, SearchOptions(top_k=1)).is_answerable


def test_too_few_questions_are_named(engine: Engine, tmp_path: Path) -> None:
    retriever, examples = make_domain(engine, tmp_path)
    with pytest.raises(BadInput, match=r"3 validation questions .* tuning needs 20"):
        fit(retriever, examples[:3])


def test_ndcg_by_hand() -> None:
    assert ndcg_at(["a", "b", "c"], frozenset("a")) == 1
    assert ndcg_at(["b", "a", "c"], frozenset("a")) == pytest.approx(1 / np.log2(3))
    assert ndcg_at(["x", "a", "b"], frozenset("ab")) == pytest.approx((1 / np.log2(3) + 0.5) / (1 + 1 / np.log2(3)))
    assert ndcg_at(["x"], frozenset("a")) == 0


def test_a_logistic_is_a_probability_and_never_overflows() -> None:
    assert Logistic(0.0, (1.0,)).probability([0.0]) == 0.5
    assert Logistic(1.0, (2.0, -1.0)).probability([1.0, 3.0]) == pytest.approx(0.5)
    assert Logistic(0.0, (1e9,)).probability([-1.0]) < 1e-20
