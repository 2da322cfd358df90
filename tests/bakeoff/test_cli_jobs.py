"""`--queue` and `bakeoff jobs`: what is submitted is what was typed, from wherever it is run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bakeoff.cli.main import bakeoff
from bakeoff.cli.workspace import Workspace
from bakeoff.database import writing
from bakeoff.errors import BakeoffError, NotFound
from bakeoff.jobs import add_event
from bakeoff.worker.claims import claim_job, end_job


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAKEOFF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(bakeoff, words)


def queue(*words: str) -> dict[str, Any]:
    done = run(*words, "--queue", "--json")
    assert done.exit_code == 0, done.output
    shown: dict[str, Any] = json.loads(run("jobs", "show", json.loads(done.stdout)["id"], "--json").stdout)
    return shown


def test_a_queued_command_is_the_one_that_was_typed(home: Path) -> None:
    job = queue("train", "--domain", "d", "--recipe", "r.toml", "--seed", "3", "--no-promote", "--epochs", "2")
    assert job["arguments"] == [
        *("train", "--domain", "d", "--recipe", str(home / "r.toml"), "--seed", "3", "--epochs", "2", "--no-promote")
    ]
    assert (job["kind"], job["domain"], job["is_heavy"]) == ("train", "d", True)
    job = queue("eval", "--domain", "d", "--modes", "rag, base")
    assert job["arguments"] == ["eval", "--domain", "d", "--modes", "rag,base"]
    job = queue("documents", "add", "a.md", "b.md", "--domain", "d", "--group", "x", "--group", "y z")
    assert job["arguments"] == [
        *("documents", "add", "--domain", "d", "--group", "x", "--group", "y z", str(home / "a.md"), str(home / "b.md"))
    ]
    assert (job["kind"], job["is_heavy"]) == ("ingest", False)


def test_jobs_are_listed_shown_changed_and_followed() -> None:
    first, second = queue("train", "--domain", "a")["id"], queue("train", "--domain", "b")["id"]
    assert [line.split("\t")[:2] for line in run("jobs", "list").stdout.splitlines()] == [
        [second, "queued"],
        [first, "queued"],
    ]
    assert run("jobs", "pause", first).stdout == f"{first}: paused\n"
    assert run("jobs", "resume", first).stdout == f"{first}: queued\n"
    assert run("jobs", "cancel", first).stdout == f"{first}: cancelled\n"
    followed = run("jobs", "follow", first)
    assert isinstance(followed.exception, BakeoffError) and "cancelled" in str(followed.exception)
    listed = json.loads(run("jobs", "list", "--status", "queued", "--json").stdout)["jobs"]
    assert [job["id"] for job in listed] == [second]
    with writing(Workspace().engine) as connection:
        claim_job(connection, "w", is_heavy=True)
        add_event(connection, second, "Training")
        end_job(connection, "w", second, "succeeded", result={"adapter": "x"})
    done = run("jobs", "follow", second, "--json")
    assert done.exit_code == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["message"] for line in lines[:-1]] == ["created", "started", "Training", "succeeded"]
    assert lines[-1]["result"] == {"adapter": "x"}
    assert isinstance(run("jobs", "show", "job-none").exception, NotFound)


def test_a_command_reports_through_its_pipe_and_ends_with_its_life_line(home: Path) -> None:
    (home / "a.md").write_text("# Pool\n\nThe pool is closed.")
    words = ["-m", "bakeoff.cli.main", "--progress-fd", "3", "documents", "add", "a.md", "--domain", "d", "--json"]
    shell = ["bash", "-c", 'exec "$@" 3>reports', "-", sys.executable, *words]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["added"] == 1
    reports = [json.loads(line) for line in (home / "reports").read_text().splitlines()]
    assert reports[0] == {"title": "Indexing documents", "done": 0, "total": 0, "note": ""}
    assert (reports[-1]["done"], reports[-1]["total"]) == (1, 1)
    cut = subprocess.run(shell, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False)
    assert cut.returncode == -9
