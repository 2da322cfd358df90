"""Overlap scores against reference definitions, recall by hand, and the scores of a whole example."""

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from bakeoff.records import Example
from eval.metrics import SCORES, exact_match, recall_at, rouge_l, score_completion, token_f1

WORDS = "the a an pool Pool, park. is not no $5 3:30pm don't WiFi wi-fi café [1] there, There's isn’t –"
PAIRS = [
    ("The pool is open.", "the pool, open!"),
    ("", "yes"),
    ("yes", ""),
    ("a", "the"),
    ("pets are not allowed", "pets are allowed"),
    ("x x y", "x y y"),
    ("Café at 5 pm", "cafe at 5pm"),
    ("No.", "No"),
]


def squad_normalise(s: str) -> str:
    """The steps of the SQuAD script, in its order."""
    s = s.lower()
    s = "".join(ch for ch in s if ch not in set(string.punctuation))
    s = re.sub(r"\b(a|an|the)\b", " ", s)
    return " ".join(s.split())


def squad_f1(a_gold: str, a_pred: str) -> float:
    gold_toks = squad_normalise(a_gold).split()
    pred_toks = squad_normalise(a_pred).split()
    common = Counter(gold_toks) & Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return float(gold_toks == pred_toks)
    if num_same == 0:
        return 0.0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


def random_text(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS.split(), size=rng.integers(15)))


def random_pairs(num_pairs: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(7)
    return [(random_text(rng), random_text(rng)) for _ in range(num_pairs)]


def test_token_f1_and_exact_match_agree_with_the_squad_script() -> None:
    for completion, target in PAIRS + random_pairs(500):
        assert token_f1(completion, [target]) == pytest.approx(squad_f1(target, completion), abs=1e-12)
        assert exact_match(completion, [target]) == float(squad_normalise(completion) == squad_normalise(target))


@given(st.text(max_size=60), st.text(max_size=60))
def test_they_agree_on_any_text(completion: str, target: str) -> None:
    assert token_f1(completion, [target]) == pytest.approx(squad_f1(target, completion), abs=1e-12)
    assert exact_match(completion, [target]) == float(squad_normalise(completion) == squad_normalise(target))


def test_rouge_l_agrees_with_the_package() -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    for completion, target in PAIRS + random_pairs(500):
        assert rouge_l(completion, [target]) == pytest.approx(
            scorer.score(target, completion)["rougeL"].fmeasure, abs=1e-12
        )


@given(st.text(max_size=60), st.text(max_size=60))
def test_rouge_l_agrees_on_any_text(completion: str, target: str) -> None:
    expected = RougeScorer(["rougeL"], use_stemmer=False).score(target, completion)["rougeL"].fmeasure
    assert rouge_l(completion, [target]) == pytest.approx(expected, abs=1e-12)


def test_hand_computed_overlap() -> None:
    assert token_f1("pets are allowed", ["pets are not allowed"]) == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert rouge_l("open pool the", ["the pool is open"]) == pytest.approx(2 * (1 / 3) * (1 / 4) / (1 / 3 + 1 / 4))


@pytest.mark.parametrize("score", [token_f1, exact_match, rouge_l])
def test_the_best_target_counts(score: object) -> None:
    assert callable(score)
    assert score("Dogs are welcome.", ["No.", "dogs are welcome"]) == 1.0


@pytest.mark.parametrize(
    ("found", "relevant", "expected"),
    [
        (["a", "b", "c", "d", "e", "f"], ["a"], 1.0),
        (["b", "c", "d", "e", "f", "a"], ["a"], 0.0),
        (["a", "a", "a", "a", "a", "b"], ["a", "b"], 0.5),
        (["x", "b", "y", "a"], ["a", "b", "c"], 2 / 3),
        ([], ["a"], 0.0),
        (None, ["a"], None),
        (["a"], [], None),
    ],
)
def test_recall_counts_documents_of_the_first_five_passages(
    found: list[str] | None, relevant: list[str], expected: float | None
) -> None:
    assert recall_at(5, found, relevant) == (None if expected is None else pytest.approx(expected))


def test_an_example_gets_every_score() -> None:
    example = Example(
        "1", "When is check-in?", "At 3 pm.", ("At 3 pm.", "15:00"), ("d1",), {"yes_no": None, "label": "time"}
    )
    scores = score_completion("At 3 pm [2].", example, ["d2", "d1"])
    assert tuple(scores) == SCORES
    assert scores == {
        "token_f1": 1.0,
        "exact_match": 1.0,
        "rouge_l": 1.0,
        "polarity": None,
        "key_values": 1.0,
        "recall_at_5": 1.0,
        "abstained": 0.0,
    }


def test_an_abstention_is_seen_and_scored() -> None:
    example = Example("1", "Are pets allowed?", "Pets are allowed.", tags={"yes_no": "yes"})
    scores = score_completion("I don’t know.", example)
    assert (scores["abstained"], scores["polarity"], scores["recall_at_5"]) == (1.0, 0.0, None)
