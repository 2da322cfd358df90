"""Canaries: drawn by seed, planted as often as said, and given away the sooner the oftener they were planted."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bakeoff.artefacts import adapters_dir
from bakeoff.models import hash_model
from bakeoff.records import Example
from training.audit.audit import audit_canaries
from training.audit.canaries import (
    NUM_CODES,
    REPETITIONS,
    CanaryScore,
    count_planted,
    make_canaries,
    plant,
    summarise,
)
from training.recipe import Recipe
from training.train import train


def test_canaries_are_drawn_by_seed_and_planted_as_often_as_said() -> None:
    canaries = make_canaries(3, seed=0)
    assert canaries == make_canaries(3, seed=0) != make_canaries(3, seed=1)
    assert sorted(canary.repetitions for canary in canaries) == sorted(REPETITIONS * 3)
    assert len({canary.name for canary in canaries}) == len({canary.code for canary in canaries}) == 12
    planted = plant([], canaries)
    assert len(planted) == 3 * sum(REPETITIONS) == len({example.id for example in planted})


def test_only_copies_that_became_rows_count() -> None:
    (canary,) = [canary for canary in make_canaries(1, seed=0) if canary.repetitions == 4]
    learned = [copy.id for copy in canary.examples[:3]]
    assert count_planted([canary], {"lineage": {"examples": ["other", *learned]}}) == [3]


def test_exposure_is_averaged_over_canaries_planted_equally_often() -> None:
    (found,) = summarise([CanaryScore(4, 3, 1, 8.0, True), CanaryScore(4, 4, 16, 4.0, False)])
    assert (found.exposure, found.highest, found.repeated, found.seen) == (6.0, math.log2(NUM_CODES), 0.5, 3.5)


def test_what_was_planted_often_comes_out_and_what_was_not_does_not(
    owners: Any, model_dir: Path, tokenizer: Any, tmp_path: Path
) -> None:
    def train_again(examples: Sequence[Example], recipe: Recipe) -> Path:
        return train(
            base_dir=model_dir,
            base_digest=hash_model(model_dir),
            domain="animals",
            train_examples=examples,
            validation_examples=(),
            find_passages=lambda questions: [[] for _ in questions],
            recipe=recipe,
            seed=0,
            adapters_dir=adapters_dir(tmp_path),
            work_dir=tmp_path / "training",
            progress=lambda *_: None,
        ).path

    recipe = msgspec.structs.replace(owners.recipe, token_budget=1200)
    found = audit_canaries(model_dir, owners.members, recipe, tokenizer, train_again, per_repetition=1, seed=0)
    by_repetitions = {exposure.repetitions: exposure for exposure in found}
    assert set(by_repetitions) == set(REPETITIONS)
    assert by_repetitions[16].seen > 12
    assert by_repetitions[0].seen == 0
    assert by_repetitions[16].exposure == pytest.approx(8, abs=1)
    assert by_repetitions[0].exposure < 5
    assert not by_repetitions[0].repeated
    assert "Planted 16 times" in by_repetitions[16].sentence
