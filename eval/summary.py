"""Answers to figures: every metric of every mode with its interval, and the verdicts.

Scores are computed again from the stored completions each time, so a corrected metric needs no new answers. A failed
answer has no score: it is left out of the figures, out of both sides of every pair, and counted beside them.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from bakeoff.records import Example
from bakeoff.statistics import Statistic
from eval.answers import Answer, Key
from eval.metrics import MEASURES, SCORES, score_completion
from eval.risk import RiskPoint, trace_risk
from eval.statistics import Comparison, Metric, compare_modes, summarise_scores

COMPARED = ("token_f1", "polarity")
"""Scores that get a verdict. When they disagree, one mode has the style and another the facts."""


class Summary(Struct, frozen=True):
    """What a run found: `summary.json`, and what `bakeoff eval --json` prints."""

    run: str
    modes: dict[str, dict[str, Metric]]
    """Mode, then metric; every mode has every metric, with n 0 where it does not apply."""
    comparison: dict[str, Comparison]
    """By score, the best two modes; no entry where fewer than two modes have the score."""
    failed: dict[str, int]
    """Answers that did not come, by mode."""
    risk_coverage: dict[str, tuple[RiskPoint, ...]] = {}
    """By mode with retrieval: how wrong the answers are, when only those with the most evidence are given."""
    injection: dict[str, Metric] = {}
    """By mode with retrieval: how often it obeyed an instruction in a passage, where one was tried."""
    leaks: dict[str, int] = {}
    """By mode whose adapter was trained on test questions, knowingly: how many leaks were allowed."""


def rescore_answers(
    answers: Mapping[Key, Answer], modes: Sequence[str], examples: Sequence[Example]
) -> dict[Key, Answer]:
    """Score the stored completions anew, in the order of examples and modes."""
    keys = [(mode, example) for example in examples for mode in modes]
    return {
        (mode, example.id): _rescore(answers[mode, example.id], example)
        for mode, example in keys
        if (mode, example.id) in answers
    }


def summarise_answers(
    run: str,
    answers: Mapping[Key, Answer],
    modes: Sequence[str],
    seed: int,
    injection: Mapping[str, Metric] | None = None,
    leaks: Mapping[str, int] | None = None,
) -> Summary:
    """Aggregate the scores of a run.

    Args:
        run: the run's id.
        answers: with their scores.
        modes: in the order in which they are shown.
        seed: of the resampling.
        injection: what the probe for obeyed instructions found.
        leaks: by mode, those that its adapter was allowed to learn from.
    """
    by_mode = {mode: [answer for answer in answers.values() if answer.mode == mode] for mode in modes}
    metrics = {
        mode: {name: _aggregate(found, name, seed) for name in (*SCORES, *MEASURES)} for mode, found in by_mode.items()
    }
    comparisons = {name: _compare_best(answers, metrics, name, seed) for name in COMPARED}
    return Summary(
        run,
        metrics,
        {name: comparison for name, comparison in comparisons.items() if comparison is not None},
        {mode: sum(answer.error is not None for answer in found) for mode, found in by_mode.items()},
        {mode: points for mode, found in by_mode.items() if (points := trace_risk(found))},
        dict(injection or {}),
        {mode: number for mode, number in (leaks or {}).items() if number},
    )


def _rescore(answer: Answer, example: Example) -> Answer:
    if answer.error is not None:
        return answer
    scores = score_completion(answer.completion, example, answer.document_ids, abstained=answer.abstained)
    return msgspec.structs.replace(answer, scores=scores)


def _aggregate(answers: Sequence[Answer], name: str, seed: int) -> Metric:
    statistic: Statistic = "median" if name == "latency_ms" else "mean"
    return summarise_scores(
        [value for answer in answers if (value := _value(answer, name)) is not None], statistic, seed
    )


def _value(answer: Answer, name: str) -> float | None:
    if answer.error is not None:
        return None
    if name in MEASURES:
        measured: float | None = getattr(answer, name)
        return measured
    return answer.scores.get(name)


def _compare_best(
    answers: Mapping[Key, Answer], metrics: Mapping[str, Mapping[str, Metric]], name: str, seed: int
) -> Comparison | None:
    """Compare the two modes with the highest means."""
    values = [(metric[name].value, mode) for mode, metric in metrics.items()]
    ranked = sorted(((value, mode) for value, mode in values if value is not None), key=lambda pair: -pair[0])
    if len(ranked) < 2:
        return None
    first, second = ranked[0][1], ranked[1][1]
    pairs = [
        (ours, theirs)
        for (mode, example_id), answer in answers.items()
        if mode == first
        and (other := answers.get((second, example_id))) is not None
        and (ours := _value(answer, name)) is not None
        and (theirs := _value(other, name)) is not None
    ]
    return compare_modes(name, first, [ours for ours, _ in pairs], second, [theirs for _, theirs in pairs], seed=seed)
