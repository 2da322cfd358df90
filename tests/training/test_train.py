"""Whole trainings on the real small model: finished, killed, interrupted, refused."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from bakeoff.artefacts import read_manifest
from bakeoff.chat_template import prompt_ids
from bakeoff.errors import BadInput, BakeoffError
from bakeoff.records import Example, Message
from training.checkpoint import read_checkpoint, write_checkpoint
from training.loop import schedule_factor
from training.recipe import Recipe
from training.rows import FindPassages
from training.train import TrainResult, train

Train = Callable[..., TrainResult]
STOP_AT = 5

# Run by a second Python: the same training as here, stopped dead by the parent between two checkpoints.
SCRIPT = """
import sys
from pathlib import Path
import msgspec
from bakeoff.records import Example, Passage
from training.recipe import Recipe
from training.train import train

inputs = msgspec.json.decode(sys.stdin.read())
found = {question: msgspec.convert(passages, list[Passage]) for question, passages in inputs["found"].items()}

def progress(step, num_steps, note):
    print(step, flush=True)

train(
    base_dir=Path(inputs["base_dir"]), base_digest="base", domain="hotels",
    train_examples=msgspec.convert(inputs["train"], list[Example]),
    validation_examples=msgspec.convert(inputs["validation"], list[Example]),
    find_passages=lambda questions: [found[question] for question in questions],
    recipe=msgspec.convert(inputs["recipe"], Recipe), seed=0,
    adapters_dir=Path(inputs["home"]) / "adapters", work_dir=Path(inputs["home"]) / "work",
    progress=progress, checkpoint_every_s=0.0,
)
"""


@pytest.fixture
def run(model_dir: Path, examples: list[Example], find_passages: FindPassages, recipe: Recipe, tmp_path: Path) -> Train:
    """`train` on 20 of the examples, 4 held out, with what a test changes."""

    def run(**changes: Any) -> TrainResult:
        home = changes.pop("home", tmp_path)
        return train(
            **{
                "base_dir": model_dir,
                "base_digest": "base",
                "domain": "hotels",
                "train_examples": examples[4:],
                "validation_examples": examples[:4],
                "find_passages": find_passages,
                "recipe": recipe,
                "seed": 0,
                "adapters_dir": home / "adapters",
                "work_dir": home / "work",
                "progress": lambda *_: None,
            }
            | changes
        )

    return run


@pytest.fixture(scope="session")
def finished_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test to need a finished training leaves it for the others."""
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def finished(run: Train, finished_dir: Path) -> TrainResult:
    """One training that was never interrupted."""
    return run(home=finished_dir)


def test_training_lowers_the_loss_and_says_what_it_learned_from(
    finished: TrainResult, examples: list[Example], recipe: Recipe
) -> None:
    manifest = read_manifest(finished.path, "adapter")
    assert finished.path.name == finished.adapter
    first, last = manifest["curve"][0], manifest["curve"][-1]
    assert last[1] < first[1] * 0.7
    assert last[2] == finished.validation_loss < first[2]
    assert finished.train_loss == last[1]
    learned = {example.id for example in examples[4:]}
    assert manifest["lineage"]["examples"] == sorted(learned)
    assert "doc-Birch" in manifest["lineage"]["documents"]
    assert manifest["recipe"] == msgspec.to_builtins(recipe)
    assert (manifest["base_sha256"], manifest["domain"], manifest["seed"]) == ("base", "hotels", 0)
    assert set(manifest["versions"]) == {"python", "torch", "transformers", "peft", "bakeoff"}
    assert finished.tokens == manifest["tokens"] > 2000
    assert not list(finished.path.parent.glob(".*"))
    assert not list(finished.path.parent.parent.glob("work/*/checkpoint*"))


