"""`bakeoff examples` as people type it: real files, the real embedder and tokenizer, a real home."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bakeoff.cli.main import bakeoff
from bakeoff.database import open_database
from bakeoff.errors import BadInput, BakeoffError, EngineDown, NotFound
from bakeoff.examples import load_examples
from bakeoff.records import Example

HOTELS = ("Alder", "Birch", "Cedar", "Damson", "Elder", "Fir", "Ginkgo", "Hazel")
ASKS = (
    ("Is there parking at the {} Hotel?", "Yes, parking at the {} Hotel costs {} pounds per night.", "parking"),
    ("When is breakfast served at the {} Hotel?", "Breakfast at the {} Hotel is served from {}:00.", "breakfast"),
    ("May I bring a dog to the {} Hotel?", "Dogs are not allowed at the {} Hotel on {} floors.", "pets"),
)

Run = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAKEOFF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def invoke(*words: str) -> Result:
    return CliRunner().invoke(bakeoff, ["examples", *words])


def run_json(*words: str) -> Any:
    done = invoke(*words, "--json")
    assert done.exception is None, done.exception
    return json.loads(done.stdout)


def fails(*words: str) -> BakeoffError:
    done = invoke(*words)
    assert isinstance(done.exception, BakeoffError), done.output
    return done.exception


def stored(home: Path) -> dict[str, list[Example]]:
    engine = open_database(f"sqlite:///{home / 'bakeoff.db'}", home)
    with engine.connect() as connection:
        found = load_examples(connection, "d")
    engine.dispose()
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for split, example in found:
        splits[split].append(example)
    return splits


def add_documents(folder: Path) -> None:
    """A page for each hotel that says what the examples ask."""
    path = folder / "pages.jsonl"
    pages = [
        {
            "id": f"doc-{name}",
            "title": f"{name} Hotel",
            "text": " ".join(answer.format(name, number) for _, answer, _ in ASKS),
        }
        for number, name in enumerate(HOTELS, start=5)
    ]
    path.write_text("\n".join(map(json.dumps, pages)))
    done = CliRunner().invoke(bakeoff, ["documents", "add", str(path), "--domain", "d"])
    assert done.exception is None, done.exception


def write_csv(path: Path) -> Path:
    lines = ["id,question,answer,document_ids,label"]
    for number, name in enumerate(HOTELS, start=5):
        lines += [
            f'{label}-{name},"{ask.format(name)}","{answer.format(name, number)}",doc-{name},{label}'
            for ask, answer, label in ASKS
        ]
    path.write_text("\n".join(lines))
    return path


def test_import_reads_any_format_and_names_what_is_wrong(home: Path, tmp_path: Path) -> None:
    chat = tmp_path / "chat.jsonl"
    turns = [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "greeting"}]
    chat.write_text(json.dumps({"messages": turns}))
    counts = run_json("import", str(chat), "--domain", "d", "--split", "train", "--task", "classification")
    assert counts == {"split": "train", "added": 1, "replaced": 0, "total": 1}
    [example] = stored(home)["train"]
    assert (example.question, example.answer, example.tags) == ("Hello there", "greeting", {"task": "classification"})
    assert run_json("import", str(chat), "--domain", "d", "--split", "train")["replaced"] == 1
    assert "poetry" in str(fails("import", str(chat), "--domain", "d", "--split", "train", "--task", "poetry"))
    error = fails("import", str(chat), "--domain", "d", "--split", "train", "--format", "alpaca")
    assert "line 1: field `instruction` is missing" in str(error)


def test_a_domain_is_checked_scrubbed_pruned_and_split(home: Path, tmp_path: Path) -> None:
    add_documents(tmp_path)
    run_json("import", str(write_csv(tmp_path / "x.csv")), "--domain", "d", "--split", "train")
    dirty = [
        {"id": "h", "question": "Does the Fir Hotel have a sauna for guests?", "answer": "Yes, next to the Fir pool."},
        {"id": "leak", "question": "Is there a sauna at the Fir Hotel?", "answer": "Yes, next to the Fir pool."},
        {"id": "copy", "question": "is there PARKING at the fir hotel", "answer": ASKS[0][1].format("Fir", 10)},
        {"id": "private", "question": "Can I write to fir@hotels.example?", "answer": "Yes, or call +44 20 7946 0958."},
    ]
    for name, split, lines in (("test", "test", dirty[:1]), ("more", "train", dirty[1:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        run_json("import", str(tmp_path / f"{name}.jsonl"), "--domain", "d", "--split", split)

    report = run_json("check", "--domain", "d", "--report", str(tmp_path / "report.md"))
    assert report["sizes"] == {"train": 27, "test": 1}
    assert [leak["train_id"] for leak in report["leaks"]["test"]] == ["leak"]
    assert [repeat["repeated_id"] for repeat in report["duplicates"]] == ["copy"]
    assert [one["example_id"] for one in report["personal"]] == ["private"]
    assert (report["near_duplicates"], report["conflicts"], report["empties"], report["too_long"]) == ([], [], [], [])
    assert report == json.loads((home / "checks" / "d" / "report.json").read_text())
    said = invoke("check", "--domain", "d").stdout
    assert "1 leaks into test" in said
    assert "hotels.example" not in said + (tmp_path / "report.md").read_text()

    invoke("check", "--domain", "d", "--scrub")
    private = next(one for one in stored(home)["train"] if one.id == "private")
    assert (private.question, private.answer) == ("Can I write to [E-MAIL]?", "Yes, or call [PHONE].")

    assert "say --yes" in str(fails("remove", "--domain", "d", "--leaks"))
    removed = run_json("remove", "--domain", "d", "--leaks", "--duplicates", "private", "--yes")
    assert sorted(removed["ids"]) == ["copy", "leak", "private"]
    assert isinstance(fails("remove", "--domain", "d", "copy", "--yes"), NotFound)

    assert isinstance(fails("split", "--domain", "d", "--seed", "1"), BadInput)
    sizes = run_json("split", "--domain", "d", "--seed", "1", "--test", "0", "--validation", "0.25")["sizes"]
    assert sizes == {"train": 18, "validation": 6, "test": 1}
    after = stored(home)
    assert {one.document_ids for one in after["train"]}.isdisjoint(one.document_ids for one in after["validation"])
    assert "--again" in str(fails("split", "--domain", "d", "--seed", "1", "--test", "0"))
    again = run_json("split", "--domain", "d", "--seed", "1", "--test", "0", "--validation", "0.25", "--again")
    assert again == {"moved": 0, "sizes": sizes}
    assert "label" not in invoke("check", "--domain", "nowhere").output


def test_what_left_train_is_no_shot_any_more(home: Path, tmp_path: Path) -> None:
    from bakeoff.cli.workspace import Workspace
    from retrieval.shots import nearest_shots

    add_documents(tmp_path)
    run_json("import", str(write_csv(tmp_path / "x.csv")), "--domain", "d", "--split", "train")
    run_json("split", "--domain", "d", "--seed", "1", "--test", "0.5", "--validation", "0")
    workspace = Workspace()
    train = {one.id for one in stored(home)["train"]}
    for name in HOTELS:
        question = f"Is there parking at the {name} Hotel?"
        shots = nearest_shots(workspace.engine, "d", question, workspace.embedder, 3)
        assert {shot.id for shot in shots} <= train


def test_a_file_is_checked_before_it_is_imported(home: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv")
    path.write_text(path.read_text() + '\ntwin,"Is there parking at the Fir Hotel?","No.",doc-Fir,parking\n')
    report = run_json("check", str(path))
    assert report["sizes"] == {"file": 25}
    assert [conflict["ids"] for conflict in report["conflicts"]] == [["parking-Fir", "twin"]]
    assert "mend the file before importing it" in invoke("check", str(path)).stdout
    assert invoke("check", str(path), "--domain", "d").exit_code == 2
    assert invoke("check", str(path), "--scrub").exit_code == 2


@pytest.fixture
def writer() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An OpenAI-compatible server that asks well about parking, badly about the rest; fails on its fourth request."""
    requests: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            requests.append({"key": self.headers["authorization"], "path": self.path, **body})
            sentence = body["messages"][-1]["content"]
            name = next(name for name in HOTELS if name in sentence)
            text = f"What does parking at the {name} Hotel cost?" if "parking" in sentence else "I do not know."
            reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
            self.send_response(200 if len(requests) != 4 else 400)
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", requests
    server.shutdown()
    server.server_close()


