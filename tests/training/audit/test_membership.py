"""Telling members from others: figures checked by hand, an adapter that gives itself away, scores that say nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakeoff.errors import BadInput
from training.audit.audit import audit_membership
from training.audit.membership import auc, found_at, measure_membership
from training.gate.scores import RowScore


def scores(nats: Any, is_greedy: bool = False) -> list[RowScore]:
    return [RowScore(str(number), "closed-book", float(each), 10, is_greedy) for number, each in enumerate(nats)]


def test_auc_is_the_share_of_pairs_in_the_right_order_ties_half() -> None:
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 1.0])) == (2 + 0.5) / 4
    assert auc(np.array([1.0]), np.array([1.0])) == 0.5
    assert auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0


def test_members_found_are_those_above_all_but_one_in_a_hundred_others() -> None:
    outside = np.arange(100.0)  # one false alarm is allowed: the 99 is, the 98 is not
    assert found_at(np.array([98.0, 98.5, 99.5, 100.0]), outside) == 0.75
    assert found_at(np.array([98.0, 98.5, 99.5, 100.0]), outside[:99]) == 0.75  # none is allowed: above 98
    assert found_at(np.array([97.5, 98.0]), outside[:99]) == 0.0


def test_losses_that_do_not_depend_on_membership_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    base, others_base = rng.normal(2, 1, 150), rng.normal(2, 1, 150)
    found = measure_membership(
        scores(base - rng.normal(1, 0.3, 150)),
        scores(base),
        scores(others_base - rng.normal(1, 0.3, 150)),
        scores(others_base),
    )
    assert found.auc_low < 0.5 < found.auc_high
    assert found.found is not None
    assert found.found < 0.06
    assert "cannot be told" in found.sentence


def test_the_base_model_takes_out_what_is_easy_anyway() -> None:
    members_base, others_base = np.full(100, 1.0), np.full(100, 3.0)  # members are easier, for everyone
    found = measure_membership(
        scores(members_base - 0.5), scores(members_base), scores(others_base - 0.5), scores(others_base)
    )
    assert found.auc == 0.5


def test_an_adapter_that_learned_by_heart_gives_its_examples_away(owners: Any, model_dir: Path, tokenizer: Any) -> None:
    found = audit_membership(model_dir, owners.folder, owners.members, owners.others, tokenizer)
    assert (found.num_members, found.num_others) == (20, 20)
    assert found.auc_low > 0.55
    assert found.auc > 0.8
    assert found.found is None, "20 others cannot say what 1% of them is"
    assert found.repeated > found.repeated_others
    assert found.repeated_base == 0
    assert "can be told from others" in found.sentence


def test_too_few_examples_say_nothing() -> None:
    few = scores([1.0] * 5)
    with pytest.raises(BadInput, match="there are 5 and 30"):
        measure_membership(few, few, scores([1.0] * 30), scores([1.0] * 30))
