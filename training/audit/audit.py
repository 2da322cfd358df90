"""An adapter -> `Audit`: membership, repeated answers, and canaries where a throw-away adapter was trained for them.

The figures go into the adapter's history and from there onto its model card. They are of this adapter, these examples
and these two attacks: a low figure is no proof that nothing can be got out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bakeoff.adapter_files import KIND
from bakeoff.artefacts import read_manifest
from bakeoff.records import Example
from training.audit.canaries import Exposure, count_planted, make_canaries, measure_canaries, plant, summarise
from training.audit.membership import Membership, measure_membership
from training.draw import draw
from training.gate.gate import CANDIDATE, compute_as_in_training, load_sides, using
from training.gate.scores import score_rows
from training.recipe import Recipe, load_recipe
from training.rows import Row, make_rows

MAX_EXAMPLES = 150
"""Of each side; two seconds each ten on an idle laptop."""
_ALL_TOKENS = 10**9

TrainAgain = Callable[[Sequence[Example], Recipe], Path]
"""Trains by this recipe on these examples, by the seed of the audited adapter; returns the folder of what it made."""


class Audit(Struct, frozen=True):
    """How much of its training text an adapter gives away."""

    membership: Membership
    exposures: tuple[Exposure, ...] = ()
    """By repetitions; empty without canaries."""

    @property
    def sentences(self) -> list[str]:
        """The figures in plain words."""
        return [self.membership.sentence, *(exposure.sentence for exposure in self.exposures)]

    @property
    def figures(self) -> dict[str, Any]:
        """By name, as the adapter's history keeps them and its model card shows them."""
        by_repetitions = {f"canaries planted {each.repetitions} times": each for each in self.exposures}
        figures: dict[str, Any] = msgspec.to_builtins({"membership": self.membership, **by_repetitions})
        return {"in words": ". ".join(self.sentences), **figures}


def audit_membership(
    base_dir: Path, folder: Path, members: Sequence[Example], others: Sequence[Example], tokenizer: Any
) -> Membership:
    """Compare examples that an adapter has learned from with others, in closed book.

    Args:
        folder: of the adapter.
        members: examples of its lineage.
        others: examples of the same domain that are not in it.

    Raises:
        BadInput: there are too few of one or the other.
    """
    model = load_sides(base_dir, folder, None)
    compute_as_in_training(model)
    inside, outside = (closed_book_rows(side, tokenizer) for side in (members, others))
    scores = []
    for side in (CANDIDATE, None):
        with using(model, side):
            scores.append((score_rows(model, inside), score_rows(model, outside)))
    (members_after, others_after), (members_before, others_before) = scores
    return measure_membership(members_after, members_before, others_after, others_before)


def audit_canaries(
    base_dir: Path,
    examples: Sequence[Example],
    recipe: Recipe,
    tokenizer: Any,
    train_again: TrainAgain,
    *,
    per_repetition: int,
    seed: int,
) -> tuple[Exposure, ...]:
    """Plant canaries among the examples, train again, and see what comes out.

    Args:
        examples: those that the audited adapter has learned from.
        recipe: of the audited adapter; the canaries' own tokens are added to its budget.
        per_repetition: canaries for each number of repetitions.
        seed: draws names and codes.
    """
    canaries = make_canaries(per_repetition, seed)
    own = closed_book_rows([copy for canary in canaries for copy in canary.examples], tokenizer, len(canaries) * 16)
    budget = recipe.token_budget + sum(len(row.ids) for row in own)
    share = recipe.token_budget / budget  # rows with passages get the tokens that they had
    grown = msgspec.structs.replace(
        recipe,
        token_budget=budget,
        passages_share=recipe.passages_share * share,
        few_shot_share=0.0,
    )
    folder = train_again(plant(examples, canaries), grown)
    planted = count_planted(canaries, read_manifest(folder, KIND))
    model = load_sides(base_dir, folder, None)
    compute_as_in_training(model)
    with using(model, CANDIDATE):
        return tuple(summarise(measure_canaries(model, tokenizer, canaries, planted, seed)))


def closed_book_rows(examples: Sequence[Example], tokenizer: Any, limit: int = MAX_EXAMPLES) -> tuple[Row, ...]:
    """The rows that mode `fine-tuned` makes of at most so many examples, in an order that no sorting decides."""
    chosen = sorted(examples, key=lambda example: draw(0, "audit", example.id))[:limit]
    if not chosen:
        return ()
    recipe = msgspec.structs.replace(load_recipe(), passages_share=0.0)
    return make_rows(chosen, tokenizer, lambda _: [], recipe, budget=_ALL_TOKENS, epochs=1, seed=0).rows
