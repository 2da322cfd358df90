"""What tests share: a throw-away home, a small corpus, and the real embedder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import CORPUS
from live_service import DOMAIN, Live, fill_home, run_json
from postgresql import postgres, postgres_server  # noqa: F401 - fixtures
from sqlalchemy import Engine

from bakeoff.cli.serve import running_service
from bakeoff.database import open_database
from bakeoff.models import find_embedder, find_model
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.embedder import Embedder, open_embedder


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
def embedder() -> Embedder:
    """The shipped embedder."""
    settings = Settings()
    return open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The shipped base model."""
    return find_model(Settings())


@pytest.fixture
def corpus() -> list[Document]:
    """Six documents about six things."""
    return list(CORPUS)


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A real service in five modes; its adapter is trained on a few rows after it has started."""
    home = tmp_path_factory.mktemp("live")
    fill_home(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_HOME", str(home))
        with running_service(None, home) as service:
            trained = run_json(home, "train", "--domain", DOMAIN, "--tokens", "6000")
            yield Live(service.url, home, trained["adapter"])
