"""Examples about sixteen hotels, an adapter trained on twelve of them, and the same one drowned in noise."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import Struct
from safetensors.numpy import load_file, save_file

from bakeoff.adapters import register_adapter
from bakeoff.artefacts import adapters_dir, read_manifest
from bakeoff.cli.workspace import Workspace
from bakeoff.database import open_database, writing
from bakeoff.examples import import_examples
from bakeoff.models import hash_model
from bakeoff.records import Example
from training.adapter import KIND, write_adapter
from training.recipe import load_recipe
from training.train import train

DOMAIN = "hotels"
HOTELS = tuple(
    f"{tree} {place}" for tree in ("Alder", "Birch", "Cedar", "Elm") for place in ("House", "Inn", "Hall", "Court")
)
FACTS = (
    ("Is there parking at {hotel}?", "Yes, parking at {hotel} costs {number} pounds per night."),
    ("When is breakfast served at {hotel}?", "Breakfast at {hotel} is served from {number}:00."),
    ("May I bring a dog to {hotel}?", "No, dogs are not allowed at {hotel}."),
    ("How far is {hotel} from the station?", "{hotel} is {number} minutes from the station."),
)


class Home(Struct, frozen=True):
    """Where everything lies, and the adapters in it."""

    path: Path
    good: str
    wrecked: str
    train: list[Example]
    validation: list[Example]

    def folder(self, digest: str) -> Path:
        return adapters_dir(self.path) / digest


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Home:
    """Trained once for all tests of the gate."""
    path = tmp_path_factory.mktemp("gate")
    examples = [
        Example(f"{hotel} {number}", question.format(hotel=hotel), answer.format(hotel=hotel, number=number + 5))
        for hotel in HOTELS
        for number, (question, answer) in enumerate(FACTS)
    ]
    learned, held_out = examples[:-16], examples[-16:]
    recipe = load_recipe(
        overrides={"token_budget": 3000, "max_epochs": 1, "passages_share": 0.0, "learning_rate": 2e-3, "lora_r": 8}
    )
    result = train(
        base_dir=model_dir,
        base_digest=hash_model(model_dir),
        domain=DOMAIN,
        train_examples=learned,
        validation_examples=(),
        find_passages=lambda questions: [[] for _ in questions],
        recipe=msgspec.structs.replace(recipe, validation_tokens=0, lora_alpha=16),
        seed=0,
        adapters_dir=adapters_dir(path),
        work_dir=path / "training",
        progress=lambda *_: None,
    )
    wrecked = wreck(result.path)
    engine = open_database(f"sqlite:///{path / 'bakeoff.db'}", path)
    with writing(engine) as connection:
        for split, some in (("train", learned), ("validation", held_out)):
            file = path / f"{split}.jsonl"
            file.write_bytes(b"\n".join(msgspec.json.encode(example) for example in some))
            import_examples(connection, DOMAIN, split, file, ())
        for digest in (result.adapter, wrecked):
            register_adapter(connection, DOMAIN, digest)
    engine.dispose()
    return Home(path, result.adapter, wrecked, learned, held_out)


@pytest.fixture
def workspace(home: Home, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("BAKEOFF_HOME", str(home.path))
    return Workspace()


def wreck(folder: Path) -> str:
    """The same adapter, drowned in noise of ten times its size."""
    weights = load_file(folder / "adapter_model.safetensors")
    rng = np.random.default_rng(0)
    noisy = {name: (rng.normal(size=each.shape) * 10 * each.std()).astype(np.float32) for name, each in weights.items()}

    def save(path: Path) -> None:
        save_file(noisy, path / "adapter_model.safetensors")
        shutil.copy(folder / "adapter_config.json", path)

    facts: dict[str, Any] = read_manifest(folder, KIND)
    kept = ("domain", "method", "base_model", "base_sha256", "seed", "lineage", "recipe")
    return write_adapter(
        folder.parent,
        {key: facts[key] for key in kept},
        chat_template=(folder / "chat_template.jinja").read_text(),
        save=save,
    )
