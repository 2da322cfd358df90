"""What was exercised is printed, one line a feature: `make client-test` shows it, and so does `pytest -s`."""

from pathlib import Path

import click
import pytest
from real_clients import Show


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Show:
    """Says what was exercised, under the name of the test's file."""
    client = Path(request.path).stem.removeprefix("test_")
    click.echo()
    return lambda text: click.echo(f"{client}: {text}")
