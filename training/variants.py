"""The ways to build a LoRA adapter, what PEFT is told for each, and how each is written so that engines can serve it.

`lora` and `rslora` are written as they are. `pissa` moves part of the base weights into the adapter at the start, so
what it learned is the difference to that start; it is written as a plain LoRA of twice the rank over the original base,
the learned pair beside the negative of the first: B A - B0 A0 = [B, -B0] [A; A0] (PEFT's conversion, in our own few
lines because the float32 masters are not in the model). `dora` also learns the length of each row of a weight, which
only engines that fold adapters into the weights can serve.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from training.recipe import Recipe

ENGINES = {
    "lora": ("embedded", "vllm"),
    "rslora": ("embedded", "vllm"),
    "dora": ("embedded",),
    "pissa": ("embedded", "vllm"),
}
"""Variant -> the engines that can serve it."""

_PISSA_ITERATIONS = 16
"""Of the randomised SVD; Meng et al. 2024, appendix, find 16 as good as the exact one and far faster."""

Weights = Mapping[str, torch.Tensor]
"""Parameter name -> float32 weight."""


def make_config(recipe: Recipe) -> Any:
    """PEFT's LoraConfig of a recipe."""
    from peft import LoraConfig

    start: Any = f"pissa_niter_{_PISSA_ITERATIONS}" if recipe.lora_variant == "pissa" else True
    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_targets if isinstance(recipe.lora_targets, str) else list(recipe.lora_targets),
        use_rslora=recipe.lora_variant == "rslora",
        use_dora=recipe.lora_variant == "dora",
        init_lora_weights=start,
        task_type="CAUSAL_LM",
    )


def export_weights(config: Any, weights: Weights, first: Weights | None) -> tuple[Any, dict[str, torch.Tensor]]:
    """What is written for an adapter: its config and weights over the original base model.

    Args:
        config: PEFT's, of the model that was trained.
        weights: learned, by parameter name.
        first: before training; wanted where the variant moved base weights into the adapter (PiSSA).

    Returns:
        (config, weights), the same where nothing has to be converted.
    """
    config = copy.deepcopy(config)
    if not str(config.init_lora_weights).startswith("pissa"):
        return config, dict(weights)
    assert first is not None, "pissa is exported as a difference to its first weights"
    config.init_lora_weights = True
    config.r *= 2
    config.lora_alpha *= 2  # alpha / r stays
    return config, {name: _double(name, weight, first[name]) for name, weight in weights.items()}


def _double(name: str, learned: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    is_up = "lora_B" in name
    return torch.cat([learned, -first], dim=1) if is_up else torch.cat([learned, first], dim=0)
