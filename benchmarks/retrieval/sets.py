"""Data sets -> domains in a database of their own, and their questions as vectors: what every part starts from.

A set is a folder with documents.jsonl, test.jsonl and maybe train.jsonl, as samples/concierge has them. Its documents
are added by the product itself, so chunks and vectors are those that a user gets; the database is kept in the cache
folder, and adding the same documents again passes over them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from bakeoff.database import open_database
from bakeoff.models import find_embedder
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.embedder import Embedder, Vectors, open_embedder
from retrieval.index.rows import stack_vectors
from retrieval.normalise import fold_text
from retrieval.store import add_documents
from retrieval.tables import ALIVE, chunks_table

DOMAIN = "benchmark"
_MANY, _SAMPLE = 2_000, 1_000
"""A set with more test questions than the first number is asked a sample of the second."""


class Question(Struct, frozen=True):
    """A question of a set."""

    id: str
    text: str
    """Folded, as the retriever searches it."""
    gold: frozenset[str]
    """Documents that answer it."""


class Set(Struct, frozen=True):
    """A data set, added to a database."""

    name: str
    home: Path
    """Folder of the database and the snapshots."""
    engine: Engine
    documents: list[Document]
    train: list[Question]
    test: list[Question]


def open_ours() -> Embedder:
    """The product's embedder, by the product's settings."""
    settings = Settings()
    return open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")


def open_sets(data: Path, names: Sequence[str], cache: Path, embedder: Embedder, seed: int) -> list[Set]:
    """Add each set's documents to its own database in the cache folder, unless they are there."""
    found = []
    for name in names or sorted(path.parent.name for path in data.glob("*/documents.jsonl")):
        home = cache / f"{name}-{embedder.name.replace('/', '-')}"
        engine = open_database(f"sqlite:///{home}/bakeoff.db", home)
        documents = [
            Document(str(row["id"]), row["title"], row["text"], row.get("source", ""))
            for row in _read_rows(data / name / "documents.jsonl")
        ]
        add_documents(engine, DOMAIN, documents, embedder, lambda *_: None)
        train, test = (_read_questions(data / name / f"{split}.jsonl", seed) for split in ("train", "test"))
        found.append(Set(name, home, engine, documents, train, test))
    return found


def load_vectors(each: Set) -> Vectors:
    """Vectors of a set's chunks, (n, dim)."""
    table = chunks_table.c
    with each.engine.connect() as connection:
        return stack_vectors(
            connection.scalars(select(table.vector).where(table.died == ALIVE).order_by(table.key)).all()
        )


def embed_questions(each: Set, split: str, embedder: Embedder) -> Vectors:
    """Vectors of a split's questions, (n, dim), kept in the set's folder."""
    questions: list[Question] = getattr(each, split)
    path = each.home / f"{split}.npy"
    if path.exists():
        vectors: Vectors = np.load(path)
        if len(vectors) == len(questions):
            return vectors
    vectors = embedder.embed([question.text for question in questions])
    np.save(path, vectors)
    return vectors


def grow(vectors: Vectors, size: int, noise: float, seed: int) -> NDArray[np.float32]:
    """Reach a size: real vectors first, then copies of them with Gaussian noise, at unit length again.

    Args:
        noise: expected length of what is added to a vector of length 1.
    """
    random = np.random.default_rng(seed)
    grown = np.empty((size, vectors.shape[1]), np.float32)
    grown[: len(vectors)] = vectors[:size]
    scale = np.float32(noise / vectors.shape[1] ** 0.5)
    for start in range(min(len(vectors), size), size, 16_384):
        part = grown[start : start + 16_384]
        random.standard_normal(out=part, dtype=np.float32)
        part *= scale
        part += vectors[random.integers(0, len(vectors), len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return grown


def _read_questions(path: Path, seed: int) -> list[Question]:
    if not path.exists():
        return []
    rows = [row for row in _read_rows(path) if row.get("document_ids")]
    if len(rows) > _MANY:
        drawn = np.random.default_rng(seed).permutation(len(rows))[:_SAMPLE]
        rows = [rows[place] for place in sorted(drawn.tolist())]
    return [
        Question(str(row["id"]), fold_text(row["question"]), frozenset(map(str, row["document_ids"]))) for row in rows
    ]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
