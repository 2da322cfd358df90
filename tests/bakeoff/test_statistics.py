"""Intervals against known variance and simulated coverage."""

import numpy as np
import pytest

from bakeoff.statistics import Statistic, bootstrap_interval


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, 400)
    low, high = bootstrap_interval(values)
    expected = 2 * 1.959964 * values.std() / np.sqrt(400)
    assert high - low == pytest.approx(expected, rel=0.03)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.1 * expected)


def test_the_interval_of_a_share_agrees_with_the_binomial() -> None:
    values = np.array([1.0] * 60 + [0.0] * 140)
    low, high = bootstrap_interval(values)
    assert (low, high) == pytest.approx((0.235, 0.365), abs=0.011)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_intervals_cover_the_truth_about_95_times_in_100(statistic: Statistic) -> None:
    rng = np.random.default_rng(2)
    truth = 1.0 if statistic == "mean" else np.log(2)
    covered = 0
    for seed in range(500):
        values = rng.exponential(1.0, 100)
        low, high = bootstrap_interval(values, statistic, seed, num_resamples=600)
        covered += low <= truth <= high
    assert 0.91 <= covered / 500 <= 0.98


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(3).random(30)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_memory_is_bounded_for_many_questions() -> None:
    values = np.random.default_rng(3).random(50_000)
    low, high = bootstrap_interval(values, num_resamples=200)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50_000), rel=0.2)
