"""A TOML file -> a checked PreferenceRecipe: every knob of learning from people, for one method.

`training/recipes/preferences.toml` holds the defaults: knobs for all methods first, then a table for each method with
what that method wants otherwise. A team's own file has the same form, names only what it changes, and is laid over it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct

from bakeoff.errors import BadInput
from training.recipe import Count, Share, convert_knobs, read_toml

DEFAULT_RECIPE = Path(__file__).parent.parent / "recipes" / "preferences.toml"

Method = Literal["reward", "dpo", "orpo", "kto", "rloo", "grpo", "ppo"]
METHODS: tuple[Method, ...] = get_args(Method)
ONLINE: tuple[Method, ...] = ("rloo", "grpo", "ppo")
"""Methods that learn from completions of their own, scored by a reward."""


class PreferenceRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """Every knob; `training/recipes/preferences.toml` says what each trades."""

    num_epochs: Annotated[int, Meta(ge=1, le=1000)]
    """Times that every vote is learned from; online methods count in `num_steps` instead."""
    num_steps: Count
    """Steps of an online method; one step is one batch of completions."""
    batch_size: Annotated[int, Meta(ge=2)]
    """Pairs, thumbs, or completions of one step."""
    tokens_at_once: Annotated[int, Meta(ge=1)]
    """Most tokens computed at a time; a step whose batch is larger adds up its gradients."""
    learning_rate: Annotated[float, Meta(gt=0, lt=1)]
    warmup_share: Share
    schedule: Literal["cosine", "linear", "constant"]
    weight_decay: Annotated[float, Meta(ge=0, lt=1)]
    max_grad_norm: Annotated[float, Meta(gt=0)]
    beta: Annotated[float, Meta(ge=0)]
    """How strongly the adapter is held to where it started; in `orpo`, the weight of the odds ratio."""
    max_row_tokens: Annotated[int, Meta(ge=16)]
    """A longer row is left out."""
    lora_r: Annotated[int, Meta(ge=1, le=512)]
    lora_alpha: Count
    lora_targets: str | tuple[str, ...]
    """`all-linear`, or the names of the projections that get an adapter."""
    lora_layers: Annotated[int, Meta(ge=0)]
    """Only the last so many layers get an adapter; 0 for all."""
    dtype: Literal["auto", "float32", "bfloat16"]
    held_out_share: Annotated[float, Meta(ge=0, le=0.5)]
    """Part of the questions that only measures."""
    max_held_out: Count
    """Questions that completions are written for, before and after."""
    max_completion_tokens: Annotated[int, Meta(ge=2, le=4096)]
    temperature: Annotated[float, Meta(gt=0, le=2)]
    group_size: Annotated[int, Meta(ge=1, le=64)]
    """Completions of one question in a batch; divides `batch_size`."""
    num_updates: Annotated[int, Meta(ge=1, le=16)]
    """Passes over each batch of completions."""
    clip: Annotated[float, Meta(gt=0, lt=1)]
    """How far a token's probability may move before its gradient is cut off."""
    missing_end_penalty: Annotated[float, Meta(ge=0)]
    """Taken from the reward of a completion that does not end by itself."""
    gae_lambda: Share
    """`ppo` only: how far back a reward is credited."""
    value_learning_rate: Annotated[float, Meta(gt=0, lt=1)]
    """`ppo` only: of the value head."""


def load_preference_recipe(
    method: Method, path: Path | None = None, overrides: Mapping[str, object] | None = None
) -> PreferenceRecipe:
    """Read the recipe of a method: the default, with the file laid over it, and then the caller's knobs.

    Raises:
        BadInput: the file is missing or is not TOML, or a key or a value cannot be used; names key and value.
    """
    knobs = _knobs_of(DEFAULT_RECIPE, method)
    if path is not None:
        knobs |= _knobs_of(path, method)
    return _parse({**knobs, **(overrides or {})}, str(path or "recipe"), method)


def rows_at_once(recipe: PreferenceRecipe, row_tokens: int, least: int = 1) -> int:
    """How many rows of a batch to compute at a time: a divisor of `batch_size` that keeps to `tokens_at_once`.

    Args:
        row_tokens: of the longest row.
        least: fewer are not possible, however long they are.
    """
    divisors = [rows for rows in range(least, recipe.batch_size + 1) if recipe.batch_size % rows == 0]
    return max((rows for rows in divisors if rows * row_tokens <= recipe.tokens_at_once), default=min(divisors))


def _parse(knobs: Mapping[str, Any], where: str, method: Method) -> PreferenceRecipe:
    recipe = convert_knobs(knobs, PreferenceRecipe, where)
    if method in ONLINE and recipe.batch_size % recipe.group_size:
        raise BadInput(
            f"{where}: batch_size = {recipe.batch_size} is not a multiple of group_size = {recipe.group_size}",
            "batch_size",
        )
    if method in ("rloo", "grpo") and recipe.group_size < 2:
        raise BadInput(
            f"{where}: group_size = 1 cannot be used with {method}, which compares completions of one question",
            "group_size",
        )
    return recipe


def _knobs_of(path: Path, method: Method) -> dict[str, Any]:
    """The knobs of a file for one method: those for all, and over them those of the method's table."""
    read = read_toml(path)
    tables = {key: value for key, value in read.items() if isinstance(value, dict)}
    common = {key: value for key, value in read.items() if key not in tables}
    for name in sorted(tables.keys() - set(METHODS)):
        raise BadInput(f"{path}: there is no method {name!r} for a table. Methods: {', '.join(METHODS)}")
    for key in sorted({key for part in (common, *tables.values()) for key in part}):
        if key not in PreferenceRecipe.__struct_fields__:
            known = ", ".join(PreferenceRecipe.__struct_fields__)
            raise BadInput(f"{path}: there is no knob {key!r}. Knobs: {known}", key)
    return {**common, **tables.get(method, {})}
