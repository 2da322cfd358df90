"""Intervals that hold for few pairs, and how many pairs would decide."""

import numpy as np
import pytest

from training.gate.intervals import needed_pairs, paired_interval

T_9 = 2.262157
"""Student's t at 97.5% with 9 degrees of freedom."""


def test_an_interval_of_ten_is_as_wide_as_students() -> None:
    differences = np.random.default_rng(1).normal(size=10)
    low, high = paired_interval(differences)
    wanted = 2 * T_9 * differences.std(ddof=1) / np.sqrt(10)
    assert high - low == pytest.approx(wanted, rel=0.08)
    assert low < differences.mean() < high


def test_small_samples_are_covered_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(300):
        low, high = paired_interval(rng.normal(size=10))
        missed += not low <= 0 <= high
    assert missed / 300 < 0.085  # 5% and three standard errors


def test_needed_pairs_grow_with_noise_and_with_a_nearer_bound() -> None:
    noisy = np.tile([-1.0, 1.0], 50)
    # (1.95996 + 0.84162)^2 / (0.1 / 1.00504)^2 = 792.8
    assert needed_pairs(noisy, 0.1) == 793
    assert needed_pairs(noisy / 2, 0.1) == 199
    assert needed_pairs(noisy + 0.2, 0.1) is None
