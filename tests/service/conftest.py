"""A home with one small domain, and a service over it with the scripted engine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import CORPUS
from openai import OpenAI
from scripted_service import DOMAIN, ScriptedGenerator, running

from bakeoff.database import open_database
from bakeoff.examples import import_examples
from bakeoff.settings import Settings
from retrieval.catalogue import document_ids
from retrieval.embedder import Embedder
from retrieval.shots import embed_shots
from retrieval.store import add_documents
from service.app import create_app


@pytest.fixture(scope="session")
def filled_home(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    """A home with one domain of six documents and two training examples, and no adapter. To be copied, not changed."""
    home = tmp_path_factory.mktemp("filled")
    engine = open_database(Settings(home=home).url, home)
    add_documents(engine, DOMAIN, CORPUS, embedder, lambda *_: None)
    (home / "train.jsonl").write_text(
        '{"id": "1", "question": "Are dogs allowed?", "answer": "Yes, in garden rooms.", "document_ids": ["pets"]}\n'
        '{"id": "2", "question": "Is the pool open in May?", "answer": "Yes.", "document_ids": ["pool"]}\n'
    )
    with engine.begin() as connection:
        import_examples(connection, DOMAIN, "train", home / "train.jsonl", document_ids(connection, DOMAIN))
    embed_shots(engine, DOMAIN, embedder, lambda *_: None)
    engine.dispose()
    return home


@pytest.fixture
def home(filled_home: Path, tmp_path: Path) -> Path:
    """A copy of `filled_home`."""
    return Path(shutil.copytree(filled_home, tmp_path / "home"))


@pytest.fixture
def scripted() -> ScriptedGenerator:
    return ScriptedGenerator()


@pytest.fixture
def url(home: Path, scripted: ScriptedGenerator, embedder: Embedder) -> Iterator[str]:
    """The address of a service over `home` with the scripted engine."""
    with running(create_app(Settings(home=home), generator=scripted, embedder=embedder)) as address:
        yield address


@pytest.fixture(scope="session")
def shared_home(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `filled_home` for the services that tests share: they write every answer down."""
    return Path(shutil.copytree(filled_home, tmp_path_factory.mktemp("shared") / "home"))


@pytest.fixture(scope="session")
def shared_url(shared_home: Path, embedder: Embedder) -> Iterator[str]:
    """One service for all tests that only ask and look at the answer."""
    with running(create_app(Settings(home=shared_home), generator=ScriptedGenerator(), embedder=embedder)) as address:
        yield address


@pytest.fixture(scope="session")
def able() -> ScriptedGenerator:
    """A scripted engine that heeds every parameter."""
    names = ("logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "logit_bias", "response_format")
    return ScriptedGenerator(frozenset((*names, "tools", "top_k", "structured_outputs")))


@pytest.fixture(scope="session")
def able_url(shared_home: Path, able: ScriptedGenerator, embedder: Embedder) -> Iterator[str]:
    """One service over `able`, with aliases, that keeps streams alive every fifth of a second."""
    aliases = f"gpt-4o-mini={DOMAIN}/rag, ada = all-minilm-l6-v2"
    settings = Settings(home=shared_home, keepalive_s=0.2, model_aliases=aliases)
    with running(create_app(settings, generator=able, embedder=embedder)) as address:
        yield address


@pytest.fixture
def able_client(able_url: str) -> OpenAI:
    """The `openai` package, refusing every answer that is not of its own types."""
    return OpenAI(base_url=f"{able_url}/v1", api_key="none", max_retries=0, _strict_response_validation=True)
