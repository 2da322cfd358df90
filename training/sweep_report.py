"""What a sweep found, in figures and in words; chance is told apart from gain."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct


class Trial(Struct, frozen=True):
    """One recipe that was tried."""

    number: int
    knobs: dict[str, Any]
    loss: float | None
    """Validation loss, nats per label token; None where the trial was ended or failed."""
    state: str
    """`complete`, `pruned` or `fail`."""


class SweepResult(Struct, frozen=True):
    """What a sweep found."""

    folder: Path
    recipe: Path
    """TOML of the winner, for `bakeoff train --recipe`."""
    trials: tuple[Trial, ...]
    winner: dict[str, Any]
    apparent_gain: float
    """Loss of the start minus that of the best trial, on the seed they were chosen on."""
    start_losses: tuple[float, ...]
    """Of the recipe one started from, by fresh seed."""
    winner_losses: tuple[float, ...]
    """Of the winner, by the same seeds."""
    gain: float
    """Mean of their differences: what is left of the gain."""
    low: float | None
    """Lower end of the 95% interval of `gain` over seeds (Student's t); None for one seed."""
    high: float | None
    selection_noise: float
    """`apparent_gain` minus `gain`."""
    report: str


def interval_over_seeds(differences: Sequence[float]) -> tuple[float | None, float | None]:
    """95% interval of the mean difference over seeds, by Student's t; None for one seed."""
    from scipy.stats import t

    if len(differences) < 2:
        return None, None
    mean = statistics.fmean(differences)
    reach = t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    return float(mean - reach), float(mean + reach)


def describe_gain(best: int | None, num_trials: int, apparent: float, differences: Sequence[float]) -> str:
    """Say what a sweep found and how much of it fresh seeds confirm.

    Args:
        best: number of the best trial; None where it is the start.
        apparent: how much lower its loss was than the start's where it was chosen, nats per label token.
        differences: loss of the start minus that of the winner, by fresh seed.
    """
    if best is None:
        return f"None of {num_trials} trials was better than the recipe it started from: keep that one."
    gain, num_seeds = statistics.fmean(differences), len(differences)
    low, high = interval_over_seeds(differences)
    interval = f" (95% interval {low:+.3f} to {high:+.3f})" if low is not None else ""
    seeds = f"{num_seeds} fresh seed{'' if num_seeds == 1 else 's'}"
    found = f"Trial {best} of {num_trials} was {apparent:.3f} nats better than the start where it was chosen"
    left = f"with {seeds} the gain is {gain:+.3f}{interval}, so {apparent - gain:+.3f} was selection noise"
    if low is not None and low > 0:
        return f"{found}; {left}. It is better."
    return f"{found}; {left}. Not shown to be better: take it only if it costs nothing, or try more seeds."