def test_pairs_are_written_by_a_model_filtered_and_resumed(
    home: Path, tmp_path: Path, writer: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, requests = writer
    add_documents(tmp_path)
    words = ("augment", "--domain", "d", "--count", "3", "--url", url, "--model", "m", "--api-key-env", "KEY")
    assert "no variable KEY" in str(fails(*words))
    monkeypatch.setenv("KEY", "secret")
    held_out = {"id": "h", "question": "What does parking at the Alder Hotel cost?", "answer": "5 pounds per night"}
    (tmp_path / "test.jsonl").write_text(json.dumps(held_out))
    run_json("import", str(tmp_path / "test.jsonl"), "--domain", "d", "--split", "test")
    assert isinstance(fails(*words), EngineDown)
    assert stored(home)["train"] == []
    written = run_json(*words)
    assert len(requests) == 24 + 1  # what was answered before the failure is not asked for again
    assert {(one["key"], one["path"], one["model"]) for one in requests} == {
        ("Bearer secret", "/v1/chat/completions", "m")
    }
    assert written["kept"] == 3
    assert written["reasons"]["no question"] == 16
    assert written["reasons"]["leak"] == 1
    for example in stored(home)["train"]:
        name = example.document_ids[0].removeprefix("doc-")
        assert name in example.question
        assert name != "Alder"
        assert example.answer.startswith(f"Yes, parking at the {name} Hotel costs")
        assert example.tags["synthetic"]["document_id"] == f"doc-{name}"


def test_the_shipped_model_writes_pairs_whose_answers_stand_in_the_documents(home: Path, tmp_path: Path) -> None:
    add_documents(tmp_path)
    pages = " ".join(json.loads(line)["text"] for line in (tmp_path / "pages.jsonl").read_text().splitlines())
    written = run_json("augment", "--domain", "d", "--count", "1")
    train = stored(home)["train"]
    assert len(train) == written["kept"] <= 1
    assert sum(written["reasons"].values()) == written["asked"] > 0
    assert all(example.answer in pages for example in train)
