"""Every method, for real, on a planted preference: the model moves towards it on questions it never learned from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from bakeoff.adapter_files import read_pairs
from bakeoff.artefacts import read_manifest
from training.preferences.judgements import Preferences, Ranking, Thumb
from training.preferences.recipe import PreferenceRecipe
from training.preferences.train import PreferenceResult

MakeRecipe = Callable[..., PreferenceRecipe]
Train = Callable[..., PreferenceResult]


def check_moved(result: PreferenceResult) -> dict[str, Any]:
    """Nearly every held-out greeting gained more than its plain twin; chance is a half."""
    raised = result.measures["after"]["raised"]
    assert raised["mean"] >= 0.85
    assert raised["low"] > 0.6
    assert raised["num_questions"] == 8
    assert result.measures["after"]["margin"] > 1.0
    return read_manifest(result.path, result.kind)


def test_dpo_raises_what_people_chose(
    votes: tuple[Ranking, ...], train_on: Train, quick_recipe: MakeRecipe, model_dir: Path
) -> None:
    result = train_on(Preferences(votes, ()), quick_recipe("dpo"), "dpo")
    manifest = check_moved(result)
    assert (manifest["method"], manifest["started_from"], manifest["rows"]["learned"]) == ("dpo", "base", 32)
    learned = {example.removeprefix("example-") for example in manifest["lineage"]["examples"]}
    assert len(learned) == 16
    assert set(manifest["lineage"]["documents"]) == {f"doc-{name.split('-')[0]}" for name in learned}
    steps, losses = zip(*[(step, figures["loss"]) for step, figures in manifest["curve"]], strict=True)
    assert steps == (1, 2, 3, 4)
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < 0.6
    base = AutoModelForCausalLM.from_pretrained(model_dir, local_files_only=True)
    shapes = {name: tuple(weight.shape) for name, weight in base.named_parameters()}
    assert len(read_pairs(result.path, shapes)) == 20
    assert PeftModel.from_pretrained(base, str(result.path)).peft_config["default"].r == 8


def test_orpo_raises_what_people_chose(votes: tuple[Ranking, ...], train_on: Train, quick_recipe: MakeRecipe) -> None:
    recipe = quick_recipe("orpo", learning_rate=3e-3, beta=0.5)
    check_moved(train_on(Preferences(votes, ()), recipe, "orpo"))


def test_kto_learns_from_thumbs_on_top_of_an_adapter(
    votes: tuple[Ranking, ...], train_on: Train, quick_recipe: MakeRecipe
) -> None:
    """What it hands on stands on the base model: the ranks of both, and the lineage of both."""
    first = train_on(
        Preferences(votes[:8], ()), quick_recipe("orpo", num_epochs=1, lora_layers=2, held_out_share=0.0), "orpo"
    )
    thumbs = tuple(
        Thumb(f"{vote.id}-{is_up}", vote.context, level[0], is_up, document_ids=(f"said-{vote.id}",))
        for vote in votes
        for level, is_up in zip(vote.levels, (True, False), strict=True)
    )
    result = train_on(
        Preferences((), thumbs), quick_recipe("kto", num_epochs=1, batch_size=8), "kto", start_dir=first.path
    )
    manifest = check_moved(result)
    assert manifest["started_from"] == first.digest
    assert manifest["dtype"] == "float32"
    parent = read_manifest(first.path, first.kind)["lineage"]
    assert set(parent["documents"]) < set(manifest["lineage"]["documents"])
    assert parent["examples"] == manifest["lineage"]["examples"]
    assert json.loads((result.path / "adapter_config.json").read_text(encoding="utf-8"))["r"] == 16


def test_a_reward_model_scores_what_people_chose_higher_and_pays_rloo(
    votes: tuple[Ranking, ...], train_on: Train, quick_recipe: MakeRecipe
) -> None:
    judged = train_on(Preferences(votes, ()), quick_recipe("reward"), "reward")
    accuracy = judged.measures["after"]["accuracy"]
    assert accuracy["mean"] >= 0.85
    assert accuracy["low"] > 0.6
    manifest = read_manifest(judged.path, "reward-model")
    assert manifest["scale"]["deviation"] > 0.1
    recipe = quick_recipe("rloo", num_steps=1, batch_size=4, group_size=2, max_completion_tokens=4, learning_rate=1e-2)
    paid = train_on(Preferences(votes, ()), recipe, "rloo", reward=judged.digest)
    facts = read_manifest(paid.path, paid.kind)
    assert facts["reward"] == judged.digest
    assert facts["rows"]["held_out_questions_known_to_reward"] == 0
    assert facts["lineage"] == manifest["lineage"]


ONLINE: dict[str, object] = {
    "learning_rate": 5e-3,
    "num_steps": 5,
    "num_updates": 2,
    "beta": 0.02,
    "lora_targets": "all-linear",
    "lora_layers": 5,
}


@pytest.mark.parametrize("method", ["rloo", "grpo", "ppo"])
def test_online_methods_learn_to_be_brief(
    method: str, votes: tuple[Ranking, ...], train_on: Train, quick_recipe: MakeRecipe
) -> None:
    """The rule pays 1 less the share of the room that a completion takes, and 1 less where it was cut off."""
    result = train_on(Preferences(votes, ()), quick_recipe(method, **ONLINE), method, reward="short")
    before, after = result.measures["before"], result.measures["after"]
    assert after["reward"]["mean"] > before["reward"]["mean"] + 0.2
    assert after["tokens"]["mean"] < before["tokens"]["mean"] - 1
    assert before["reward"]["num_questions"] == 8
    curve = read_manifest(result.path, result.kind)["curve"]
    assert len(curve) >= 5
