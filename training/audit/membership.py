"""Can one tell from an adapter's losses which examples it has learned from, and does it repeat their answers?

In: the scores of examples that it has learned from and of others of the same kind, with and without the adapter. The
test of membership is how much more likely the adapter makes an answer than the base model does (the loss of Yeom et al.
2018, calibrated by a reference model as in Watson et al. 2022): what both find easy says nothing. Reported as Carlini
et al. 2022 ask for: not only on average (AUC) but where it hurts, how many members are found when 1% of the others may
be taken for one.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bakeoff.errors import BadInput
from training.gate.scores import RowScore

FALSE_ALARMS = 0.01
MIN_FOR_FALSE_ALARMS = 100
"""Others below which one false alarm is more than 1% of them."""
MIN_EXAMPLES = 20
NUM_RESAMPLES = 2_000


class Membership(Struct, frozen=True):
    """How well members are told from others."""

    num_members: int
    num_others: int
    auc: float
    """How often a member looks more like one than another example does; 0.5 is chance."""
    auc_low: float
    auc_high: float
    """95% interval over examples."""
    found: float | None
    """Share of members found when 1% of the others are taken for one; chance is 0.01. None below 100 others."""
    found_low: float | None
    found_high: float | None
    repeated: float
    """Share of the members' targets that greedy decoding gives word for word from the closed-book prompt."""
    repeated_others: float
    """The same of the others: what can be guessed without having seen it."""
    repeated_base: float
    """The same of the members by the base model."""

    @property
    def sentence(self) -> str:
        """The figures in plain words."""
        told = "cannot be told from others" if self.auc_low <= 0.5 else "can be told from others"
        sentence = (
            f"Trained examples {told} by their loss: AUC {self.auc:.2f} (95% interval {self.auc_low:.2f} to "
            f"{self.auc_high:.2f}, chance 0.50, {self.num_members} trained and {self.num_others} other examples)"
        )
        if self.found is not None:
            sentence += (
                f"; with 1% false alarms {self.found:.0%} of them are found ({self.found_low:.0%} to "
                f"{self.found_high:.0%}, chance 1%)"
            )
        return (
            f"{sentence}. It repeats {self.repeated:.0%} of the trained answers word for word, against "
            f"{self.repeated_others:.0%} of answers it never saw and {self.repeated_base:.0%} by the base model"
        )


def measure_membership(
    members: Sequence[RowScore],
    members_base: Sequence[RowScore],
    others: Sequence[RowScore],
    others_base: Sequence[RowScore],
    seed: int = 0,
) -> Membership:
    """Tell members from others.

    Args:
        members: closed-book rows of examples in the adapter's lineage, scored with the adapter.
        members_base: the same rows by the base model.
        others: rows of examples of the same kind that are not in it.
        others_base: the same by the base model.
        seed: of the resampling.

    Raises:
        BadInput: too few examples on a side to say anything.
    """
    fewest = min(len(members), len(others))
    if fewest < MIN_EXAMPLES:
        raise BadInput(
            f"an audit needs {MIN_EXAMPLES} examples that the adapter has learned from and {MIN_EXAMPLES} that it has "
            f"not; there are {len(members)} and {len(others)}"
        )
    inside, outside = _gains(members, members_base), _gains(others, others_base)
    rng = np.random.default_rng(seed)
    draws = [
        (inside[rng.integers(len(inside), size=len(inside))], outside[rng.integers(len(outside), size=len(outside))])
        for _ in range(NUM_RESAMPLES)
    ]
    auc_low, auc_high = np.quantile([auc(*draw) for draw in draws], [0.025, 0.975])
    found = found_low = found_high = None
    if len(outside) >= MIN_FOR_FALSE_ALARMS:
        found = found_at(inside, outside)
        found_low, found_high = map(float, np.quantile([found_at(*draw) for draw in draws], [0.025, 0.975]))
    return Membership(
        len(members),
        len(others),
        auc(inside, outside),
        float(auc_low),
        float(auc_high),
        found,
        found_low,
        found_high,
        _repeated(members),
        _repeated(others),
        _repeated(members_base),
    )


def auc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """The chance that one drawn from inside is larger than one from outside; ties count half."""
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, side="left")
    up_to = np.searchsorted(ordered, inside, side="right")
    return float((below + up_to).mean() / (2 * len(outside)))


def found_at(inside: NDArray[np.float64], outside: NDArray[np.float64], false_alarms: float = FALSE_ALARMS) -> float:
    """Share of inside above a threshold that at most this share of outside is above."""
    allowed = int(false_alarms * len(outside))
    threshold = np.sort(outside)[::-1][allowed]
    return float((inside > threshold).mean())


def _gains(adapted: Sequence[RowScore], base: Sequence[RowScore]) -> NDArray[np.float64]:
    """By how much the adapter lowers each row's loss, nats per label token."""
    pairs = zip(adapted, base, strict=True)
    return np.array([before.nats - after.nats for after, before in pairs])


def _repeated(scores: Sequence[RowScore]) -> float:
    return float(np.mean([score.is_greedy for score in scores]))
