"""Every variant of LoRA trains on the real small model, is written as PEFT reads it, and says what was learned."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from bakeoff.artefacts import read_manifest
from bakeoff.chat_template import load_tokenizer
from bakeoff.records import Example
from training.loop import make_steps, take_step
from training.model import label_loss, load_model, save_adapter, validation_loss
from training.recipe import Recipe
from training.rows import FindPassages, Row, make_rows
from training.train import TrainResult, train, validation_rows
from training.weights import Weights


@pytest.fixture
def rows(examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe) -> tuple[Row, ...]:
    short = msgspec.structs.replace(recipe, passages_share=0.0)
    return make_rows(examples, tokenizer, find_passages, short, budget=500, epochs=1, seed=0).rows[:6]


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "pissa"])
def test_variant_learns_and_peft_reads_what_it_learned(
    variant: str, model_dir: Path, recipe: Recipe, rows: tuple[Row, ...], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    knobs = msgspec.structs.replace(
        recipe, lora_variant=variant, lora_r=8, lora_alpha=8, lora_targets=("q_proj", "down_proj")
    )
    model = load_model(model_dir, knobs, seed=0, dtype=torch.float32)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    first = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=2e-3)
    losses = []
    for _ in range(4):
        loss, _ = label_loss(model, rows)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    with torch.inference_mode():
        learned = float(label_loss(model, rows)[0])
    assert learned < 0.9 * losses[0]

    weights = {name: parameter.detach().clone() for name, parameter in trained.items()}
    save_adapter(model, weights, "base", tmp_path, first)
    base: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True)
    read = PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.inference_mode():
        assert float(label_loss(read, rows)[0]) == pytest.approx(learned, rel=2e-3)
    config = read.peft_config["default"]
    assert config.use_dora == (variant == "dora")
    assert config.r == (16 if variant == "pissa" else 8)
    assert config.init_lora_weights is True


def test_packed_and_accumulated_steps_learn_and_stop_early(
    model_dir: Path, examples: list[Example], find_passages: FindPassages, recipe: Recipe, tmp_path: Path
) -> None:
    """A learning rate that wrecks turns the validation loss at once: what is kept is the best, not the last."""
    knobs = msgspec.structs.replace(
        recipe, batching="packed", accumulation=2, patience=1, validations=6, learning_rate=0.05, max_epochs=3
    )
    result = _train(model_dir, examples, find_passages, knobs, tmp_path)
    manifest = read_manifest(result.path, "adapter")
    losses = {step: validation for step, _, validation in manifest["curve"]}
    assert manifest["best_step"] == min(losses, key=lambda step: losses[step])
    assert result.validation_loss == losses[manifest["best_step"]] == min(losses.values())
    assert len(losses) < 6
    assert _loss_of(result.path, model_dir, examples, find_passages, knobs) == pytest.approx(
        result.validation_loss, rel=0.02
    )
    assert "Stopped early: the validation loss was lowest at step" in result.report
    assert manifest["rows"]["fill"] == 1.0
    events = list(tmp_path.glob("work/*/tensorboard/events*"))
    assert events and events[0].stat().st_size > 500


def _loss_of(
    folder: Path, model_dir: Path, examples: list[Example], find_passages: FindPassages, recipe: Recipe
) -> float:
    """Validation loss of the weights that were written, in float32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    rows = validation_rows(examples[:4], load_tokenizer(model_dir), find_passages, recipe, 0)
    base: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True)
    model = PeftModel.from_pretrained(base, folder).eval()
    return validation_loss(model, rows, [[at] for at in range(len(rows))])


def _train(
    model_dir: Path, examples: list[Example], find_passages: FindPassages, recipe: Recipe, home: Path
) -> TrainResult:
    return train(
        base_dir=model_dir,
        base_digest="base",
        domain="hotels",
        train_examples=examples[4:],
        validation_examples=examples[:4],
        find_passages=find_passages,
        recipe=recipe,
        seed=0,
        adapters_dir=home / "adapters",
        work_dir=home / "work",
        progress=lambda *_: None,
    )


def test_accumulated_step_weighs_every_label_alike(model_dir: Path, recipe: Recipe, rows: tuple[Row, ...]) -> None:
    """Rows of unlike length in two batches of one step end in the weights that one batch of all gives."""
    learned = []
    for batches in ([rows[:4]], [rows[:1], rows[1:4]]):
        model = load_model(model_dir, recipe, seed=0, dtype=torch.float32)
        weights = Weights(model, recipe)
        loss_sum, num_labels, _ = take_step(model, weights, batches, recipe, 1e-3)
        assert num_labels == sum(len(row.ids) - row.num_prompt for row in rows[:4])
        learned.append((loss_sum, weights.named()))
    (whole, ours), (parts, theirs) = learned
    assert parts == pytest.approx(whole, rel=1e-4)
    for name, weight in ours.items():
        if "lora_B" in name:  # moved away from zero by the step
            assert float((weight - theirs[name]).abs().max()) < 0.05 * float(weight.abs().max())


def test_accumulated_batches_make_one_step(recipe: Recipe) -> None:
    lengths = [100] * 20
    single = make_steps(lengths, recipe, seed=0)
    double = make_steps(lengths, msgspec.structs.replace(recipe, accumulation=2), seed=0)
    assert [batch for step in double for batch in step] == [batch for step in single for batch in step]
    assert len(double) == (len(single) + 1) // 2


def test_pissa_is_written_as_twice_the_rank(model_dir: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Before any step the exported adapter adds nothing: what was moved out of the base is put back."""
    knobs = msgspec.structs.replace(recipe, lora_variant="pissa", lora_targets=("v_proj",))
    model = load_model(model_dir, knobs, seed=0, dtype=torch.float32)
    first = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    save_adapter(model, first, "base", tmp_path, first)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    down = next(name for name in tensors if "lora_A" in name)
    up = down.replace("lora_A", "lora_B")
    assert tensors[down].shape[0] == 2 * recipe.lora_r
    torch.testing.assert_close(tensors[up] @ tensors[down], torch.zeros(192, 576), atol=1e-5, rtol=0)
