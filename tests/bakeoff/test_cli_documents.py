"""`bakeoff documents`, `search` and `tune` as people type them: real files, the real embedder, real processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live_service import SAMPLE, run_json

DOGS = ("search", "May I bring my dog?", "--domain", "d")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a folder of two documents, added."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "pool.md").write_text("# Pool\n\nThe pool is closed from October to April.")
    (folder / "pets.txt").write_text("Dogs may stay in the garden rooms.")
    run_json(tmp_path, "documents", "add", str(folder), "--domain", "d")
    return tmp_path


def found(home: Path, *words: str) -> list[str]:
    return [passage["document_id"] for passage in run_json(home, *DOGS, *words)["passages"]]


def fails(home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "BAKEOFF_HOME": str(home)},
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_group_sees_what_everyone_does_not(home: Path) -> None:
    run_json(home, "documents", "grant", "pets.txt", "--group", "staff", "--domain", "d")
    hidden = run_json(home, "documents", "revoke", "pets.txt", "--group", "everyone", "--domain", "d")
    assert hidden == {"groups": {"pets.txt": ["staff"]}}
    assert found(home) == ["pool.md"]
    assert found(home, "--group", "staff")[0] == "pets.txt"
    assert "holds no document nowhere" in fails(home, "documents", "grant", "nowhere", "--group", "a", "--domain", "d")
    assert "'a b' is not a name" in fails(home, "documents", "grant", "pets.txt", "--group", "a b", "--domain", "d")


def test_the_past_can_be_searched_and_brought_back_but_not_after_a_purge(home: Path) -> None:
    run_json(home, "documents", "remove", "pets.txt", "--domain", "d")
    assert found(home) == ["pool.md"]
    assert found(home, "--epoch", "1")[0] == "pets.txt"
    assert run_json(home, "documents", "rollback", "--epoch", "1", "--domain", "d") == {"epoch": 3, "as": 1}
    assert found(home)[0] == "pets.txt"
    purged = run_json(home, "documents", "purge", "pets.txt", "--domain", "d", "--yes")
    assert purged == {"purged": 1, "epoch": 4, "runs": [], "adapters": [], "answers": 0}
    assert found(home, "--epoch", "1") == ["pool.md"]
    run_json(home, "documents", "rollback", "--epoch", "1", "--domain", "d")
    assert found(home) == ["pool.md"]
    actions = [epoch["action"] for epoch in run_json(home, "documents", "epochs", "--domain", "d")["epochs"]]
    assert actions == ["rollback", "purge", "rollback", "remove", "add"]
    assert "has the epochs 1 to 5, not 9" in fails(home, *DOGS, "--epoch", "9")


def test_a_file_that_cannot_be_read_is_reported_and_the_others_go_in(home: Path) -> None:
    (home / "docs" / "scan.pdf").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (home / "docs" / "taxi.html").write_text("<h1>Taxi</h1><p>A taxi to the station takes ten minutes.</p>")
    added = run_json(home, "documents", "add", str(home / "docs"), "--domain", "d")
    assert (added["added"], added["unchanged"]) == (1, 2)
    [skipped] = [file for file in added["files"] if file["skipped"]]
    assert skipped["path"].endswith("scan.pdf")
    assert "PNG" in skipped["skipped"]


def test_a_folder_is_followed(home: Path) -> None:
    folder = home / "docs"
    (folder / "pets.txt").unlink()
    (folder / "pool.md").write_text("# Pool\n\nThe pool is open all year, dogs too.")
    synced = run_json(home, "documents", "sync", str(folder), "--domain", "d")
    assert (synced["added"], synced["replaced"], synced["removed"]) == (0, 1, 1)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so would ours
    watching = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bakeoff.cli.main",
            "documents",
            "sync",
            str(folder),
            "--domain",
            "d",
            "--watch",
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "BAKEOFF_HOME": str(home)},
    )
    signal.signal(signal.SIGINT, before)
    assert watching.stdout is not None
    try:
        assert json.loads(watching.stdout.readline())["unchanged"] == 1
        (folder / "cats.md").write_text("Cats may stay anywhere.")
        assert json.loads(watching.stdout.readline())["added"] == 1
        (folder / "cats.md").unlink()
        assert json.loads(watching.stdout.readline())["removed"] == 1
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130
    for path in folder.iterdir():
        path.unlink()
    assert "--allow-empty" in fails(home, "documents", "sync", str(folder), "--domain", "d")


def test_a_file_that_is_renamed_keeps_its_groups(home: Path) -> None:
    folder = home / "docs"
    run_json(home, "documents", "grant", "pets.txt", "--group", "staff", "--domain", "d")
    run_json(home, "documents", "revoke", "pets.txt", "--group", "everyone", "--domain", "d")
    (folder / "pets.txt").rename(folder / "animals.txt")
    synced = run_json(home, "documents", "sync", str(folder), "--domain", "d")
    assert (synced["added"], synced["removed"]) == (1, 1)
    assert found(home) == ["pool.md"]
    assert found(home, "--group", "staff")[0] == "animals.txt"


def test_what_cannot_be_taken_back_is_not_done_where_nobody_can_be_asked(home: Path) -> None:
    assert "say --yes" in fails(home, "documents", "purge", "pets.txt", "--domain", "d")
    assert found(home)[0] == "pets.txt"


def test_a_search_says_why(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff.cli.main", *DOGS, "--explain"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BAKEOFF_HOME": str(home)},
    )
    assert "Searched by weighted-sum 0.4 (defaults; see: bakeoff tune); words: may, bring, dog" in done.stdout
    assert "by meaning rank 1, cosine 0." in done.stdout
    assert "(may, dog)" in done.stdout


def test_tuning_chooses_fits_and_makes_weak_evidence_abstain(tmp_path: Path) -> None:
    lines = (SAMPLE / "documents.jsonl").read_text().splitlines()[:80]
    ids = {json.loads(line)["id"] for line in lines}
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    examples = [json.loads(line) for line in (SAMPLE / "train.jsonl").read_text().splitlines()]
    known = [example for example in examples if set(example["document_ids"]) <= ids]
    assert len(known) >= 20
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, known)))
    run_json(tmp_path, "documents", "add", str(tmp_path / "d.jsonl"), "--domain", "d")
    run_json(tmp_path, "examples", "import", str(tmp_path / "v.jsonl"), "--domain", "d", "--split", "validation")
    tuned: dict[str, Any] = run_json(tmp_path, "tune", "--domain", "d", "--keep", "0.9")
    assert tuned["num_questions"] >= 20
    risks = [point["risk"] for point in tuned["risk_coverage"]]
    assert risks[-1] < risks[0]
    assert tuned["answered"] == pytest.approx(0.9, abs=0.05)
    right = run_json(tmp_path, "search", known[0]["question"], "--domain", "d")
    wrong = run_json(tmp_path, "search", "Who won the football world cup in 1966?", "--domain", "d")
    assert right["is_answerable"]
    assert not wrong["is_answerable"]
    assert right["evidence"] > tuned["threshold"] > wrong["evidence"]
    run_json(tmp_path, "tune", "--domain", "d", "--defaults")
    assert run_json(tmp_path, "search", "Who won the football world cup in 1966?", "--domain", "d")["is_answerable"]
