"""What a sweep may try: a TOML file of knobs with ranges or choices -> recipes, drawn by optuna's sampler."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bakeoff.errors import BadInput
from training.recipe import Recipe, parse_recipe, read_toml

DEFAULT_SPACE = Path(__file__).parent / "recipes" / "sweep.toml"


class Choices(Struct, frozen=True, forbid_unknown_fields=True):
    """One of these."""

    choices: Annotated[tuple[Any, ...], Meta(min_length=1)]


class Range(Struct, frozen=True, forbid_unknown_fields=True):
    """Any number from `low` to `high`, both included; whole if both are."""

    low: int | float
    high: int | float
    log: bool = False
    """Drawn evenly over powers."""


Space = dict[str, Choices | Range]
"""Knob of a recipe -> where its values come from."""


def load_space(path: Path | None = None) -> Space:
    """Read a space; the default where no file is named.

    Raises:
        BadInput: no such file or knob, or a range that holds nothing; names it.
    """
    where = str(path or DEFAULT_SPACE)
    space: Space = {}
    for knob, values in read_toml(path or DEFAULT_SPACE).items():
        if knob not in Recipe.__struct_fields__:
            raise BadInput(f"{where}: there is no knob {knob!r}. Knobs: {', '.join(Recipe.__struct_fields__)}")
        kind: type[Choices] | type[Range] = Choices if isinstance(values, dict) and "choices" in values else Range
        try:
            found: Choices | Range = msgspec.convert(values, kind)
        except msgspec.ValidationError as error:
            raise BadInput(f"{where}: {knob} = {values!r} cannot be used: {error}", knob) from error
        if isinstance(found, Range) and (found.low > found.high or (found.log and found.low <= 0)):
            raise BadInput(f"{where}: {knob} goes from {found.low} to {found.high}, which holds no value", knob)
        space[knob] = found
    if not space:
        raise BadInput(f"{where}: names no knob to try")
    return space


def draw_recipe(trial: Any, space: Space, recipe: Recipe) -> Recipe:
    """The recipe of one of optuna's trials: the given one with the drawn knobs.

    Raises:
        BadInput: a value that the recipe refuses.
    """
    drawn: dict[str, Any] = {}
    for knob, values in space.items():
        if isinstance(values, Choices):
            drawn[knob] = trial.suggest_categorical(knob, values.choices)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            drawn[knob] = trial.suggest_int(knob, values.low, values.high, log=values.log)
        else:
            drawn[knob] = trial.suggest_float(knob, values.low, values.high, log=values.log)
    return apply_knobs(recipe, drawn)


def apply_knobs(recipe: Recipe, knobs: Mapping[str, Any]) -> Recipe:
    """Lay knobs over a recipe; `lora_alpha` follows `lora_r` at twice its value unless it is among them."""
    if "lora_r" in knobs and "lora_alpha" not in knobs:
        knobs = {**knobs, "lora_alpha": 2 * knobs["lora_r"]}
    return parse_recipe({**msgspec.to_builtins(recipe), **knobs}, "sweep")


def knobs_of(recipe: Recipe, space: Space) -> dict[str, Any]:
    """The recipe's own values of the knobs that are tried, each moved into its range or to the nearest choice."""
    return {knob: _nearest(getattr(recipe, knob), values) for knob, values in space.items()}


def write_recipe(path: Path, knobs: Mapping[str, Any], comment: str) -> None:
    """Write knobs as a TOML file for `bakeoff train --recipe`."""
    lines = [f"# {comment}", *(f"{knob} = {_toml(value)}" for knob, value in knobs.items())]
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    path.write_text(text, encoding="utf-8")


def _nearest(value: Any, values: Choices | Range) -> Any:
    if isinstance(values, Range):
        return min(max(value, values.low), values.high)
    if value in values.choices or not isinstance(value, int | float):
        return value if value in values.choices else values.choices[0]
    return min(values.choices, key=lambda choice: abs(choice - value))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else msgspec.json.encode(value).decode()
