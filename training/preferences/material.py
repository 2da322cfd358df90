"""Judgements and a method -> what that method learns from and is measured on, in token ids.

DPO, ORPO and the reward model want pairs, KTO thumbs, and the online methods only the prompts. Judgements that do not
fit, or are too few, are refused here, before any model is loaded.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from bakeoff.errors import BadInput
from training.preferences.encoding import PairRow, ThumbRow, encode_context, encode_pairs, encode_thumbs
from training.preferences.judgements import Preferences
from training.preferences.pairs import Sides, contexts_of, draw_epochs, draw_thumbs, make_pairs, thumbs_of
from training.preferences.recipe import ONLINE, Method, PreferenceRecipe

MIN_JUDGEMENTS = 8
"""Fewer pairs, thumbs or prompts to learn from say nothing that would hold for the next question."""


class Material(Struct, frozen=True):
    """What a method learns from and is measured on."""

    rows: tuple[PairRow | ThumbRow, ...] = ()
    """In the order in which they are learned, all epochs; of one kind."""
    prompts: tuple[tuple[int, ...], ...] = ()
    """For online methods, in place of rows."""
    held_out: tuple[PairRow, ...] = ()
    held_out_prompts: tuple[tuple[int, ...], ...] = ()
    num_too_long: int = 0
    """Rows or prompts left out because they are longer than `max_row_tokens`."""


def gather_material(sides: Sides, method: Method, tokenizer: Any, recipe: PreferenceRecipe, seed: int) -> Material:
    """Encode what a method needs of both sides.

    Raises:
        BadInput: the judgements do not fit the method, or are too few.
    """
    if method in ONLINE:
        return _prompts(sides, method, tokenizer, recipe)
    if method == "kto":
        return _thumbs(sides, tokenizer, recipe, seed)
    learned = sides.learned.rankings
    if not learned:
        raise BadInput(
            f"{method} needs votes or rankings, and there are only thumbs; learn from these with: --method kto"
        )
    _enough(sum(len(make_pairs(ranking)) for ranking in learned), "pairs", method)
    rows, num_too_long = encode_pairs(tokenizer, draw_epochs(learned, recipe.num_epochs, seed), recipe.max_row_tokens)
    _some(rows, recipe)
    return Material(tuple(rows), held_out=_held_out_pairs(sides, tokenizer, recipe), num_too_long=num_too_long)


def _prompts(sides: Sides, method: Method, tokenizer: Any, recipe: PreferenceRecipe) -> Material:
    def fitting(preferences: Preferences) -> list[tuple[int, ...]]:
        prompts = [encode_context(tokenizer, context) for context in contexts_of(preferences)]
        return [prompt for prompt in prompts if len(prompt) + recipe.max_completion_tokens <= recipe.max_row_tokens]

    prompts = fitting(sides.learned)
    num_all = len(contexts_of(sides.learned))
    _enough(num_all, "prompts", method)
    _some(prompts, recipe)
    held_out = fitting(sides.held_out)[: recipe.max_held_out]
    return Material(
        (), tuple(prompts), _held_out_pairs(sides, tokenizer, recipe), tuple(held_out), num_all - len(prompts)
    )


def _thumbs(sides: Sides, tokenizer: Any, recipe: PreferenceRecipe, seed: int) -> Material:
    thumbs = [*sides.learned.thumbs, *thumbs_of(sides.learned.rankings)]
    if len({thumb.is_up for thumb in thumbs}) == 1:
        raise BadInput(
            "kto needs thumbs up and thumbs down, and these all point one way; collect some of the other kind and run "
            "the same command again"
        )
    _enough(len(thumbs), "thumbs", "kto")
    rows, num_too_long = encode_thumbs(tokenizer, draw_thumbs(thumbs, recipe.num_epochs, seed), recipe.max_row_tokens)
    _some(rows, recipe)
    found, _ = encode_thumbs(tokenizer, sides.held_out.thumbs, recipe.max_row_tokens)
    held_out = (*_held_out_pairs(sides, tokenizer, recipe), *cross_pairs(found, recipe.max_held_out))
    return Material(tuple(rows), held_out=held_out, num_too_long=num_too_long)


def cross_pairs(rows: Sequence[ThumbRow], most: int) -> list[PairRow]:
    """Pair thumbs up with thumbs down, of the same question where there are such, else of another one.

    Of different questions, what training raised can be compared, but not what is likelier.
    """
    ups = [row for row in rows if row.is_up][:most]
    downs = [row for row in rows if not row.is_up]
    found: list[PairRow] = []
    for number, up in enumerate(ups):
        same = [down for down in downs if down.question == up.question]
        others = [downs[number % len(downs)]] if downs else []
        found += [PairRow(up.answer, down.answer, 1.0, up.question) for down in same or others]
    return found


def _held_out_pairs(sides: Sides, tokenizer: Any, recipe: PreferenceRecipe) -> tuple[PairRow, ...]:
    pairs = [pair for ranking in sides.held_out.rankings for pair in make_pairs(ranking)]
    return tuple(encode_pairs(tokenizer, pairs, recipe.max_row_tokens)[0])


def _enough(found: int, what: str, method: Method) -> None:
    if found < MIN_JUDGEMENTS:
        raise BadInput(
            f"{method} has only {found} {what} to learn from after some were held out, and needs at least "
            f"{MIN_JUDGEMENTS}; collect more and run the same command again"
        )


def _some(rows: Sequence[object], recipe: PreferenceRecipe) -> None:
    if not rows:
        raise BadInput(
            f"no judgement fits into max_row_tokens = {recipe.max_row_tokens}; raise it in the recipe", "max_row_tokens"
        )
