"""An adapter is folded exactly, or refused with the reason: it is never silently ignored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from bakeoff.adapter_files import read_pairs
from bakeoff.errors import Mismatch
from bakeoff.tensors import Tensors

SHAPES = {"model.layers.0.q_proj.weight": (6, 4), "model.layers.0.v_proj.weight": (2, 4)}
MODULE = "base_model.model.model.layers.0.q_proj"


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    pair = {f"{MODULE}.lora_A.weight": torch.ones(2, 4), f"{MODULE}.lora_B.weight": torch.ones(6, 2)}
    save_file(pair if tensors is None else tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "init_lora_weights": True, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize(("rank_stabilised", "scale"), [(False, 6 / 2), (True, 6 / 2**0.5)])
def test_what_an_adapter_adds_is_scale_times_b_times_a(tmp_path, rank_stabilised, scale):
    down, up = torch.arange(8.0).reshape(2, 4), torch.arange(12.0).reshape(6, 2)
    pair = {f"{MODULE}.lora_A.weight": down, f"{MODULE}.lora_B.weight": up}
    pairs = read_pairs(write_adapter(tmp_path, pair, use_rslora=rank_stabilised), SHAPES)
    assert set(pairs) == {"model.layers.0.q_proj.weight"}
    np.testing.assert_allclose(pairs["model.layers.0.q_proj.weight"].delta, scale * (up @ down).numpy(), rtol=1e-6)


@pytest.mark.parametrize("variant", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_folding_is_what_peft_merges(tmp_path: Path, variant: dict[str, Any]) -> None:
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(6, 5, bias=False))
    weight = base[0].weight.detach().numpy().copy()
    model = get_peft_model(base, LoraConfig(r=2, lora_alpha=6, target_modules=["0"], **variant))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.rand(parameter.shape) + 0.1
    model.save_pretrained(str(tmp_path))
    [(name, pair)] = read_pairs(tmp_path, {"0.weight": (5, 6)}).items()
    merged = model.merge_and_unload()[0].weight.detach().numpy()
    np.testing.assert_allclose(pair.fold(weight), merged, rtol=1e-5)
    assert (name, pair.magnitude is not None) == ("0.weight", "use_dora" in variant)


def pair_with(module: str = MODULE, down: Any = None, up: Any = None) -> dict[str, torch.Tensor]:
    return {
        f"{module}.lora_A.weight": torch.ones(2, 4) if down is None else down,
        f"{module}.lora_B.weight": torch.ones(6, 2) if up is None else up,
    }


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (pair_with(up=torch.full((6, 2), float("nan"))), "NaN"),
        (pair_with(down=torch.full((2, 4), float("inf"))), "infinite"),
        (pair_with(up=torch.zeros(6, 2)), "changes nothing"),
        (pair_with(up=torch.ones(5, 2)), "base weight is"),
        (pair_with(down=torch.ones(3, 4)), "base weight is"),
        (pair_with("base_model.model.model.layers.9.q_proj"), "no module of the base model"),
        (pair_with("model.layers.0.q_proj"), "no module of the base model"),
        ({**pair_with(), "base_model.model.lm_head.weight": torch.ones(3, 4)}, "lm_head"),
        ({f"{MODULE}.lora_A.weight": torch.ones(2, 4)}, "pairs"),
        ({f"{MODULE}.lora_B.weight": torch.ones(6, 2)}, "pairs"),
        ({}, "empty"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(tmp_path, tensors, reason):
    with pytest.raises(Mismatch, match=reason):
        read_pairs(write_adapter(tmp_path, tensors), SHAPES)


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "IA3"},
        {"fan_in_fan_out": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"init_lora_weights": "pissa"},
        {"alpha_pattern": {"q_proj": 3}},
        {"modules_to_save": ["lm_head"]},
        {"layer_replication": [[0, 1]]},
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused(tmp_path, config):
    with pytest.raises(Mismatch, match="LoRA and DoRA only"):
        read_pairs(write_adapter(tmp_path, **config), SHAPES)


def test_a_cut_file_is_refused(tmp_path):
    path = write_adapter(tmp_path) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(Mismatch, match="cut short"):
        read_pairs(tmp_path, SHAPES)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(Mismatch, match="safetensors"):
        read_pairs(tmp_path, SHAPES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_are_read_exactly_in_every_float_type(tmp_path, dtype):
    wanted = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_file({"weight": wanted}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(Tensors([tmp_path / "a.safetensors"]).read("weight"), wanted.float().numpy())
