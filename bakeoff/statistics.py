"""How sure a figure is: the interval of a mean or a median over questions, by resampling them."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
_CHUNK = 4_000_000
"""Scores drawn at once: bounds memory to some tens of MB."""

Statistic = Literal["mean", "median"]


def bootstrap_interval(
    values: NDArray[np.float64], statistic: Statistic = "mean", seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float]:
    """Percentile interval of a mean or median, resampling questions with replacement.

    Args:
        values: (n,) scores, n at least 1.
        statistic: computed on every resample.
        seed: the same seed gives the same interval.
        num_resamples: 10,000 leave about 0.1% of the interval's width to chance.

    Returns:
        (low, high) of the 95% interval.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    rng = np.random.default_rng(seed)
    num_values = len(values)
    rows = max(1, _CHUNK // num_values)
    estimates = np.empty(num_resamples)
    for start in range(0, num_resamples, rows):
        stop = min(start + rows, num_resamples)
        drawn = values[rng.integers(num_values, size=(stop - start, num_values))]
        estimates[start:stop] = np.median(drawn, axis=1) if statistic == "median" else drawn.mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return float(low), float(high)
