"""Differences of pairs -> an interval that holds for few pairs too.

The percentile bootstrap of a mean is too narrow for small n: it forgets that the spread itself is estimated. Hesterberg
2015 ("What Teachers Should Know About the Bootstrap") widens it by what Student's t would; at 20 pairs that is a tenth.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from bakeoff.statistics import CONFIDENCE, bootstrap_interval

POWER = 0.8


def paired_interval(differences: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the mean of differences, one for each example.

    Args:
        differences: (n,), n at least 2; of examples, not of rows: rows of one example are no independent evidence.
        seed: of the resampling.
    """
    mean = float(differences.mean())
    low, high = bootstrap_interval(differences, seed=seed)
    factor = _widening(len(differences))
    return mean + (low - mean) * factor, mean + (high - mean) * factor


def needed_pairs(differences: NDArray[np.float64], bound: float) -> int | None:
    """About how many pairs would put the upper end below the bound, 8 times in 10; None where the mean is above it."""
    room = bound - float(differences.mean())
    if room <= 0:
        return None
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2) + NormalDist().inv_cdf(POWER)
    return math.ceil((z * float(differences.std(ddof=1)) / room) ** 2)


def _widening(num_pairs: int) -> float:
    """sqrt(n / (n - 1)) times the ratio of t to z at the interval's ends."""
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2)
    freedom = num_pairs - 1
    # Student's quantile by the first terms of its expansion in 1 / freedom (Abramowitz & Stegun 26.7.5); for 9 degrees
    # of freedom 2.258 in place of 2.262.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return math.sqrt(num_pairs / freedom) * t / z
