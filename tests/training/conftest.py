"""Twenty-four examples about six hotels, a search over their documents, and a recipe that trains in seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bakeoff.chat_template import load_tokenizer
from bakeoff.records import Example, Passage
from training.recipe import Recipe, load_recipe
from training.rows import FindPassages

HOTELS = ("Alder", "Birch", "Cedar", "Damson", "Elder", "Fir")
FACTS = (
    ("Is there parking at the {hotel} Hotel?", "Yes, parking at the {hotel} Hotel costs {number} pounds per night."),
    ("When is breakfast served at the {hotel} Hotel?", "Breakfast at the {hotel} Hotel is served from {number}:00."),
    ("May I bring a dog to the {hotel} Hotel?", "No, dogs are not allowed at the {hotel} Hotel."),
    ("How far is the {hotel} Hotel from the station?", "The {hotel} Hotel is {number} minutes from the station."),
)


@pytest.fixture(scope="session")
def tokenizer(model_dir: Path) -> Any:
    return load_tokenizer(model_dir)


@pytest.fixture
def examples() -> list[Example]:
    """Four questions about each hotel; the document of a hotel answers them."""
    return [
        Example(
            f"{hotel}-{number}",
            question.format(hotel=hotel),
            answer.format(hotel=hotel, number=number + 5),
            document_ids=(f"doc-{hotel}",),
        )
        for hotel in HOTELS
        for number, (question, answer) in enumerate(FACTS)
    ]


@pytest.fixture
def find_passages(examples: list[Example]) -> FindPassages:
    """The document of the hotel that the question names stands second; all documents are found."""
    passages = {
        hotel: Passage(
            0,
            0.5,
            f"doc-{hotel}",
            f"chunk-{hotel}",
            f"{hotel} Hotel",
            " ".join(example.answer for example in examples if example.document_ids == (f"doc-{hotel}",)),
        )
        for hotel in HOTELS
    }

    def find(questions: list[str]) -> Sequence[Sequence[Passage]]:
        found = []
        for question in questions:
            named = [hotel for hotel in HOTELS if hotel in question]
            others = [hotel for hotel in HOTELS if hotel not in named]
            found.append([passages[hotel] for hotel in (others[0], *named, *others[1:])])
        return found

    return find


@pytest.fixture
def recipe() -> Recipe:
    """Some 24 closed-book rows and 8 with passages, in batches of a few rows."""
    return load_recipe(
        overrides={
            "token_budget": 3200,
            "max_epochs": 1,
            "passages_share": 0.5,
            "passages_per_row": 2,
            "batch_tokens": 512,
            "max_row_tokens": 512,
            "lora_r": 4,
            "lora_alpha": 8,
            "learning_rate": 2e-3,
            "validation_tokens": 600,
            "validations": 2,
        }
    )
