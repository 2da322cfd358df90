"""A candidate against what serves now, on examples that neither has learned from, pair by pair.

In: the scores of the same rows under both. Out: a `Check`. Where an adapter serves, the candidate has to be not worse:
the upper end of the 95% interval of (candidate - serving), in nats per label token, lies below a margin
(non-inferiority; Piaggio et al. 2012). Where none serves, it has to be better than the base model. An interval that
decides neither way is refused too, with the number of examples that would decide it: a promotion needs evidence, a
refusal does not.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bakeoff.adapters import Check
from training.gate.intervals import needed_pairs, paired_interval
from training.gate.scores import RowScore

MARGIN = 0.05
"""Nats per label token by which a candidate may be worse than the serving adapter: 5% of perplexity."""
MIN_EXAMPLES = 10
"""With fewer, no interval of any kind is to be trusted."""
HOPELESS = 100
"""Times the examples there are; who would need more to tell a difference is told that there is none."""


class Paired(Struct, frozen=True):
    """Candidate minus reference, nats per label token."""

    of_examples: NDArray[np.float64]
    """(examples,) mean over the rows of each example, so that examples are what is resampled."""
    by_kind: dict[str, NDArray[np.float64]]
    """Kind of row -> (rows of it,)."""
    candidate: float
    """Mean over the examples."""
    reference: float


def pair_scores(candidate: Sequence[RowScore], reference: Sequence[RowScore]) -> Paired:
    """Pair the scores of the same rows, in the same order."""
    kinds: dict[str, list[float]] = {}
    examples: dict[str, list[tuple[float, float]]] = {}
    for ours, theirs in zip(candidate, reference, strict=True):
        assert (ours.example_id, ours.kind) == (theirs.example_id, theirs.kind), "scores of other rows"
        kinds.setdefault(ours.kind, []).append(ours.nats - theirs.nats)
        examples.setdefault(ours.example_id, []).append((ours.nats, theirs.nats))
    means = np.array([np.mean(pairs, axis=0) for pairs in examples.values()]).reshape(-1, 2)
    return Paired(
        means[:, 0] - means[:, 1],
        {kind: np.array(differences) for kind, differences in kinds.items()},
        *(float(column.mean()) if len(column) else float("nan") for column in means.T),
    )


def resample(paired: Paired, seed: int) -> Paired:
    """The same comparison on as many examples, drawn from these with replacement; rows of a kind are drawn alike."""
    rng = np.random.default_rng(seed)

    def draw(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[rng.integers(len(values), size=len(values))]

    by_kind = {kind: draw(values) for kind, values in paired.by_kind.items()}
    return Paired(draw(paired.of_examples), by_kind, paired.candidate, paired.reference)


def check_validation(paired: Paired, *, against: str | None, margin: float = MARGIN, seed: int = 0) -> Check:
    """Whether the candidate is shown to be good enough.

    Args:
        paired: candidate minus what serves, or minus the base model.
        against: digest of the serving adapter; None for the base model, which has to be beaten.
        margin: of non-inferiority; not used against the base model.
        seed: of the resampling.
    """
    bound = 0.0 if against is None else margin
    name = "the base model" if against is None else f"the serving adapter {against[:8]}"
    differences = paired.of_examples
    num_examples = len(differences)
    if num_examples < MIN_EXAMPLES:
        return Check(
            "validation",
            False,
            f"not enough validation examples: {num_examples} that neither side has learned from, need about "
            f"{MIN_EXAMPLES} or more; import some with: bakeoff examples import FILE --domain D --split validation",
            {"examples": num_examples},
        )
    mean = float(differences.mean())
    low, high = paired_interval(differences, seed)
    figures: dict[str, float | None] = {
        "examples": num_examples,
        "candidate": paired.candidate,
        "reference": paired.reference,
        "difference": mean,
        "low": low,
        "high": high,
        "bound": bound,
    }
    for kind, of_kind in paired.by_kind.items():
        figures[f"difference, {kind}"] = float(of_kind.mean())
    allowed = f"below {bound:+.2f}" if bound else "below 0"
    measured = (
        f"{num_examples} validation examples: {mean:+.3f} nats a token against {name} (95% interval {low:+.3f} to "
        f"{high:+.3f}; its upper end has to be {allowed})"
    )
    worse = _find_worse_kind(paired, bound, seed)
    if high < bound and worse is None:
        return Check("validation", True, measured, figures)
    needed = needed_pairs(differences, bound)
    if needed is None or needed > HOPELESS * num_examples:
        missed = "not better than" if against is None else "worse than"
        return Check("validation", False, f"{measured}; it is {missed} {name}", figures)
    if high < bound:
        return Check("validation", False, f"{measured}; {worse}", figures)
    figures["needed"] = needed
    return Check(
        "validation", False, f"{measured}; not enough validation examples to tell, need about {needed}", figures
    )


def _find_worse_kind(paired: Paired, bound: float, seed: int) -> str | None:
    """The kind of row on which the candidate is shown to be worse than allowed, though the whole may look fine."""
    for kind, differences in paired.by_kind.items():
        if len(differences) >= MIN_EXAMPLES:
            low, high = paired_interval(differences, seed)
            if low > bound:
                return f"on rows of kind {kind!r} alone it is worse ({low:+.3f} to {high:+.3f})"
    return None
