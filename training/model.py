"""A folder with a base model -> that model with a fresh LoRA adapter, and the loss of a batch of rows.

The base is frozen and in eval mode. Where this CPU multiplies bfloat16 faster than float32 and gets it right, the whole
forward and backward run in bfloat16; the loop keeps the adapter's weights in float32 beside it. Logits are computed
only where there is a label: with 49,152 words in the vocabulary they are otherwise the dearest layer of a small model.
Rows are padded on the right, so causal attention never sees the padding and no mask is needed.
"""

import importlib.util
import logging
import time
import warnings
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from bakeoff.errors import BakeoffError, Mismatch, NotReady
from training.attention import register_attention
from training.batches import Batching
from training.recipe import Recipe
from training.rows import Row
from training.variants import Weights, export_weights, make_config

logger = logging.getLogger(__name__)
PARITY_TOLERANCE = 0.05
"""Relative difference to the model's own loss that rounding explains: bfloat16 has 8 significant bits."""


def choose_dtype(hidden_size: int, intermediate_size: int, repeats: int = 5) -> torch.dtype:
    """Choose bfloat16 if a probe finds it faster here than float32 and its results right, else float32.

    Some CPUs emulate bfloat16 many times slower than they compute float32. The probe takes well under a second: a
    layer of the model's own size on 256 tokens, forward and backward, the two types in turn, the best time of each.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(intermediate_size, hidden_size, generator=generator)
    states = torch.randn(256, hidden_size, generator=generator)
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    results: dict[torch.dtype, torch.Tensor] = {}
    for _ in range(repeats):
        for dtype in seconds:
            layer, layer_input = weights.to(dtype), states.to(dtype).requires_grad_()
            start = time.perf_counter()
            output = functional.linear(layer_input, layer)
            (gradient,) = torch.autograd.grad(output.sum(), layer_input)
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
            results[dtype] = torch.cat([output.detach().flatten(), gradient.flatten()]).float()
    error = (results[torch.bfloat16] - results[torch.float32]).norm() / results[torch.float32].norm()
    fits = bool(error < 0.02)
    logger.info("bf16 probe: float32_s=%.4f bfloat16_s=%.4f error=%.4f", *seconds.values(), float(error))
    return torch.bfloat16 if fits and seconds[torch.bfloat16] < seconds[torch.float32] else torch.float32


def load_model(base_dir: Path, recipe: Recipe, seed: int, dtype: torch.dtype | None = None) -> Any:
    """Load the base model and put a fresh adapter on it, drawn by seed (LoRA, Hu et al. 2021, section 4.1).

    Args:
        base_dir: a Hugging Face model folder with safetensors.
        dtype: None to let `choose_dtype` decide; on a CUDA device bfloat16.

    Returns:
        The PEFT model, on the CUDA device if there is one; only the adapter's parameters want gradients.

    Raises:
        Mismatch: the model has no projection of the names in `lora_targets`.
        NotReady: the recipe wants a quantised base model, and bitsandbytes is missing.
    """
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype is None:
        config = AutoConfig.from_pretrained(base_dir, local_files_only=True)
        dtype = _choose_dtype_for(config, recipe, device)
    loading: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "attn_implementation": register_attention()}
    if recipe.quantisation != "none":
        loading |= {"quantization_config": quantisation_config(recipe.quantisation, dtype), "device_map": {"": device}}
    base: Any = AutoModelForCausalLM.from_pretrained(base_dir, **loading)
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an attribute it renamed
            model = get_peft_model(base, make_config(recipe))
    except ValueError as error:
        raise Mismatch(f"lora_targets = {recipe.lora_targets!r} does not fit the base model: {error}") from error
    if recipe.quantisation == "none":
        model.to(device)
    model.eval()
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            module.train()
    if recipe.gradient_checkpointing:
        _checkpoint_layers(model)
    return model


def _choose_dtype_for(config: Any, recipe: Recipe, device: str) -> torch.dtype:
    if recipe.lora_variant == "dora":
        return torch.float32  # its magnitudes change by less than bfloat16 can tell apart
    return torch.bfloat16 if device == "cuda" else choose_dtype(config.hidden_size, config.intermediate_size)


def quantisation_config(quantisation: str, dtype: torch.dtype) -> Any:
    """What transformers is told to load a base model in 8 or 4 bits (QLoRA, Dettmers et al. 2023, section 3).

    Raises:
        NotReady: bitsandbytes is missing.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NotReady(f"quantisation = {quantisation!r} needs bitsandbytes; install it with: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    make: Any = BitsAndBytesConfig
    if quantisation == "8bit":
        return make(load_in_8bit=True)
    return make(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _checkpoint_layers(model: Any) -> None:
    """Have each layer computed again in the backward pass (Chen et al. 2016).

    transformers does so for layers in training mode only; the flag is set on the layers and not on what is in them, so
    that nothing of the base model starts to drop.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


def label_loss(model: Any, rows: Sequence[Row], batching: Batching = "grouped") -> tuple[torch.Tensor, int]:
    """Cross-entropy of the rows' targets, with logits computed at label positions only.

    Args:
        batching: side by side, padded on the right; or packed, one after another, where positions start anew with each
            row, from which transformers makes a block-diagonal causal mask.

    Returns:
        (sum over the labels, float32 scalar with a gradient; number of labels).
    """
    width = max(len(row.ids) for row in rows)
    starts = [number * width for number in range(len(rows))]
    if batching == "packed":
        starts = list(accumulate((len(row.ids) for row in rows[:-1]), initial=0))
        width = sum(len(row.ids) for row in rows)
    ids = torch.zeros(1 if batching == "packed" else len(rows), width, dtype=torch.long)
    places = torch.zeros_like(ids)
    positions: list[int] = []
    labels: list[int] = []
    for start, row in zip(starts, rows, strict=True):
        ids.view(-1)[start : start + len(row.ids)] = torch.tensor(row.ids)
        places.view(-1)[start : start + len(row.ids)] = torch.arange(len(row.ids))
        first = start + row.num_prompt - 1  # the state before a label predicts it
        positions.extend(range(first, first + len(row.ids) - row.num_prompt))
        labels.extend(row.ids[row.num_prompt :])
    base = model.get_base_model()
    inputs = {"input_ids": ids.to(base.device)}
    if batching == "packed":
        inputs["position_ids"] = places.to(base.device)
    states = base.get_decoder()(**inputs, use_cache=False).last_hidden_state
    logits = base.get_output_embeddings()(states.flatten(0, 1)[positions])
    targets = torch.tensor(labels, device=logits.device)
    return functional.cross_entropy(logits.float(), targets, reduction="sum"), len(labels)


def validation_loss(model: Any, rows: Sequence[Row], batches: Sequence[Sequence[int]]) -> float:
    """Mean cross-entropy per label, without dropout; NaN when there is no row."""
    if not rows:
        return float("nan")
    dropouts = [module for name, module in model.named_modules() if "lora_dropout" in name and module.training]
    for module in dropouts:
        module.eval()
    total, num_labels = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            loss, labels = label_loss(model, [rows[position] for position in batch])
            total += float(loss)
            num_labels += labels
    for module in dropouts:
        module.train()
    return total / num_labels


def check_parity(model: Any, row: Row) -> None:
    """Make sure that `label_loss` is this model's loss as transformers computes it, with its own attention.

    Some architectures scale or cap their logits, or attend in their own way.

    Raises:
        Mismatch: it is not.
    """
    base = model.get_base_model()
    ids = torch.tensor([row.ids], device=base.device)
    labels = ids.clone()
    labels[:, : row.num_prompt] = -100
    ours_by_name = base.config._attn_implementation
    with torch.inference_mode():
        total, num_labels = label_loss(model, [row])
        base.set_attn_implementation("sdpa")
        own = float(model(input_ids=ids, labels=labels, use_cache=False).loss)
        base.set_attn_implementation(ours_by_name)
    ours = float(total) / num_labels
    if not abs(ours - own) <= PARITY_TOLERANCE * max(own, 1.0):
        kind = base.config.model_type
        raise Mismatch(f"models of type {kind!r} cannot be trained here: their own loss is {own:.4f}, ours {ours:.4f}")


def save_adapter(
    model: Any,
    weights: dict[str, torch.Tensor],
    base_name: str,
    folder: Path,
    first: Weights | None = None,
) -> None:
    """Write the adapter as PEFT does, so that `PeftModel.from_pretrained` reads the folder.

    Args:
        weights: float32, by parameter name.
        base_name: stands in the config where PEFT would write a path of this machine.
        first: the weights before training; see `export_weights`.

    Raises:
        BakeoffError: a weight is not finite.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    broken = [name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise BakeoffError(f"the adapter has weights that are not finite ({broken[0]}); lower learning_rate")
    config, exported = export_weights(model.peft_config["default"], weights, first)
    named = get_peft_model_state_dict(model, state_dict=exported, save_embedding_layers=False)
    tensors = {name: weight.contiguous().cpu() for name, weight in named.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    config.base_model_name_or_path = base_name
    config.inference_mode = True
    config.save_pretrained(str(folder))