def test_peft_reads_the_folder_and_answers_otherwise_than_the_base(
    finished: TrainResult, model_dir: Path, tokenizer: Any
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True)
    ids = torch.tensor([prompt_ids(tokenizer, [Message("user", "Is there parking at the Fir Hotel?")])])
    with torch.inference_mode():
        before = base(ids).logits
        model = PeftModel.from_pretrained(base, finished.path).eval()
        after = model(ids).logits
    assert float((after - before).abs().max()) > 0.1
    weights = {name: weight for name, weight in model.state_dict().items() if "lora_" in name}
    assert len(weights) == 30 * 7 * 2
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert (finished.path / "chat_template.jinja").read_text() == tokenizer.chat_template
    assert str(model_dir.parent) not in (finished.path / "adapter_config.json").read_text()


def test_second_call_returns_the_finished_adapter_and_trains_nothing(
    finished: TrainResult, run: Train, finished_dir: Path
) -> None:
    steps: list[int] = []
    again = run(home=finished_dir, progress=lambda step, *_: steps.append(step))
    assert again == msgspec.structs.replace(finished, resumed=True)
    assert steps == []


def test_killed_training_resumes_to_the_same_loss(
    finished: TrainResult,
    run: Train,
    model_dir: Path,
    examples: list[Example],
    find_passages: FindPassages,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    inputs = {
        "base_dir": str(model_dir),
        "train": examples[4:],
        "validation": examples[:4],
        "found": {example.question: find_passages([example.question])[0] for example in examples},
        "recipe": recipe,
        "home": str(tmp_path),
    }
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    process.stdin.write(msgspec.json.encode(inputs))
    process.stdin.close()
    for line in process.stdout:
        if int(line) == STOP_AT:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    steps: list[int] = []
    resumed = run(progress=lambda step, *_: steps.append(step))
    assert steps[0] >= STOP_AT
    assert resumed.train_loss == pytest.approx(finished.train_loss, abs=1e-3)
    assert resumed.validation_loss == pytest.approx(finished.validation_loss, abs=1e-3)
    assert resumed.tokens == finished.tokens


def test_interrupted_training_keeps_its_checkpoint(run: Train, recipe: Recipe, tmp_path: Path) -> None:
    def interrupt(step: int, _num_steps: int, _note: str) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=interrupt, checkpoint_every_s=0.0)
    (checkpoint,) = tmp_path.glob("work/*/checkpoint.pt")
    state = read_checkpoint(checkpoint)
    assert state is not None
    assert state["state"]["step"] == 2
    assert not (tmp_path / "adapters").exists()


def test_loss_that_is_not_a_number_stops_with_the_knob_to_turn(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    import training.loop

    label_loss = training.loop.label_loss

    def broken(model: Any, rows: Any, batching: Any) -> Any:
        return label_loss(model, rows, batching)[0] * float("nan"), 1

    monkeypatch.setattr("training.loop.label_loss", broken)
    with pytest.raises(BakeoffError, match=r"the loss became nan .* at step 1 of \d+; lower learning_rate = 0\.002"):
        run()


def test_full_disk_is_a_clear_error_and_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"step": 1})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.checkpoint.os.fsync", full)
    with pytest.raises(BakeoffError, match="is full; free some space"):
        write_checkpoint(path, {"step": 2})
    assert read_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_damaged_checkpoint_says_what_to_delete(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"half a file")
    with pytest.raises(BakeoffError, match=r"checkpoint\.pt is damaged .*; delete it"):
        read_checkpoint(path)


def test_example_of_both_splits_is_refused(run: Train, examples: list[Example]) -> None:
    with pytest.raises(BadInput, match="'Birch-0' stands in the train and in the validation split"):
        run(validation_examples=examples[4:6])


def test_learning_rate_rises_then_falls_to_zero(recipe: Recipe) -> None:
    recipe = msgspec.structs.replace(recipe, warmup_share=0.1, schedule="linear")
    factors = [schedule_factor(step, 20, recipe) for step in range(20)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert factors[2:] == pytest.approx([1 - step / 18 for step in range(18)])
    cosine = msgspec.structs.replace(recipe, schedule="cosine")
    assert schedule_factor(11, 20, cosine) == pytest.approx(0.5)
