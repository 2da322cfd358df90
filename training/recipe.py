"""A TOML file -> a checked Recipe: every knob of a training, none with a hidden default.

`recipes/default.toml` holds the defaults and says beside each knob what it trades. A team's own recipe names only what
it changes and is laid over the default. An unknown key or a value out of range stops before anything is loaded.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from bakeoff.errors import BadInput
from bakeoff.tasks import find_task

DEFAULT_RECIPE = Path(__file__).parent / "recipes" / "default.toml"

T = TypeVar("T")
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """Every knob of a training; `recipes/default.toml` says what each trades."""

    token_budget: Count
    """Tokens of all training rows together, prompts included."""
    max_epochs: Annotated[int, Meta(ge=1, le=100)]
    """Rows of one kind that one example may become, so that a small domain is not learned by heart."""
    task_weights: dict[str, Annotated[float, Meta(ge=0)]]
    """Task -> its part of `token_budget`, relative to the others; empty: every example in one pool."""
    passages_share: Share
    """Part of `token_budget` for rows with passages."""
    passages_per_row: Annotated[int, Meta(ge=1, le=20)]
    no_gold_share: Annotated[float, Meta(ge=0, le=0.5)]
    """Part of the rows with passages that hold no document of the example and teach the abstention."""
    few_shot_share: Share
    """Part of `token_budget` for rows that have worked examples before the question."""
    shots_per_row: Annotated[int, Meta(ge=1, le=20)]
    max_row_tokens: Annotated[int, Meta(ge=16)]
    """A longer row is left out."""
    lora_variant: Literal["lora", "rslora", "dora", "pissa"]
    lora_r: Annotated[int, Meta(ge=1, le=512)]
    lora_alpha: Count
    lora_dropout: Annotated[float, Meta(ge=0, lt=1)]
    lora_targets: str | tuple[str, ...]
    """`all-linear`, or the names of the projections that get an adapter."""
    quantisation: Literal["none", "8bit", "4bit"]
    """Of the frozen base model while training (QLoRA); the adapter is float32 all the same."""
    learning_rate: Annotated[float, Meta(gt=0, lt=1)]
    """The highest, reached after the warm-up."""
    warmup_share: Share
    """Part of the steps in which the learning rate rises from 0."""
    schedule: Literal["cosine", "linear", "constant"]
    """How the learning rate falls to 0 after the warm-up, if it does."""
    weight_decay: Annotated[float, Meta(ge=0, lt=1)]
    max_grad_norm: Annotated[float, Meta(gt=0)]
    batching: Literal["grouped", "packed"]
    """Rows of like length side by side, or rows of any length one after another."""
    batch_tokens: Annotated[int, Meta(ge=16)]
    """Tokens of one batch, padding included; a longer row is a batch by itself."""
    batch_rows: Annotated[int, Meta(ge=0)]
    """Rows of one optimiser step, computed in batches of `batch_tokens`; 0: `accumulation` batches are a step."""
    accumulation: Count
    """Batches of one optimiser step."""
    gradient_checkpointing: bool
    """Whether activations are computed again in the backward pass instead of kept."""
    validation_tokens: Annotated[int, Meta(ge=0)]
    """Tokens of the validation rows together."""
    validations: Count
    """Times that the validation loss is taken, the last one after the last step."""
    patience: Annotated[int, Meta(ge=0)]
    """Validations without a lower loss after which training stops, with the best weights; 0: never."""


def load_recipe(path: Path | None = None, overrides: Mapping[str, object] | None = None) -> Recipe:
    """Read a recipe: the default, with the file's keys laid over it, and then the caller's.

    Args:
        path: a TOML file that names any of the keys; None for the default recipe.
        overrides: values that flags of the command line set.

    Raises:
        BadInput: the file is missing or is not TOML, or a key or a value cannot be used; names key and value.
    """
    knobs = read_toml(DEFAULT_RECIPE)
    if path is not None:
        knobs |= read_toml(path)
    return parse_recipe({**knobs, **(overrides or {})}, str(path or "recipe"))


def parse_recipe(knobs: Mapping[str, object], where: str = "recipe") -> Recipe:
    """Check a whole set of knobs.

    Args:
        where: what the error message calls the origin.

    Raises:
        BadInput: names the key and its value, or the keys there are.
    """
    unknown = sorted(knobs.keys() - set(Recipe.__struct_fields__))
    if unknown:
        raise BadInput(f"{where}: there is no knob {unknown[0]!r}. Knobs: {', '.join(Recipe.__struct_fields__)}")
    recipe = convert_knobs(knobs, Recipe, where)
    for task in recipe.task_weights:
        find_task(task)
    if recipe.task_weights and not any(recipe.task_weights.values()):
        raise BadInput(f"{where}: task_weights gives every task 0, so there is nothing to learn", "task_weights")
    if recipe.passages_share + recipe.few_shot_share > 1:
        total = recipe.passages_share + recipe.few_shot_share
        raise BadInput(
            f"{where}: passages_share and few_shot_share are {total:g} together, more than 1", "few_shot_share"
        )
    if recipe.lora_variant == "pissa" and recipe.quantisation != "none":
        raise BadInput(
            f"{where}: lora_variant = 'pissa' begins from the base model's own weights, which quantisation = "
            f"{recipe.quantisation!r} rounds; use one of the two",
            "quantisation",
        )
    if recipe.patience and recipe.validation_tokens == 0:
        raise BadInput(
            f"{where}: patience = {recipe.patience} wants a validation loss: set validation_tokens", "patience"
        )
    return recipe


def convert_knobs(knobs: Mapping[str, object], kind: type[T], where: str) -> T:
    """Make a Struct of knobs.

    Raises:
        BadInput: a value that the Struct refuses; names key and value.
    """
    try:
        return msgspec.convert(dict(knobs), kind)
    except msgspec.ValidationError as error:
        match = re.search(r"`\$\.(\w+)", str(error))
        if match is None:
            raise BadInput(f"{where}: {error}") from error
        reason = str(error).split(" - at ")[0]
        raise BadInput(f"{where}: {match[1]} = {knobs[match[1]]!r} cannot be used: {reason}", match[1]) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        BadInput: it is missing, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"recipe {path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"recipe {path} is not TOML: {error}") from error
