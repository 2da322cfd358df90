"""The loss of a batch against transformers' own, with the real small model."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from bakeoff.errors import Mismatch, NotReady
from bakeoff.records import Example
from training.model import check_parity, choose_dtype, label_loss, load_model, quantisation_config, validation_loss
from training.recipe import Recipe
from training.rows import FindPassages, Row, make_rows


@pytest.fixture
def rows(examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe) -> tuple[Row, ...]:
    """Two closed-book rows and two with passages, of four lengths."""
    made = make_rows(examples, tokenizer, find_passages, recipe, budget=recipe.token_budget, epochs=1, seed=0).rows
    kinds = {kind: [row for row in made if row.kind == kind] for kind in ("closed-book", "passages")}
    return (*kinds["closed-book"][:2], *kinds["passages"][:2])


@pytest.fixture
def model(model_dir: Path, recipe: Recipe) -> Any:
    """In float32, with an adapter that is not zero, so that it takes part in the loss."""
    model = load_model(model_dir, recipe, seed=0, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.02 * torch.randn(parameter.shape, generator=generator)
    return model


def test_loss_at_labels_is_the_loss_of_all_logits(model: Any, rows: tuple[Row, ...]) -> None:
    """The reference is transformers' own forward with every logit, one row at a time."""
    expected, num_labels = 0.0, 0
    for row in rows:
        labels = torch.tensor([[-100] * row.num_prompt + list(row.ids[row.num_prompt :])])
        with torch.inference_mode():
            own = model(input_ids=torch.tensor([row.ids]), labels=labels).loss
        expected += float(own) * (len(row.ids) - row.num_prompt)
        num_labels += len(row.ids) - row.num_prompt
    loss, counted = label_loss(model, rows)
    assert counted == num_labels
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_padding_and_neighbours_do_not_change_a_rows_loss_or_gradient(model: Any, rows: tuple[Row, ...]) -> None:
    alone = [label_loss(model, [row])[0] for row in rows]
    together, _ = label_loss(model, rows)
    assert float(together.detach()) == pytest.approx(sum(float(loss.detach()) for loss in alone), rel=1e-4)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    batched = torch.autograd.grad(together, trained)
    single = torch.autograd.grad(torch.stack(alone).sum(), trained)
    for ours, theirs in zip(batched, single, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()) + 1e-6)


def test_packed_rows_do_not_see_each_other(model: Any, rows: tuple[Row, ...]) -> None:
    """Loss and gradient of four rows one after another are those of each by itself."""
    alone = [label_loss(model, [row])[0] for row in rows]
    packed, num_labels = label_loss(model, rows, "packed")
    assert num_labels == sum(len(row.ids) - row.num_prompt for row in rows)
    assert float(packed.detach()) == pytest.approx(sum(float(loss.detach()) for loss in alone), rel=1e-4)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = torch.autograd.grad(packed, trained)
    theirs = torch.autograd.grad(torch.stack(alone).sum(), trained)
    for packed_gradient, single in zip(ours, theirs, strict=True):
        torch.testing.assert_close(packed_gradient, single, rtol=1e-3, atol=1e-4 * float(single.abs().max()) + 1e-6)


def test_another_first_row_changes_nothing_for_the_second_one(model: Any, rows: tuple[Row, ...]) -> None:
    with torch.inference_mode():
        first = float(label_loss(model, [rows[0], rows[2]], "packed")[0] - label_loss(model, [rows[0]])[0])
        other = float(label_loss(model, [rows[3], rows[2]], "packed")[0] - label_loss(model, [rows[3]])[0])
    assert first == pytest.approx(other, rel=1e-4)


def test_checkpointed_layers_give_the_same_loss_and_gradient(
    model_dir: Path, recipe: Recipe, rows: tuple[Row, ...], model: Any
) -> None:
    checkpointed = load_model(
        model_dir, msgspec.structs.replace(recipe, gradient_checkpointing=True), seed=0, dtype=torch.float32
    )
    checkpointed.load_state_dict(model.state_dict())
    forwards = 0

    def count(*_: Any) -> None:
        nonlocal forwards
        forwards += 1

    checkpointed.get_base_model().model.layers[3].mlp.register_forward_pre_hook(count)
    for each in (model, checkpointed):
        label_loss(each, rows[:2])[0].backward()
    assert forwards == 2  # once more, in the backward pass
    for ours, theirs in zip(checkpointed.parameters(), model.parameters(), strict=True):
        if theirs.requires_grad:
            assert ours.grad is not None and theirs.grad is not None
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_quantised_base_without_bitsandbytes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.model.importlib.util.find_spec", lambda _: None)
    with pytest.raises(NotReady, match="quantisation = '4bit' needs bitsandbytes; install it with: pip install"):
        quantisation_config("4bit", torch.float32)


