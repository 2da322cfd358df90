"""What is served is what was trained: log-probabilities of the same targets by PEFT and by the serving engine.

PEFT computes in float32, by transformers' own attention, from the adapter's folder; the engine computes from the
weights it would serve, with the adapter folded in. The two agree to rounding, or something in between is wrong: another
scale, a projection that got no adapter, an engine that quietly serves the base model. The last is also asked directly:
the served adapter has to be away from the served base model by clearly more than the two may differ.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bakeoff.adapters import Check
from training.rows import Row

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt, and of the target that follows it."""
Score = Callable[[Sequence[Pair], str | None], Sequence[Sequence[float]]]
"""(pairs, digest of an adapter or None for the base model) -> log-probability of each target token, as served."""

TOLERANCES = {"float32": 0.01, "int8": 0.15}
"""Mean difference of log-probabilities from PEFT in float32 that each precision of the engine may have, nats."""
CLEARLY = 3.0
"""Times the tolerance by which an adapter has to differ from the base model."""


def make_pairs(rows: Sequence[Row]) -> list[Pair]:
    """The rows as the engine scores them."""
    return [(row.ids[: row.num_prompt], row.ids[row.num_prompt :]) for row in rows]


def score_by_peft(model: Any, pairs: Sequence[Pair]) -> list[list[float]]:
    """Log-probability of each target token, by the model's own forward pass, one pair at a time.

    Args:
        model: a PEFT model in eval mode; its active adapter counts.
    """
    scores = []
    for prompt, target in pairs:
        ids = torch.tensor([[*prompt, *target]]).to(model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        of_words = torch.log_softmax(logits, dim=-1)
        scores.append(of_words[torch.arange(len(target)), list(target)].tolist())
    return scores


def check_parity(
    served: Sequence[Sequence[float]], by_peft: Sequence[Sequence[float]], tolerance: float = TOLERANCES["float32"]
) -> Check:
    """Whether engine and PEFT agree on the adapter, to the tolerance."""
    difference = mean_difference(served, by_peft)
    passed = difference <= tolerance
    sentence = (
        f"{len(served)} targets: the serving engine and PEFT differ by {difference:.4f} nats a token on average, at "
        f"most {tolerance:g} allowed"
    )
    if not passed:
        sentence += "; what would be served is not what was trained: remove its folded weights and check it again"
    return Check("parity", passed, sentence, {"difference": difference, "tolerance": tolerance})


def check_differs(
    served: Sequence[Sequence[float]],
    served_base: Sequence[Sequence[float]],
    tolerance: float = TOLERANCES["float32"],
) -> Check:
    """Whether what is served with the adapter is clearly something else than the base model."""
    difference = mean_difference(served, served_base)
    wanted = CLEARLY * tolerance
    passed = difference > wanted
    sentence = (
        f"{len(served)} targets: served with and without the adapter they differ by {difference:.3f} nats a token, "
        f"more than {wanted:g} wanted"
    )
    if not passed:
        sentence += "; the adapter changes nothing: train with a larger token_budget or learning_rate"
    return Check("differs", passed, sentence, {"difference": difference, "wanted": wanted})


def mean_difference(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    """Mean absolute difference over all tokens, nats; not a number if any score is none."""
    pairs = zip(first, second, strict=True)
    return float(np.mean(np.concatenate([np.abs(np.array(one) - np.array(other)) for one, other in pairs])))
