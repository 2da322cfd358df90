"""One real vLLM for all tests here, a home on the sample domain with adapters made by hand, and an engine over both."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from live_service import DOMAIN, fill_home
from peft_reference import Reference
from real_vllm import PYTHON, RealVllm
from small_adapters import make_tensors, write_small_adapter

from bakeoff.adapters import register_adapter
from bakeoff.artefacts import adapters_dir
from bakeoff.database import open_database
from bakeoff.promotions import promote_adapter
from bakeoff.settings import Settings
from service.vllm.generator import VllmGenerator

TOLERANCE = 0.01
"""Nats a token; vLLM on the CPU in float32 is within 0.0001 of PEFT."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[RealVllm]:
    assert PYTHON.exists(), "there is no vLLM here; make its environment with: make vllm-install"
    server = RealVllm(model_dir, tmp_path_factory.mktemp("vllm") / "vllm.log")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    fill_home(home)
    return home


@pytest.fixture(scope="session")
def adapters(home: Path, model_dir: Path) -> tuple[str, str]:
    """Two adapters that each change every answer."""
    one, two = (
        write_small_adapter(home, model_dir, DOMAIN, seed=seed, tensors=make_tensors(seed, size=0.3)) for seed in (1, 2)
    )
    return one, two


@pytest.fixture(scope="session")
def promoted(home: Path, adapters: tuple[str, str]) -> str:
    """The first of them serves the sample domain."""
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        register_adapter(connection, DOMAIN, adapters[0])
        promote_adapter(connection, DOMAIN, adapters[0], None, "made by hand for the tests")
    engine.dispose()
    return adapters[0]


@pytest.fixture(scope="session")
def reference(home: Path, adapters: tuple[str, str], model_dir: Path) -> Reference:
    reference = Reference(model_dir)
    for digest in adapters:
        reference.add(adapters_dir(home) / digest)
    return reference


@pytest.fixture(scope="session")
def settings(home: Path, vllm: RealVllm) -> Settings:
    return Settings(home=home, vllm_urls=vllm.url, vllm_tolerance=TOLERANCE, vllm_pause_s=1.0)


@pytest.fixture(scope="module")
async def generator(settings: Settings, model_dir: Path, anyio_backend: str) -> AsyncIterator[VllmGenerator]:
    """The engine itself."""
    generator = VllmGenerator(settings, model_dir)
    await generator.start()
    yield generator
    await generator.close()
