"""Two adapters joined into one do what both do, on the real model's logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from bakeoff.adapter_files import read_pairs
from bakeoff.errors import BakeoffError, Mismatch
from training.preferences.lora import (
    Change,
    Changes,
    add_changes,
    join_changes,
    learned_changes,
    read_changes,
    write_changes,
)

IDS = torch.tensor([[1, 9906, 2646, 198, 338, 5270, 260, 8063, 47, 2]])


def load(model_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True).eval()


def put_random_lora(model: Any, seed: int, **config: Any) -> Any:
    lora = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in lora.named_parameters():
        if "lora_" in name:
            parameter.data = 0.02 * torch.randn(parameter.shape, generator=generator)
    return lora


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.fixture
def first(model_dir: Path, tmp_path: Path) -> Path:
    """An adapter of every projection, with rank-stabilised scale (Kalajdzievski 2023)."""
    lora = put_random_lora(load(model_dir), 1, r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True)
    lora.save_pretrained(str(tmp_path / "first"))
    return tmp_path / "first"


def test_merged_and_exported_have_the_same_logits(model_dir: Path, tmp_path: Path, first: Path) -> None:
    """Training sees the first adapter added to the weights and a LoRA of two layers on top; serving gets one LoRA."""
    start = read_changes(first, model_dir)
    plain = load(model_dir)
    base_logits = logits_of(plain)
    add_changes(plain, start)
    started = logits_of(plain)
    trained = put_random_lora(
        plain, 2, r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], layers_to_transform=[28, 29]
    )
    expected = logits_of(trained)
    assert float((expected - started).abs().max()) > 0.05 < float((started - base_logits).abs().max())
    folder = tmp_path / "exported"
    folder.mkdir()
    write_changes(join_changes(start, learned_changes(trained)), "base", folder, num_layers=30)
    served = PeftModel.from_pretrained(load(model_dir), str(folder))
    torch.testing.assert_close(logits_of(served), expected, rtol=1e-4, atol=2e-4)
    assert {served.peft_config["default"].r} == {12}
    shapes = {name: tuple(weight.shape) for name, weight in load(model_dir).named_parameters()}
    assert {len(pair.down) for pair in read_pairs(folder, shapes).values()} == {12}


def test_a_fresh_adapter_of_a_few_layers_is_served_as_trained(model_dir: Path, tmp_path: Path) -> None:
    trained = put_random_lora(
        load(model_dir), 3, r=4, lora_alpha=16, target_modules=["q_proj"], layers_to_transform=[29]
    )
    folder = tmp_path / "exported"
    folder.mkdir()
    write_changes(join_changes({}, learned_changes(trained)), "base", folder, num_layers=30)
    served = PeftModel.from_pretrained(load(model_dir), str(folder))
    assert [name for name, _ in served.named_modules() if name.endswith("lora_A.default")] == [
        "base_model.model.model.layers.29.self_attn.q_proj.lora_A.default"
    ]
    torch.testing.assert_close(logits_of(served), logits_of(trained), rtol=1e-4, atol=1e-4)


def test_ranks_that_differ_are_filled_up_with_zeros() -> None:
    generator = torch.Generator().manual_seed(0)

    def change(rank: int) -> Change:
        return Change(torch.randn(rank, 5, generator=generator), torch.randn(3, rank, generator=generator))

    first: Changes = {"a": change(2), "b": change(1)}
    second: Changes = {"b": change(3), "c": change(2)}
    joined = join_changes(first, second)
    assert {path: tuple(found.down.shape) for path, found in joined.items()} == dict.fromkeys("abc", (5, 5))
    for path, found in joined.items():
        expected = sum(changes[path].up @ changes[path].down for changes in (first, second) if path in changes)
        torch.testing.assert_close(found.up @ found.down, expected)


def test_what_learned_nothing_or_broke_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BakeoffError, match="learned nothing"):
        write_changes({"a": Change(torch.ones(2, 5), torch.zeros(3, 2))}, "base", tmp_path)
    with pytest.raises(BakeoffError, match="not finite"):
        write_changes({"a": Change(torch.ones(2, 5), torch.full((3, 2), float("nan")))}, "base", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_change_that_does_not_fit_is_refused(model_dir: Path) -> None:
    with pytest.raises(Mismatch, match=r"model\.layers\.0\.self_attn\.q_proj by \(3, 5\)"):
        add_changes(load(model_dir), {"model.layers.0.self_attn.q_proj": Change(torch.ones(2, 5), torch.ones(3, 2))})
