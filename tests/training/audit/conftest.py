"""An adapter that has learned by heart what twenty animals own, and as many animals that it has never heard of."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import Struct

from bakeoff.artefacts import adapters_dir
from bakeoff.models import hash_model
from bakeoff.records import Example
from training.recipe import Recipe, load_recipe
from training.train import train

ANIMALS = (
    *("heron", "badger", "otter", "falcon", "donkey", "lizard", "beetle", "walrus", "camel", "parrot"),
    *("monkey", "salmon", "spider", "turtle", "rabbit", "tiger", "zebra", "goose", "mouse", "eagle"),
    *("lion", "bear", "wolf", "frog", "crow", "deer", "duck", "goat", "hawk", "seal"),
    *("snake", "shark", "whale", "sheep", "horse", "panda", "koala", "moose", "swan", "crab"),
)
COLOURS = ("red", "green", "black", "golden", "purple", "white", "orange", "silver")
THINGS = ("lantern", "ladder", "violin", "kettle", "basket", "mirror", "hammer", "blanket", "compass", "trumpet")


class Owners(Struct, frozen=True):
    """Who learned what."""

    home: Path
    adapter: str
    members: list[Example]
    others: list[Example]
    recipe: Recipe

    @property
    def folder(self) -> Path:
        return adapters_dir(self.home) / self.adapter


@pytest.fixture(scope="session")
def owners(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Owners:
    """Trained once for all tests of the audit."""
    home = tmp_path_factory.mktemp("audit")
    rng = np.random.default_rng(0)
    examples = [
        Example(animal, f"What does the {animal} own?", f"A {rng.choice(COLOURS)} {rng.choice(THINGS)}.")
        for animal in ANIMALS
    ]
    recipe = load_recipe(
        overrides={
            "token_budget": 6000,
            "max_epochs": 6,
            "passages_share": 0.0,
            "learning_rate": 2e-3,
            "schedule": "constant",
            "batch_tokens": 128,
            "validation_tokens": 0,
        }
    )
    result = train(
        base_dir=model_dir,
        base_digest=hash_model(model_dir),
        domain="animals",
        train_examples=examples[:20],
        validation_examples=(),
        find_passages=lambda questions: [[] for _ in questions],
        recipe=recipe,
        seed=0,
        adapters_dir=adapters_dir(home),
        work_dir=home / "training",
        progress=lambda *_: None,
    )
    return Owners(home, result.adapter, examples[:20], examples[20:], recipe)
