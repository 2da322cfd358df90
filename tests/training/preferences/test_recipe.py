"""Knobs of methods: read in order, refused by name."""

from pathlib import Path

import pytest

from bakeoff.errors import BadInput
from training.preferences.recipe import METHODS, load_preference_recipe, rows_at_once


@pytest.mark.parametrize("method", METHODS)
def test_the_default_recipe_fits_every_method(method: str) -> None:
    assert load_preference_recipe(method).batch_size >= 2  # type: ignore[arg-type]


def test_a_methods_table_lies_over_the_common_knobs_and_a_file_over_the_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("beta = 0.3\nlora_r = 4\n[dpo]\nbeta = 0.7\n", encoding="utf-8")
    dpo, kto = load_preference_recipe("dpo", path), load_preference_recipe("kto", path)
    assert (dpo.beta, dpo.lora_r, kto.beta, kto.batch_size) == (0.7, 4, 0.3, 16)
    assert load_preference_recipe("dpo", path, {"beta": 0.9}).beta == 0.9


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("learning_rat = 1", "no knob 'learning_rat'"),
        ("[ppo]\nkl = 1", "no knob 'kl'"),
        ("[pp]\nbeta = 1", "no method 'pp'"),
        ("beta = -1.0", "beta = -1.0 cannot be used"),
        ("schedule = 'wavy'", "schedule = 'wavy' cannot be used"),
        ("[rloo]\ngroup_size = 3", "batch_size = 16 is not a multiple of group_size = 3"),
        ("[rloo]\ngroup_size = 1", "group_size = 1 cannot be used with rloo"),
        ("beta = ", "is not TOML"),
    ],
)
def test_a_knob_that_cannot_be_used_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        load_preference_recipe("rloo", path)
    assert named in str(caught.value)
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("row_tokens", "least", "rows"), [(100, 1, 8), (250, 1, 4), (300, 1, 2), (600, 1, 1), (5000, 1, 1), (5000, 2, 2)]
)
def test_rows_computed_at_once_divide_the_batch_and_keep_to_the_tokens(row_tokens: int, least: int, rows: int) -> None:
    recipe = load_preference_recipe("dpo", overrides={"batch_size": 8, "tokens_at_once": 1000})
    assert rows_at_once(recipe, row_tokens, least) == rows


def test_a_recipe_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load_preference_recipe("dpo", tmp_path / "none.toml")
