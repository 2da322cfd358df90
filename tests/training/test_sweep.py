"""Sweeps: what may be tried, and a whole small one on the real model that is stopped and goes on."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bakeoff.errors import BadInput
from bakeoff.records import Example
from training.recipe import Recipe, load_recipe
from training.rows import FindPassages
from training.space import apply_knobs, knobs_of, load_space, write_recipe
from training.sweep import SweepResult, run_sweep
from training.sweep_report import describe_gain

SPACE = """
learning_rate = { choices = [1e-5, 3e-3] }
lora_r = { choices = [2] }
"""


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


def test_sweep_finds_the_learning_rate_that_learns_and_goes_on_after_a_stop(
    model_dir: Path,
    examples: list[Example],
    find_passages: FindPassages,
    recipe: Recipe,
    space_file: Path,
    tmp_path: Path,
) -> None:
    start = msgspec.structs.replace(
        recipe, learning_rate=1e-5, token_budget=700, passages_share=0.0, lora_targets=("q_proj", "v_proj")
    )
    told: list[tuple[int, str]] = []

    def sweep(stop_after: int | None = None) -> SweepResult:
        def progress(done: int, _total: int, note: str) -> None:
            told.append((done, note))
            if stop_after is not None and done >= stop_after:
                raise KeyboardInterrupt

        return run_sweep(
            base_dir=model_dir,
            domain="hotels",
            train_examples=examples[8:],
            validation_examples=examples[:8],
            find_passages=find_passages,
            recipe=start,
            space=load_space(space_file),
            num_trials=3,
            num_seeds=2,
            seed=0,
            sweeps_dir=tmp_path,
            progress=progress,
        )

    with pytest.raises(KeyboardInterrupt):
        sweep(stop_after=1)
    before = len(told)
    result = sweep()
    assert min(done for done, _ in told[before:]) >= 1  # the first trial was not trained again
    assert next(trial.number for trial in result.trials if trial.knobs["learning_rate"] == 1e-5) == 0
    assert result.winner == {"learning_rate": 3e-3, "lora_r": 2}
    assert result.apparent_gain > 0.1
    assert len(result.start_losses) == len(result.winner_losses) == 2
    differences = [a - b for a, b in zip(result.start_losses, result.winner_losses, strict=True)]
    assert result.gain == pytest.approx(sum(differences) / 2)
    assert result.selection_noise == pytest.approx(result.apparent_gain - result.gain)
    assert result.low is not None and result.high is not None and result.low < result.gain < result.high
    best = load_recipe(result.recipe)
    assert (best.learning_rate, best.lora_r, best.lora_alpha) == (3e-3, 2, 4)
    assert (result.folder / "sweep.json").exists()
    assert not list(result.folder.glob("*.pt"))


def test_gain_that_fresh_seeds_do_not_confirm_is_called_noise() -> None:
    words = describe_gain(7, 12, 0.05, [0.01, -0.02, 0.01])
    assert "Trial 7 of 12 was 0.050 nats better" in words
    assert "so +0.050 was selection noise" in words
    assert "Not shown to be better" in words
    assert describe_gain(7, 12, 0.05, [0.05, 0.049, 0.051]).endswith("It is better.")
    assert "keep that one" in describe_gain(None, 12, 0.0, [0.0, 0.0, 0.0])


def test_start_lies_inside_the_space(space_file: Path) -> None:
    space = load_space(space_file)
    assert knobs_of(load_recipe(), space) == {"learning_rate": 1e-5, "lora_r": 2}
    assert knobs_of(load_recipe(), load_space())["lora_r"] == 16


def test_alpha_follows_the_rank() -> None:
    assert apply_knobs(load_recipe(), {"lora_r": 8}).lora_alpha == 16
    assert apply_knobs(load_recipe(), {"lora_r": 8, "lora_alpha": 8}).lora_alpha == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = { choices = [1] }", "there is no knob 'learning_rat'"),
        ("lora_r = { from = 1 }", "lora_r = .* cannot be used"),
        ("lora_r = { low = 8, high = 4 }", "lora_r goes from 8 to 4, which holds no value"),
        ("learning_rate = { low = 0, high = 1, log = true }", "holds no value"),
        ("", "names no knob to try"),
    ],
)
def test_space_that_cannot_be_tried_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        load_space(path)


def test_written_recipe_is_read_back(tmp_path: Path) -> None:
    knobs: dict[str, Any] = {"learning_rate": 2.5e-4, "lora_targets": ["q_proj"], "gradient_checkpointing": True}
    write_recipe(tmp_path / "recipe.toml", knobs, "found by a sweep")
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert (recipe.learning_rate, recipe.lora_targets, recipe.gradient_checkpointing) == (2.5e-4, ("q_proj",), True)
