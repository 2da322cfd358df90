"""The model that learns from people: base weights, plus the adapter it starts from, under a fresh LoRA.

What it starts from is added to the base weights in memory. So the model without its fresh LoRA is the reference that
every method here holds on to, and one copy of the weights serves as both.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bakeoff.errors import Mismatch
from training.model import choose_dtype
from training.preferences.lora import Change, add_changes
from training.preferences.recipe import PreferenceRecipe

_SCALES = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def device_here() -> str:
    """Where models are computed on this machine."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def refuse_scaled_logits(config: Any) -> None:
    """Make sure that a model's logits are the plain product of its states and its output embeddings.

    Raises:
        Mismatch: the architecture scales or caps them.
    """
    found = [name for name in _SCALES if getattr(config, name, None) not in (None, 1, 1.0)]
    if found:
        raise Mismatch(
            f"models of type {config.model_type!r} cannot learn from preferences here: they change their logits "
            f"({found[0]} = {getattr(config, found[0])})"
        )


def pick_dtype(base_dir: Path, recipe: PreferenceRecipe, *, starts_from_adapter: bool) -> torch.dtype:
    """The type the frozen weights are kept and computed in; the fresh LoRA is float32 in any case."""
    from transformers import AutoConfig

    if recipe.dtype != "auto":
        return torch.bfloat16 if recipe.dtype == "bfloat16" else torch.float32
    if starts_from_adapter:
        return torch.float32
    if device_here() == "cuda":
        return torch.bfloat16
    config = AutoConfig.from_pretrained(base_dir, local_files_only=True)
    return choose_dtype(config.hidden_size, config.intermediate_size)


def load_start(base_dir: Path, dtype: torch.dtype, changes: Mapping[str, Change], recipe: PreferenceRecipe) -> Any:
    """Load what a training starts from: the base model with the changes of an adapter added to its weights.

    Raises:
        Mismatch: the model cannot be trained like this, or the adapter was made for another one.
    """
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        base_dir, dtype=dtype, attn_implementation="sdpa", local_files_only=True
    )
    refuse_scaled_logits(model.config)
    check_targets(model, recipe)
    add_changes(model, changes)
    return model.to(device_here()).eval()


def check_targets(model: Any, recipe: PreferenceRecipe) -> None:
    """Make sure that the model has projections of the names in `lora_targets`.

    Raises:
        Mismatch: names those that it has.
    """
    there, wanted = _projections(model), _targets(model, recipe)
    if not wanted or set(wanted) - set(there):
        raise Mismatch(
            f"lora_targets = {recipe.lora_targets!r} does not fit the base model; its projections are: "
            f"{', '.join(there)}, or 'all-linear' for all of them"
        )


def make_lora(model: Any, recipe: PreferenceRecipe, task_type: str = "CAUSAL_LM") -> Any:
    """PEFT's description of the fresh LoRA for a model."""
    from peft import LoraConfig

    num_layers = model.config.num_hidden_layers
    only_last = list(range(max(0, num_layers - recipe.lora_layers), num_layers)) if recipe.lora_layers else None
    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=0.0,
        target_modules=_targets(model, recipe),
        layers_to_transform=only_last,
        task_type=task_type,
        modules_to_save=["score"] if task_type == "SEQ_CLS" else None,
    )


def put_lora(model: Any, recipe: PreferenceRecipe, seed: int) -> Any:
    """Put the fresh LoRA on a model: A random by seed, B zero, so that nothing is changed yet."""
    from peft import get_peft_model

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, make_lora(model, recipe))


def _targets(model: Any, recipe: PreferenceRecipe) -> list[str]:
    if recipe.lora_targets == "all-linear":
        return _projections(model)
    return [recipe.lora_targets] if isinstance(recipe.lora_targets, str) else list(recipe.lora_targets)


def _projections(model: Any) -> list[str]:
    """Names of the projections within the layers, which leaves the heads out."""
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and re.search(r"\.\d+\.", name)
        }
    )
