"""`bakeoff train`: what it refuses before anything is loaded, and what it says."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bakeoff.cli.main import bakeoff
from bakeoff.cli.training import gather_material
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BadInput

QUESTIONS = ("Is there parking at the Alder Hotel?", "When is breakfast at the Birch Hotel?", "May dogs stay?")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAKEOFF_HOME", str(tmp_path / "home"))
    return tmp_path


def _import(home: Path, split: str, questions: list[str]) -> None:
    path = home / f"{split}.jsonl"
    lines = [{"id": f"{split}-{at}", "question": text, "answer": "Yes."} for at, text in enumerate(questions)]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    done = _run("examples", "import", str(path), "--domain", "hotels", "--split", split)
    assert done.exit_code == 0, done.output


def _run(*words: str) -> Result:
    return CliRunner().invoke(bakeoff, words)


def test_a_training_set_that_holds_a_test_question_is_refused_with_what_to_do(home: Path) -> None:
    _import(home, "train", [*QUESTIONS, *(f"Does room {number} have a bath?" for number in range(30))])
    _import(home, "test", ["Is there parking at the Alder Hotel??", "How far is the sea?"])
    done = _run("train", "--domain", "hotels")
    assert isinstance(done.exception, BadInput)
    message = str(done.exception)
    assert message.startswith("1 test question in train too, or in other words: test-0 = train-0 (exact)")
    assert "bakeoff examples remove --domain hotels --leaks" in message
    assert "--allow-leaks" in message
    assert not (home / "home" / "adapters").exists()


def test_help_names_what_stands_beside_training() -> None:
    done = _run("train", "--help")
    assert "preferences" in done.output and "audit" in done.output and "--sweep" in done.output


def test_domain_is_asked_for() -> None:
    done = _run("train")
    assert done.exit_code == 2
    assert "Missing option '--domain'" in done.output


def test_unknown_knob_stops_before_anything_is_read(home: Path) -> None:
    (home / "recipe.toml").write_text("lora_rank = 8\n")
    done = _run("train", "--domain", "hotels", "--recipe", str(home / "recipe.toml"))
    assert "there is no knob 'lora_rank'" in str(done.exception)


def test_shots_of_a_training_row_are_never_itself_nor_validation_examples(home: Path) -> None:
    _import(home, "train", [f"Is there parking at hotel {number}?" for number in range(40)])
    workspace = Workspace()
    material = gather_material(workspace, "hotels", seed=0)
    held_out = {example.id for example in material.validation_examples}
    assert held_out
    for example in material.train_examples:
        shots = {shot.id for shot in material.find_shots(example)}
        assert len(shots) == workspace.settings.num_shots
        assert not shots & (held_out | {example.id})


def test_a_file_is_learned_from_in_place_of_the_splits(home: Path) -> None:
    _import(home, "train", [f"Is there parking at hotel {number}?" for number in range(40)])
    path = home / "chat.jsonl"
    turns = [{"role": "user", "content": "May dogs stay?"}, {"role": "assistant", "content": "No."}]
    path.write_text(json.dumps({"messages": turns}))
    material = gather_material(Workspace(), "new", 0, (path, path))
    assert [example.question for example in material.train_examples] == ["May dogs stay?"]
    assert material.validation_examples == material.train_examples


def test_a_file_that_holds_a_test_question_is_refused_like_a_split(home: Path) -> None:
    _import(home, "test", ["May dogs stay?", "How far is the sea?"])
    path = home / "chat.jsonl"
    turns = [{"role": "user", "content": "May dogs stay?"}, {"role": "assistant", "content": "No."}]
    path.write_text(json.dumps({"messages": turns}))
    done = _run("train", "--domain", "hotels", "--train-file", str(path))
    assert str(done.exception).startswith("1 test question in train too")


def test_options_that_contradict_each_other_are_wrong_usage() -> None:
    for words in (("--validation-file", "x"), ("--tokens", "5000", "--epochs", "1"), ("--sweep", "--train-file", "x")):
        assert _run("train", "--domain", "hotels", *words).exit_code == 2
