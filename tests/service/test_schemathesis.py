"""Thousands of requests that a machine made up, in two directions.

OpenAI's description, against the service that its clients' test-suite uses: no request ends in a 5xx, and what is
answered has the form described. The service's own description, against the service as it is: nothing is answered that
it does not document. What a request of the one may be refused for is not in the other, so a 4xx is no failure there.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai_description import OURS, PATH, operations
from openai_server import openai_server

CHECKS = "not_a_server_error,response_schema_conformance"
OWN_CHECKS = f"{CHECKS},status_code_conformance,content_type_conformance,response_headers_conformance"


@pytest.fixture(scope="module")
def lenient_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with openai_server(tmp_path_factory.mktemp("lenient")) as url:
        yield url


@pytest.fixture(scope="module")
def strict_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with openai_server(tmp_path_factory.mktemp("strict"), lenient=False) as url:
        yield url


def run(*words: str, seed: int, num_examples: int) -> str:
    """Run schemathesis; returns what it says in the end."""
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent.parent)}
    options = ["--seed", str(seed), "--max-examples", str(num_examples), "--request-timeout", "30"]
    quiet = ["--suppress-health-check", "all", "--warnings", "off", "--no-color", "--continue-on-failure"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [Path(sys.executable).parent / "schemathesis", "run", *words, *options, *quiet],
            cwd=folder,
            env={**os.environ, **hooks},
            capture_output=True,
            text=True,
            timeout=550,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    return done.stdout


def ask_as_described_by_openai(url: str, seed: int, num_examples: int) -> None:
    words = [str(PATH), "--url", f"{url}/v1", "--include-path-regex", OURS, "--checks", CHECKS, "--mode", "positive"]
    said = run(*words, "--phases", "examples,fuzzing", seed=seed, num_examples=num_examples)
    assert f"Tested: {len(operations())}\n" in said, said[-2000:]


def ask_as_described_by_ourselves(url: str, seed: int, num_examples: int, phases: str) -> None:
    endless = ["--exclude-operation-id", "FollowJob"]  # a stream that lasts as long as its job
    words = [f"{url}/schema/openapi.json", "--checks", OWN_CHECKS, *endless]
    said = run(*words, "--phases", phases, seed=seed, num_examples=num_examples)
    assert "Tested: 54" in said, said[-2000:]


def test_openais_description_holds(lenient_url: str) -> None:
    ask_as_described_by_openai(lenient_url, seed=1, num_examples=1)


def test_our_own_description_is_honest(strict_url: str) -> None:
    ask_as_described_by_ourselves(strict_url, seed=1, num_examples=3, phases="fuzzing")


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_openais_description_holds_at_length(lenient_url: str, seed: int) -> None:
    ask_as_described_by_openai(lenient_url, seed, num_examples=20)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_our_own_description_is_honest_at_length(strict_url: str, seed: int) -> None:
    ask_as_described_by_ourselves(strict_url, seed, num_examples=20, phases="examples,coverage,fuzzing")
