"""How far an adapter moved towards what people like, on questions it did not learn from, before and after.

Pairs: how often the chosen answer is likelier, per token, than the rejected one; and how often training raised it more
than the rejected one (the sign of DPO's implicit reward, Rafailov et al. 2023, section 4), for which chance is a half.
Rewards: the mean over completions written for held-out prompts. Every figure has the interval over questions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from bakeoff.statistics import bootstrap_interval
from training.preferences.completions import completion_logps, write_completions
from training.preferences.encoding import Answer, PairRow
from training.preferences.recipe import PreferenceRecipe
from training.preferences.reward_model import score_answers
from training.preferences.rewards import Reward


class Figure(Struct, frozen=True):
    """A mean over questions with its 95% interval."""

    mean: float
    low: float
    high: float
    num_questions: int


class PairMeasure(Struct, frozen=True, omit_defaults=True):
    """What pairs say of a model."""

    likelier: Figure
    """Share of the pairs whose chosen answer has the higher mean log-probability per token."""
    raised: Figure | None = None
    """Share of the pairs whose chosen answer gained more, against where training started; None before training."""
    margin: float = 0.0
    """Mean of that gain over the rejected answer's, in nats."""


class RewardMeasure(Struct, frozen=True):
    """What a reward says of a model's completions."""

    reward: Figure
    tokens: Figure
    """Length of the completions."""


def measure_pairs(model: Any, rows: Sequence[PairRow]) -> tuple[PairMeasure, PairMeasure]:
    """Measure held-out pairs without and with the fresh LoRA.

    Returns:
        (before training, after it).
    """
    chosen, rejected = [row.chosen for row in rows], [row.rejected for row in rows]
    before = [completion_logps(model, answers, is_reference=True) for answers in (chosen, rejected)]
    after = [completion_logps(model, answers) for answers in (chosen, rejected)]
    gains = [
        (new_chosen - old_chosen) - (new_rejected - old_rejected)
        for old_chosen, old_rejected, new_chosen, new_rejected in zip(*before, *after, strict=True)
    ]
    return (
        PairMeasure(_likelier(rows, *before)),
        PairMeasure(
            _likelier(rows, *after),
            _by_question(rows, [_claim(gain) for gain in gains]),
            float(np.mean(gains)),
        ),
    )


def measure_scores(model: Any, rows: Sequence[PairRow]) -> Figure:
    """How often a reward model scores the chosen answer of a held-out pair above the rejected one."""
    chosen = score_answers(model, [row.chosen for row in rows])
    rejected = score_answers(model, [row.rejected for row in rows])
    return _by_question(rows, [_claim(high - low) for high, low in zip(chosen, rejected, strict=True)])


def measure_reward(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], reward: Reward, recipe: PreferenceRecipe, seed: int
) -> RewardMeasure:
    """Write a completion for each held-out prompt, drawn as in training, and score it."""
    answers = write_completions(
        model,
        tokenizer,
        prompts,
        max_tokens=recipe.max_completion_tokens,
        temperature=recipe.temperature,
        seed=seed,
    )
    return RewardMeasure(_figure(reward(answers)), _figure([len(answer.completion) for answer in answers]))


def _likelier(rows: Sequence[PairRow], chosen: Sequence[float], rejected: Sequence[float]) -> Figure:
    return _by_question(
        rows,
        [
            _claim(_mean(high, row.chosen) - _mean(low, row.rejected))
            for row, high, low in zip(rows, chosen, rejected, strict=True)
        ],
    )


def _mean(total: float, answer: Answer) -> float:
    return total / len(answer.completion)


def _claim(difference: float) -> float:
    """1 for yes, 0 for no, a half for a tie."""
    return 0.5 if difference == 0 else float(difference > 0)


def _by_question(rows: Sequence[PairRow], values: Sequence[float]) -> Figure:
    """Mean over questions of the weighted mean over the pairs of each."""
    sums: dict[str, tuple[float, float]] = {}
    for row, value in zip(rows, values, strict=True):
        total, weight = sums.get(row.question, (0.0, 0.0))
        sums[row.question] = (total + row.weight * value, weight + row.weight)
    return _figure([total / weight for total, weight in sums.values()])


def _figure(values: Sequence[float]) -> Figure:
    found = np.array(values, dtype=np.float64)
    low, high = bootstrap_interval(found)
    return Figure(float(found.mean()), low, high, len(found))