@pytest.mark.parametrize("quantisation", ["8bit", "4bit"])
def test_adapter_learns_on_a_quantised_base(
    model_dir: Path, recipe: Recipe, rows: tuple[Row, ...], quantisation: str
) -> None:
    knobs = msgspec.structs.replace(recipe, quantisation=quantisation, lora_targets=("q_proj", "v_proj"))
    model = load_model(model_dir, knobs, seed=0, dtype=torch.float32)
    frozen = {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad}
    assert frozen & {torch.int8, torch.uint8}
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=5e-3)
    losses = []
    for _ in range(4):
        loss, num_labels = label_loss(model, rows[:2])
        (loss / num_labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.gpu
def test_training_runs_on_the_device(model_dir: Path, recipe: Recipe, rows: tuple[Row, ...]) -> None:
    model = load_model(model_dir, recipe, seed=0)
    loss, _ = label_loss(model, rows, "packed")
    assert loss.device.type == "cuda"
    check_parity(model, rows[0])


def test_only_the_adapter_learns(model: Any) -> None:
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    projections = {
        name.split(".lora_")[0].split(".")[-1]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert projections == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_fresh_adapter_is_drawn_by_the_seed_and_changes_nothing(
    model_dir: Path, recipe: Recipe, rows: tuple[Row, ...]
) -> None:
    rows = rows[:2]
    first, again, other = (load_model(model_dir, recipe, seed, torch.float32) for seed in (1, 1, 2))
    name = next(name for name, _ in first.named_parameters() if "lora_A" in name)
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))
    with first.disable_adapter():
        plain = float(label_loss(first, rows)[0])
    assert float(label_loss(first, rows)[0].detach()) == pytest.approx(plain)


def test_dropout_acts_in_training_and_not_in_validation(
    model_dir: Path, recipe: Recipe, rows: tuple[Row, ...], model: Any
) -> None:
    dropped = load_model(model_dir, msgspec.structs.replace(recipe, lora_dropout=0.5), seed=0, dtype=torch.float32)
    dropped.load_state_dict(model.state_dict())
    rows, batches = rows[:2], [(0, 1)]
    assert len({float(label_loss(dropped, rows)[0].detach()) for _ in range(2)}) == 2
    assert validation_loss(dropped, rows, batches) == pytest.approx(validation_loss(model, rows, batches), rel=1e-5)
    assert len({float(label_loss(dropped, rows)[0].detach()) for _ in range(2)}) == 2


def test_model_that_scales_its_logits_is_refused(model: Any, rows: tuple[Row, ...]) -> None:
    check_parity(model, rows[0])
    head = model.get_base_model().lm_head
    head.register_forward_hook(lambda _module, _args, logits: logits * (1 if logits.dim() == 2 else 0.5))
    with pytest.raises(Mismatch, match="'llama' cannot be trained here"):
        check_parity(model, rows[0])


def test_projection_that_does_not_exist_is_named(model_dir: Path, recipe: Recipe) -> None:
    with pytest.raises(Mismatch, match="lora_targets = \\('query',\\)"):
        load_model(model_dir, msgspec.structs.replace(recipe, lora_targets=("query",)), seed=0, dtype=torch.float32)


def test_probe_takes_bfloat16_only_where_it_is_right_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_dtype(576, 1536) in {torch.float32, torch.bfloat16}
    ticks = iter(range(10**6))
    linear = torch.nn.functional.linear

    def broken(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return linear(states, weights) * (0.5 if states.dtype == torch.bfloat16 else 1)

    monkeypatch.setattr("training.model.time.perf_counter", lambda: -float(next(ticks) ** 2))  # later is faster
    assert choose_dtype(64, 128) == torch.bfloat16
    monkeypatch.setattr("training.model.functional.linear", broken)
    assert choose_dtype(64, 128) == torch.float32
