"""The command line as another program sees it: exit status, stdout, stderr."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bakeoff.cli.main import COMMANDS
from bakeoff.settings import CHECKOUT

SAMPLE = CHECKOUT / "samples" / "concierge"


def run(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bakeoff.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "BAKEOFF_HOME": str(home), **environ},
    )


def run_json(home: Path, *words: str) -> Any:
    done = run(home, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_documents_are_added_searched_listed_and_removed(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pool.md").write_text("# Pool\n\nThe pool is closed from October to April.")
    (tmp_path / "docs" / "pets.txt").write_text("Dogs may stay in the garden rooms.")
    added = run_json(tmp_path, "documents", "add", str(tmp_path / "docs"), "--domain", "d")
    files = added.pop("files")
    assert added == {"added": 2, "replaced": 0, "unchanged": 0, "chunks": 2, "embedded": 2, "epoch": 1}
    assert [(Path(file["path"]).name, file["chunks"], file["skipped"]) for file in files] == [
        ("pets.txt", 1, None),
        ("pool.md", 1, None),
    ]
    found = run_json(tmp_path, "search", "May I bring my dog?", "--domain", "d", "--top-k", "1")
    assert set(found) == {"epoch", "passages", "evidence", "is_answerable", "explanations"}
    fields = {"rank", "score", "document_id", "chunk_id", "title", "text", "heading", "page", "chunk_ids"}
    assert set(found["passages"][0]) == fields
    assert found["passages"][0]["document_id"] == "pets.txt"
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"id": "a", "question": "Is the pool open?"}\n{"id": "b", "question": "Dogs?"}\n')
    lines = run(tmp_path, "search", "--questions", str(questions), "--domain", "d", "--top-k", "1").stdout.splitlines()
    best = [(line["id"], line["passages"][0]["document_id"]) for line in map(json.loads, lines)]
    assert best == [("a", "pool.md"), ("b", "pets.txt")]
    removed = run_json(tmp_path, "documents", "remove", "pool.md", "--domain", "d")
    assert removed == {"removed": 1, "epoch": 2}
    listed = run_json(tmp_path, "documents", "list", "--domain", "d")["documents"]
    assert [row["id"] for row in listed] == ["pets.txt"]
    assert run_json(tmp_path, "domains", "list")["domains"][0]["name"] == "d"
    assert run_json(tmp_path, "domains", "delete", "d", "--yes") == {"deleted": "d"}
    assert run_json(tmp_path, "domains", "list") == {"domains": []}


def test_help_needs_no_heavy_import(tmp_path: Path) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from bakeoff.cli.main import bakeoff;"
        "assert CliRunner().invoke(bakeoff, ['--help']).exit_code == 0;"
        "print([name for name in ('torch', 'transformers', 'litestar', 'faiss', 'openvino') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert not (tmp_path / "bakeoff.db").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["documents", "add", "gone.jsonl", "--domain", "d"], 1, "does not exist"),
        (["documents", "add", str(SAMPLE), "--domain", "No Name"], 2, "is not a name"),
        (["search", "x", "--domain", "nowhere"], 1, "bakeoff documents add"),
        (["search", "--domain", "d"], 2, "QUESTION or --questions"),
        (["search", "x", "--domain", "d", "--top-k", "0"], 2, "top-k"),
        (["train", "--domain", "nowhere"], 1, "domain 'nowhere' does not exist"),
        (["eval", "--domain", "d", "--modes", "rag,auto", "--url", "http://127.0.0.1:9"], 1, "Modes: base"),
        (["eval", "--domain", "d", "--url", "http://127.0.0.1:9"], 1, "no Bakeoff service answers"),
        (["ask", "x", "--domain", "d", "--mode", "auto"], 2, "auto"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_what_goes_wrong_is_one_sentence_on_stderr(tmp_path: Path, words: list[str], status: int, said: str) -> None:
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_a_missing_model_and_a_wrong_setting_are_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(tmp_path, "serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "Choose another with --port" in done.stderr
    done = run(tmp_path, "serve", "--port", "0", BAKEOFF_MODELS=str(tmp_path))
    assert done.returncode == 1
    assert "make models" in done.stderr
    done = run(tmp_path, "domains", "list", BAKEOFF_TOPK="3")
    assert done.returncode == 1
    assert "BAKEOFF_TOPK is not a setting" in done.stderr


def test_a_full_disk_is_said_and_what_was_written_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Dogs may stay in the garden rooms.")
    run_json(tmp_path, "documents", "add", str(tmp_path / "a.txt"), "--domain", "d")
    (tmp_path / "b.txt").write_text(" ".join(f"Sentence number {number}." for number in range(30_000)))
    code = (
        "import resource, sys; from bakeoff.cli.main import main; from bakeoff.cli.workspace import Workspace;"
        "import retrieval.embedder, numpy;"
        "retrieval.embedder.OpenVinoEmbedder.embed = "
        "lambda self, texts: numpy.ones((len(texts), 384), numpy.float32);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"sys.argv = ['bakeoff', 'documents', 'add', {str(tmp_path / 'b.txt')!r}, '--domain', 'd']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "BAKEOFF_HOME": str(tmp_path)},
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "What was finished is kept" in done.stderr
    listed = run_json(tmp_path, "documents", "list", "--domain", "d")["documents"]
    assert [row["id"] for row in listed] == ["a.txt"]


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    report = json.loads(run(tmp_path, "doctor", "--json", BAKEOFF_MODELS=str(tmp_path)).stdout)
    by_name = {check["name"]: check for check in report["checks"]}
    assert report["ok"] is False
    assert "make models" in by_name["base model"]["advice"]
    assert by_name["torch"]["ok"] is True
