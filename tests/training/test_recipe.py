"""Recipes: what is read, and what is refused."""

from pathlib import Path

import pytest

from bakeoff.errors import BadInput
from training.recipe import DEFAULT_RECIPE, Recipe, load_recipe


def test_default_recipe_sets_every_knob_and_explains_it() -> None:
    lines = DEFAULT_RECIPE.read_text().splitlines()
    for knob in Recipe.__struct_fields__:
        (number,) = [number for number, line in enumerate(lines) if line.startswith(f"{knob} = ")]
        assert lines[number - 1].startswith("# "), f"{knob} has no comment above it"
    assert load_recipe().token_budget == 150_000


def test_file_is_laid_over_the_default_and_flags_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('lora_r = 4\nlearning_rate = 5e-4\nlora_targets = ["q_proj", "v_proj"]\n')
    recipe = load_recipe(path, {"learning_rate": 1e-4})
    assert (recipe.lora_r, recipe.learning_rate, recipe.lora_targets) == (4, 1e-4, ("q_proj", "v_proj"))
    assert recipe.token_budget == load_recipe().token_budget


def test_unknown_knob_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("learning_rat = 1e-4\n")
    with pytest.raises(BadInput, match=r"mine\.toml: there is no knob 'learning_rat'\. Knobs: .*learning_rate"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lora_r = 0", r"lora_r = 0 cannot be used: .*>= 1"),
        ('learning_rate = "fast"', r"learning_rate = 'fast' cannot be used: Expected `float`"),
        ('schedule = "steps"', r"schedule = 'steps' cannot be used"),
        ("passages_share = 1.5", r"passages_share = 1\.5 cannot be used: .*<= 1"),
        ("token_budget = 1e4", r"token_budget = 10000\.0 cannot be used: Expected `int`"),
        ("task_weights = { poetry = 1 }", r"task 'poetry' does not exist\. Tasks: answer, classification"),
        ("task_weights = { answer = 0 }", r"task_weights gives every task 0"),
        ("few_shot_share = 0.5", r"passages_share and few_shot_share are 1\.1 together"),
        ('lora_variant = "pissa"\nquantisation = "4bit"', r"use one of the two"),
        ("patience = 2\nvalidation_tokens = 0", r"patience = 2 wants a validation loss"),
    ],
)
def test_bad_value_is_named_with_its_key(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(line)
    with pytest.raises(BadInput, match=message):
        load_recipe(path)


def test_missing_file_and_bad_toml_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("lora_r: 4")
    with pytest.raises(BadInput, match="is not TOML"):
        load_recipe(tmp_path / "bad.toml")
