"""`bakeoff train audit` on a real adapter: what it prints, and what the adapter's history keeps."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from bakeoff.adapters import list_events, register_adapter
from bakeoff.cli.audit import audit_command
from bakeoff.database import open_database, writing
from bakeoff.examples import import_examples


@pytest.fixture
def home(owners: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The adapter and its examples in a database."""
    home: Path = owners.home
    engine = open_database(f"sqlite:///{home / 'bakeoff.db'}", home)
    with writing(engine) as connection:
        for split, examples in (("train", owners.members), ("validation", owners.others)):
            file = home / f"{split}.jsonl"
            file.write_bytes(b"\n".join(msgspec.json.encode(example) for example in examples))
            import_examples(connection, "animals", split, file, ())
        register_adapter(connection, "animals", owners.adapter)
    engine.dispose()
    monkeypatch.setenv("BAKEOFF_HOME", str(home))
    return home


def test_an_audit_says_what_it_found_and_records_it(home: Path, owners: Any) -> None:
    done = CliRunner().invoke(audit_command, ["--domain", "animals", owners.adapter[:8], "--no-canaries"])
    assert done.exit_code == 0, done.output
    assert f"animals: adapter {owners.adapter}" in done.output
    assert "can be told from others by their loss" in done.output
    engine = open_database(f"sqlite:///{home / 'bakeoff.db'}", home)
    with engine.connect() as connection:
        event = list_events(connection, "animals", owners.adapter)[-1]
    engine.dispose()
    assert event.event == "audited"
    assert event.details["membership"]["auc"] > 0.8
    assert "AUC" in event.details["in words"]


def test_without_an_adapter_there_is_nothing_to_audit(home: Path) -> None:
    done = CliRunner().invoke(audit_command, ["--domain", "animals", "--no-canaries"])
    assert done.exit_code == 1
    assert "no adapter serves 'animals'" in str(done.exception)
