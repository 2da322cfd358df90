"""The sample: shared, stable, seeded."""

import numpy as np
import pytest

from bakeoff.errors import BadInput
from bakeoff.records import Example
from eval.dataset import sample_examples

EXAMPLES = [Example(f"e{number}", f"Question {number}?", "Yes.") for number in range(50)]


def test_the_sample_does_not_depend_on_the_order_of_the_file() -> None:
    shuffled = [EXAMPLES[position] for position in np.random.default_rng(3).permutation(len(EXAMPLES))]
    assert sample_examples(shuffled, 10, seed=1) == sample_examples(EXAMPLES, 10, seed=1)


def test_another_seed_draws_other_examples() -> None:
    first, second = ({example.id for example in sample_examples(EXAMPLES, 10, seed)} for seed in (1, 2))
    assert first != second


def test_a_larger_limit_keeps_the_questions_of_a_smaller_one() -> None:
    assert sample_examples(EXAMPLES, 20, 1)[:10] == sample_examples(EXAMPLES, 10, 1)


def test_no_limit_takes_all_once() -> None:
    assert sorted(example.id for example in sample_examples(EXAMPLES, None, 1)) == sorted(e.id for e in EXAMPLES)


def test_the_sample_is_uniform_enough() -> None:
    drawn = [example.id for seed in range(400) for example in sample_examples(EXAMPLES, 10, seed)]
    counts = [drawn.count(example.id) for example in EXAMPLES]
    assert min(counts) > 45
    assert max(counts) < 120


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(BadInput, match="examples import"):
        sample_examples([], 10, 1)
    with pytest.raises(BadInput, match="limit 0"):
        sample_examples(EXAMPLES, 0, 1)
