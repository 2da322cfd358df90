"""Verdicts on planted winners, ties and thin data."""

import numpy as np
import pytest

from eval.statistics import (
    MIN_DIFFERING,
    MIN_QUESTIONS,
    Metric,
    compare_modes,
    summarise_scores,
)


def test_latency_is_summarised_by_its_median() -> None:
    metric = summarise_scores([10.0, 11.0, 12.0, 13.0, 5000.0], "median")
    assert metric.value == 12.0
    assert metric.low is not None
    assert metric.low >= 10.0


def test_nothing_has_no_value_and_one_has_no_interval() -> None:
    assert summarise_scores([]) == Metric(None, None, None, 0)
    assert summarise_scores([0.4]) == Metric(0.4, None, None, 1)


def test_a_planted_winner_is_named_first_with_its_lead() -> None:
    rng = np.random.default_rng(5)
    difficulty = rng.random(120) * 0.6
    weak, strong = difficulty, difficulty + rng.normal(0.1, 0.08, 120)
    for one, other, names in ((weak, strong, ("rag", "hybrid")), (strong, weak, ("hybrid", "rag"))):
        found = compare_modes("token_f1", names[0], one.tolist(), names[1], other.tolist())
        assert (found.first, found.second, found.verdict) == ("hybrid", "rag", "winner")
        assert found.difference == pytest.approx(0.1, abs=0.03)
        assert found.more_questions is None
        assert found.sentence.startswith("Winner: hybrid beats rag by +0.")


def test_pairing_finds_what_separate_intervals_hide() -> None:
    rng = np.random.default_rng(6)
    difficulty = rng.random(100)
    first, second = difficulty + 0.05 + rng.normal(0, 0.03, 100), difficulty
    ours, theirs = summarise_scores(first.tolist()), summarise_scores(second.tolist())
    assert ours.low is not None
    assert theirs.high is not None
    assert ours.low < theirs.high
    assert compare_modes("token_f1", "a", first.tolist(), "b", second.tolist()).verdict == "winner"


def test_a_planted_tie_is_called_one() -> None:
    rng = np.random.default_rng(7)
    scores = rng.random(400)
    found = compare_modes("token_f1", "a", (scores + rng.normal(0.002, 0.05, 400)).tolist(), "b", scores.tolist())
    assert found.verdict == "tie"
    assert "within the margin of 0.03" in found.sentence


def test_a_real_but_tiny_difference_is_a_tie() -> None:
    scores = np.linspace(0, 0.9, 200)
    found = compare_modes("token_f1", "a", (scores + 0.01).tolist(), "b", scores.tolist())
    assert found.verdict == "tie"


def test_too_few_questions_decide_nothing_however_clear() -> None:
    found = compare_modes("polarity", "a", [1.0] * (MIN_QUESTIONS - 1), "b", [0.0] * (MIN_QUESTIONS - 1))
    assert found.verdict == "not enough data"
    assert found.more_questions is not None
    assert found.more_questions >= 1


def test_identical_answers_on_few_questions_are_no_tie() -> None:
    found = compare_modes("polarity", "a", [1.0] * 40, "b", [1.0] * 40)
    assert (found.verdict, found.more_questions) == ("not enough data", 60)
    assert "a and b are level" in found.sentence
    assert compare_modes("polarity", "a", [1.0] * 100, "b", [1.0] * 100).verdict == "tie"


def test_a_clean_sweep_of_a_handful_is_no_winner() -> None:
    def sweep(num_won: int) -> str:
        ours = [1.0] * num_won + [0.0] * (60 - num_won)
        return compare_modes("polarity", "a", ours, "b", [0.0] * 60).verdict

    assert sweep(MIN_DIFFERING - 1) == "not enough data"
    assert sweep(MIN_DIFFERING) == "winner"


def test_the_number_of_questions_still_needed_is_enough_when_they_come() -> None:
    rng = np.random.default_rng(8)
    needed = 7.849 * 0.25**2 / 0.05**2
    decided = []
    for seed in range(400):
        pilot = rng.normal(0.05, 0.25, 60)
        found = compare_modes("token_f1", "a", pilot.tolist(), "b", [0.0] * 60, seed=seed)
        if found.more_questions is None or abs(found.difference - 0.05) > 0.004:
            continue
        assert found.more_questions + 60 == pytest.approx(needed, rel=0.5)
        more = rng.normal(0.05, 0.25, 60 + found.more_questions)
        again = compare_modes("token_f1", "a", more.tolist(), "b", [0.0] * len(more), seed=seed)
        decided.append(again.verdict == "winner")
    assert len(decided) >= 20
    assert 0.6 <= np.mean(decided) <= 0.97


@pytest.mark.parametrize("num_shared", [0, 1])
def test_no_pair_or_one_is_not_enough(num_shared: int) -> None:
    found = compare_modes("polarity", "a", [1.0] * num_shared, "b", [0.0] * num_shared)
    assert (found.verdict, found.low, found.n) == ("not enough data", None, num_shared)
    assert "polarity" in found.sentence


def test_two_equal_modes_are_rarely_called_different() -> None:
    rng = np.random.default_rng(9)
    winners = 0
    for seed in range(300):
        differences = rng.choice([-1.0, 0.0, 1.0], p=[0.15, 0.7, 0.15], size=60)
        winners += compare_modes("polarity", "a", differences.tolist(), "b", [0.0] * 60, seed=seed).verdict == "winner"
    assert winners / 300 <= 0.08
