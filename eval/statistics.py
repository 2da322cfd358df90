"""How sure a figure is, and what may be said of two modes.

A metric comes with a bootstrap interval over questions. Two modes are compared on the questions that both answered, by
the interval of the paired difference, never by whether two separate intervals overlap: questions differ more in
difficulty than modes differ in skill, and pairing takes that difference out. The verdict is winner, tie (any difference
left is smaller than a stated margin) or not enough data, with the number of questions that would be enough.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bakeoff.statistics import Statistic, bootstrap_interval

MARGIN = 0.03
"""A difference in score below this is no reason to choose one mode over the other."""
MIN_QUESTIONS = 30
"""Below this, percentile intervals are too narrow to decide anything."""
MIN_DIFFERING = 6
"""With fewer questions on which two modes differ, not even a clean sweep is significant (sign test: 2 / 2^5 = 0.06)."""

_Z_CONFIDENCE = 1.959964
_Z_POWER = 0.841621
_RULE_OF_THREE = 3.0

Outcome = Literal["winner", "tie", "not enough data"]


class Metric(Struct, frozen=True):
    """A figure over the scores of a mode. All None and n 0 where the metric does not apply."""

    value: float | None
    low: float | None
    """Lower end of the 95% interval; None below two questions."""
    high: float | None
    n: int
    """Questions that carry a score."""


class Comparison(Struct, frozen=True):
    """Two modes on the questions that both have a score for."""

    metric: str
    first: str
    """The mode with the higher mean on those questions."""
    second: str
    difference: float
    low: float | None
    high: float | None
    n: int
    margin: float
    verdict: Outcome
    more_questions: int | None
    """About how many more questions would decide it; None when it is decided."""
    sentence: str


def summarise_scores(scores: Sequence[float], statistic: Statistic = "mean", seed: int = 0) -> Metric:
    """Aggregate the scores of one mode, with the interval of the aggregate.

    Args:
        scores: one per question that carries this score.
        statistic: the median suits times, which have a long tail.
        seed: of the resampling.
    """
    if not scores:
        return Metric(None, None, None, 0)
    values = np.asarray(scores, dtype=np.float64)
    value = float(np.median(values) if statistic == "median" else values.mean())
    if len(values) < 2:
        return Metric(value, None, None, len(values))
    low, high = bootstrap_interval(values, statistic, seed)
    return Metric(value, low, high, len(values))


def compare_modes(
    metric: str,
    first: str,
    first_scores: Sequence[float],
    second: str,
    second_scores: Sequence[float],
    margin: float = MARGIN,
    seed: int = 0,
) -> Comparison:
    """Compare two modes by their paired difference.

    Args:
        metric: name of the score, in [0, 1] where higher is better.
        first: name of one mode; the result names the better one first.
        first_scores: one per shared question.
        second: name of the other mode.
        second_scores: of the same questions in the same order.
        margin: largest difference that counts as none.
        seed: of the resampling.
    """
    assert len(first_scores) == len(second_scores), (len(first_scores), len(second_scores))
    differences = np.asarray(first_scores, dtype=np.float64) - np.asarray(second_scores, dtype=np.float64)
    if len(differences) and differences.mean() < 0:
        first, second, differences = second, first, -differences
    num_shared = len(differences)
    difference = float(differences.mean()) if num_shared else 0.0
    low, high = bootstrap_interval(differences, "mean", seed) if num_shared > 1 else (None, None)
    verdict = _decide(low, high, num_shared, int(np.count_nonzero(differences)), margin)
    more = _count_missing(differences, margin) if verdict == "not enough data" else None
    sentence = _say(verdict, metric, first, second, difference, low, high, num_shared, margin, more)
    return Comparison(metric, first, second, difference, low, high, num_shared, margin, verdict, more, sentence)


def _decide(low: float | None, high: float | None, num_shared: int, num_differing: int, margin: float) -> Outcome:
    """A tie comes first: a difference that is real but within the margin is still no reason to choose."""
    if low is None or high is None or num_shared < MIN_QUESTIONS:
        return "not enough data"
    if -margin <= low and high <= margin and num_shared >= _questions_for_tie(margin):
        return "tie"
    if low > 0 and high > margin and num_differing >= MIN_DIFFERING:
        return "winner"
    return "not enough data"


def _questions_for_tie(margin: float) -> int:
    """Questions below which a difference of `margin` may have stayed unseen: 3 / n bounds what never happened.

    Source: Hanley & Lippman-Hand 1983, the rule of three.
    """
    return math.ceil(_RULE_OF_THREE / margin - 1e-9)


def _count_missing(differences: NDArray[np.float64], margin: float) -> int:
    """About how many more questions would decide, if they are like those seen.

    The smaller of two counts, each for a 95% interval with 80% power: enough to tell the difference seen from 0, or
    enough to show that it lies within the margin.
    """
    num_shared = len(differences)
    needed = float(_questions_for_tie(margin))
    if num_shared > 1 and (variance := float(differences.var(ddof=1))) > 0:
        reach = (_Z_CONFIDENCE + _Z_POWER) ** 2 * variance
        distance = abs(float(differences.mean()))
        for_winner = reach / distance**2 if distance else math.inf
        for_tie = max(needed, reach / (margin - distance) ** 2) if distance < margin else math.inf
        needed = max(MIN_QUESTIONS, min(for_winner, for_tie)) if math.isfinite(min(for_winner, for_tie)) else needed
    return _round_up(max(1.0, needed - num_shared))


def _round_up(number: float) -> int:
    """Two significant figures are all that an estimate from a sample variance is worth."""
    step = int(10 ** max(0, math.floor(math.log10(number)) - 1))
    return math.ceil(number / step) * step


def _say(
    verdict: Outcome,
    metric: str,
    first: str,
    second: str,
    difference: float,
    low: float | None,
    high: float | None,
    num_shared: int,
    margin: float,
    more: int | None,
) -> str:
    name = METRIC_NAMES.get(metric, metric)
    if low is None or high is None:
        return (
            f"Not enough data: {first} and {second} share {num_shared} question{'' if num_shared == 1 else 's'} with "
            f"{name}; about {more} more are needed."
        )
    evidence = f"{difference:+.3f} {name} (95% interval {low:+.3f} to {high:+.3f}, {num_shared} shared questions)"
    if verdict == "winner":
        return f"Winner: {first} beats {second} by {evidence}."
    if verdict == "tie":
        return f"Tie: {first} and {second} differ by {evidence}, within the margin of {margin:g}."
    lead = f"{first} leads {second} by" if difference > 0 else f"{first} and {second} are level:"
    return f"Not enough data: {lead} {evidence}; about {more} more questions with this score would decide it."


METRIC_NAMES = {
    "token_f1": "token F1",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "polarity": "polarity",
    "key_values": "key values",
    "recall_at_5": "recall@5",
    "abstained": "abstained",
    "latency_ms": "latency, ms",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
}
"""How metrics are written for people."""
