"""What tests share: a throw-away home, a small corpus, and the real embedder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_service import DOMAIN, Live, fill_home, run_json
from sqlalchemy import Engine

from bakeoff.cli.serve import running_service
from bakeoff.database import open_database
from bakeoff.models import find_embedder, find_model
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.embedder import SentenceTransformerEmbedder


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database at the newest migration."""
    engine = open_database(f"sqlite:///{tmp_path / 'bakeoff.db'}", tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def embedder() -> SentenceTransformerEmbedder:
    """The shipped embedder."""
    settings = Settings()
    return SentenceTransformerEmbedder(find_embedder(settings), settings.embedder)


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The shipped base model."""
    return find_model(Settings())


@pytest.fixture
def corpus() -> list[Document]:
    """Six documents about six things."""
    return [
        Document("parking", "Parking", "Parking behind the hotel costs 10 pounds per night."),
        Document("pets", "Pets", "Dogs and cats may stay in the garden rooms free of charge."),
        Document("breakfast", "Breakfast", "Breakfast is served from 7:00 to 10:30 in the winter garden."),
        Document("wifi", "Internet", "The wireless network is free and reaches every room."),
        Document("pool", "Swimming pool", "The pool is closed from October to April."),
        Document("taxi", "Taxi", "A taxi to the railway station takes ten minutes."),
    ]


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A real service in five modes; its adapter is trained on a few rows after it has started."""
    home = tmp_path_factory.mktemp("live")
    fill_home(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_HOME", str(home))
        with running_service(None, home) as url:
            trained = run_json(home, "train", "--domain", DOMAIN, "--tokens", "6000")
            yield Live(url, home, trained["adapter"])
