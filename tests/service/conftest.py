"""A home with one small domain, and a service over it with the scripted engine."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripted_service import DOMAIN, ScriptedGenerator, running

from bakeoff.database import open_database
from bakeoff.examples import import_examples
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.embedder import SentenceTransformerEmbedder
from retrieval.shots import embed_shots
from retrieval.store import add_documents, document_ids
from service.app import create_app


@pytest.fixture
def home(tmp_path: Path, corpus: list[Document], embedder: SentenceTransformerEmbedder) -> Path:
    """A home with one domain of six documents and two training examples, and no adapter."""
    engine = open_database(Settings(home=tmp_path).url, tmp_path)
    add_documents(engine, DOMAIN, corpus, embedder, lambda *_: None)
    (tmp_path / "train.jsonl").write_text(
        '{"id": "1", "question": "Are dogs allowed?", "answer": "Yes, in garden rooms.", "document_ids": ["pets"]}\n'
        '{"id": "2", "question": "Is the pool open in May?", "answer": "Yes.", "document_ids": ["pool"]}\n'
    )
    with engine.begin() as connection:
        import_examples(connection, DOMAIN, "train", tmp_path / "train.jsonl", document_ids(connection, DOMAIN))
    embed_shots(engine, DOMAIN, embedder, lambda *_: None)
    engine.dispose()
    return tmp_path


@pytest.fixture
def scripted() -> ScriptedGenerator:
    return ScriptedGenerator()


@pytest.fixture
def url(home: Path, scripted: ScriptedGenerator, embedder: SentenceTransformerEmbedder) -> Iterator[str]:
    """The address of a service over `home` with the scripted engine."""
    with running(create_app(Settings(home=home), generator=scripted, embedder=embedder)) as address:
        assert httpx.get(f"{address}/health/ready").status_code == 200
        yield address
