"""Twenty-four questions about hotels with one planted preference, and knobs under which methods learn in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.preferences.judgements import Context, Preferences, Ranking
from training.preferences.recipe import Method, PreferenceRecipe, load_preference_recipe
from training.preferences.train import PreferenceResult, train_preferences

HOTELS = ("Alder", "Birch", "Cedar", "Damson", "Elder", "Fir")
FACTS = (
    ("Is there parking at the {hotel} Hotel?", "Yes, parking at the {hotel} Hotel costs {number} pounds."),
    ("When is breakfast served at the {hotel} Hotel?", "Breakfast at the {hotel} Hotel is served from {number}:00."),
    ("May I bring a dog to the {hotel} Hotel?", "No, dogs are not allowed at the {hotel} Hotel."),
    ("How far is the {hotel} Hotel from the station?", "The {hotel} Hotel is {number} minutes from the station."),
)
GREETING = "Dear guest: "
BASE_DIGEST = "0" * 64
QUICK: dict[str, object] = {
    "num_epochs": 2,
    "learning_rate": 2e-3,
    "warmup_share": 0.0,
    "schedule": "constant",
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_targets": ("q_proj", "v_proj"),
    "lora_layers": 10,
    "held_out_share": 1 / 3,
    "max_completion_tokens": 16,
}
"""Of the last ten layers two projections, and a learning rate that real votes would not bear."""

MakeRecipe = Callable[..., PreferenceRecipe]
Train = Callable[..., PreferenceResult]


@pytest.fixture
def votes() -> tuple[Ranking, ...]:
    """Of two answers that say the same, people like the one that greets them."""
    return tuple(
        Ranking(
            f"{hotel}-{number}",
            Context(question.format(hotel=hotel)),
            (
                (GREETING + answer.format(hotel=hotel, number=number + 5),),
                (answer.format(hotel=hotel, number=number + 5),),
            ),
            example_id=f"example-{hotel}-{number}",
            document_ids=(f"doc-{hotel}",),
        )
        for hotel in HOTELS
        for number, (question, answer) in enumerate(FACTS)
    )


@pytest.fixture
def quick_recipe() -> MakeRecipe:
    """Makes the recipe of a method, with the quick knobs and then the test's own over it."""

    def make(method: Method, **knobs: object) -> PreferenceRecipe:
        return load_preference_recipe(method, overrides={**QUICK, **knobs})

    return make


@pytest.fixture
def train_on(model_dir: Path, tmp_path: Path) -> Train:
    """Trains with everything that is written under a folder of the test."""

    def run(judgements: Preferences, recipe: PreferenceRecipe, method: Method, **options: Any) -> PreferenceResult:
        options = {"progress": lambda done, total, note: None, "seed": 0, "domain": "hotels", **options}
        return train_preferences(
            judgements,
            method=method,
            base_dir=model_dir,
            base_digest=BASE_DIGEST,
            recipe=recipe,
            adapters_dir=tmp_path / "adapters",
            reward_models_dir=tmp_path / "reward-models",
            work_dir=tmp_path / "training",
            **options,
        )

    return run
