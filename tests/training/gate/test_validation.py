"""What the gate decides from pairs of scores: shown to be good, shown to be bad, or not shown."""

import numpy as np
import pytest

from training.gate.scores import RowScore
from training.gate.validation import MARGIN, MIN_EXAMPLES, Paired, check_validation, pair_scores, resample


def scores(nats: list[float], kind: str = "closed-book") -> list[RowScore]:
    return [RowScore(f"example-{number}", kind, each, 10, False) for number, each in enumerate(nats)]


def paired(mean: float, spread: float = 0.1, num_examples: int = 100) -> Paired:
    values = np.random.default_rng(0).normal(size=num_examples)
    values = mean + spread * (values - values.mean()) / values.std()
    return Paired(values, {"closed-book": values}, 1.0 + mean, 1.0)


def test_rows_of_one_example_are_one_piece_of_evidence() -> None:
    candidate = [*scores([1.0, 2.0]), *scores([0.5], "passages")]
    reference = [*scores([1.5, 2.0]), *scores([1.5], "passages")]
    found = pair_scores(candidate, reference)
    assert found.of_examples.tolist() == [-0.75, 0.0]
    assert {kind: values.tolist() for kind, values in found.by_kind.items()} == {
        "closed-book": [-0.5, 0.0],
        "passages": [-1.0],
    }
    assert (found.candidate, found.reference) == (1.375, 1.75)


def test_not_worse_is_enough_against_an_adapter_and_not_against_base() -> None:
    equal = paired(0.0)
    assert check_validation(equal, against="serving").passed
    against_base = check_validation(equal, against=None)
    assert not against_base.passed
    assert "not better than the base model" in against_base.sentence
    assert check_validation(paired(-0.1), against=None).passed


def test_worse_by_more_than_the_margin_is_refused() -> None:
    check = check_validation(paired(2 * MARGIN), against="serving")
    assert not check.passed
    assert "worse than the serving adapter" in check.sentence
    assert check.figures["low"] > MARGIN


def test_an_undecided_interval_is_refused_with_the_number_of_examples_that_would_decide() -> None:
    check = check_validation(paired(0.0, spread=0.4, num_examples=40), against="serving")
    assert not check.passed
    assert check.figures["low"] < MARGIN < check.figures["high"]
    needed = check.figures["needed"]
    assert f"need about {needed}" in check.sentence
    assert check_validation(paired(0.0, spread=0.4, num_examples=needed), against="serving").passed


@pytest.mark.parametrize("num_examples", [0, MIN_EXAMPLES - 1])
def test_too_few_examples_decide_nothing(num_examples: int) -> None:
    better = [-1.0] * num_examples
    found = pair_scores(scores(better), scores([0.0] * num_examples))
    check = check_validation(found, against=None)
    assert not check.passed
    assert "not enough validation examples" in check.sentence
    assert f"need about {MIN_EXAMPLES}" in check.sentence


def test_one_kind_of_row_that_got_worse_is_not_hidden_by_the_other() -> None:
    whole = paired(-0.5)
    assert check_validation(whole, against="serving").passed
    hidden = Paired(
        whole.of_examples, {**whole.by_kind, "passages": paired(0.3, num_examples=20).of_examples}, 0.5, 1.0
    )
    check = check_validation(hidden, against="serving")
    assert not check.passed
    assert "'passages'" in check.sentence


def test_a_candidate_at_the_margin_is_let_through_as_seldom_as_the_interval_promises() -> None:
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(400):
        values = rng.normal(MARGIN, 0.3, size=60)
        passed += check_validation(Paired(values, {}, 1.0, 1.0), against="serving").passed
    assert passed / 400 < 0.025 + 0.025  # three standard errors


def test_a_resample_draws_examples_with_replacement() -> None:
    whole = paired(0.0)
    drawn = resample(whole, 1)
    assert len(drawn.of_examples) == len(whole.of_examples)
    assert set(drawn.of_examples) < set(whole.of_examples)
    assert resample(whole, 1).of_examples.tolist() == drawn.of_examples.tolist()
