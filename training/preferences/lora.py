"""Low-rank changes as plain matrices: read from an adapter, added to a model, joined, and written as one plain LoRA.

A training that starts from an adapter adds that adapter to the base weights in memory and learns a fresh one on top.
What it hands on has to stand on the original base again: W + B0 A0 + B1 A1 = W + [B0 B1] [A0; A1] (Hu et al. 2021,
section 4.1), so both changes become one LoRA of the ranks of both, which every engine can serve.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct

from bakeoff.adapter_files import WEIGHTS_FILE, read_pairs
from bakeoff.errors import BakeoffError, Mismatch
from bakeoff.tensors import Tensors

_PREFIX = "base_model.model."


class Change(Struct, frozen=True):
    """What a LoRA adds to one weight: up @ down."""

    down: torch.Tensor
    """(rank, in), float32."""
    up: torch.Tensor
    """(out, rank), float32, the scale folded in."""


Changes = dict[str, Change]
"""By path of the module in the base model, `model.layers.0.self_attn.q_proj`."""


def read_changes(folder: Path, base_dir: Path) -> Changes:
    """Read the changes of an adapter, or of a reward model, to the base model.

    Raises:
        Mismatch: it is damaged, does not fit this base model, or is no sum of two matrices.
    """
    base = Tensors(base_dir.glob("*.safetensors"))
    pairs = read_pairs(folder, {name: base.shape(name) for name in base.names})
    if any(pair.magnitude is not None for pair in pairs.values()):
        raise Mismatch(
            f"adapter {folder.name} cannot be started from: DoRA's magnitudes cannot be joined with another change; "
            "name a plain LoRA with --from, or --from base"
        )
    return {
        name.removesuffix(".weight"): Change(torch.tensor(pair.down), pair.scale * torch.tensor(pair.up))
        for name, pair in pairs.items()
    }


def learned_changes(model: Any, adapter: str = "default") -> Changes:
    """Take the changes out of a PEFT model that was trained."""
    return {
        name.removeprefix(_PREFIX): Change(
            module.lora_A[adapter].weight.detach().float().cpu().clone(),
            module.scaling[adapter] * module.lora_B[adapter].weight.detach().float().cpu(),
        )
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and adapter in module.lora_A
    }


def add_changes(model: Any, changes: Mapping[str, Change]) -> None:
    """Add the changes to a plain model's weights, in place.

    Raises:
        Mismatch: the model has no such weight.
    """
    modules = dict(model.named_modules())
    with torch.no_grad():
        for path, change in changes.items():
            module = modules.get(path)
            delta = change.up @ change.down
            if module is None or module.weight.shape != delta.shape:
                raise Mismatch(f"the adapter changes {path} by {tuple(delta.shape)}, which this base model lacks")
            module.weight += delta.to(module.weight)


def join_changes(first: Mapping[str, Change], second: Mapping[str, Change]) -> Changes:
    """Join two sets of changes into one that does what both do, all of one rank.

    Where only one of them changes a weight, zeros make up the rank: engines want a single rank.
    """
    if not first:
        return dict(second)
    parts = [_of_one_rank(changes, {*first, *second}, {**first, **second}) for changes in (first, second)]
    return {
        path: Change(
            torch.cat([part[path].down for part in parts]), torch.cat([part[path].up for part in parts], dim=1)
        )
        for path in sorted(parts[0])
    }


def write_changes(changes: Mapping[str, Change], base_name: str, folder: Path, num_layers: int = 0) -> None:
    """Write the changes as PEFT writes a LoRA whose alpha is its rank, so that its scale is 1.

    Args:
        base_name: stands in the config where PEFT would write a path of this machine.
        num_layers: of the base model; projections that are changed in each of them are named without their layer.

    Raises:
        BakeoffError: a weight is not finite, or nothing was learned.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    weights: dict[str, torch.Tensor] = {}
    for path, change in changes.items():
        weights[f"{_PREFIX}{path}.lora_A.weight"] = change.down.contiguous()
        weights[f"{_PREFIX}{path}.lora_B.weight"] = change.up.contiguous()
    broken = [name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise BakeoffError(f"the adapter has weights that are not finite ({broken[0]}); lower learning_rate")
    if not any(bool(change.up.any()) for change in changes.values()):
        raise BakeoffError("the adapter learned nothing: all its changes are zero; raise learning_rate or the steps")
    by_name: dict[str, list[str]] = {}
    for path in changes:
        by_name.setdefault(path.rsplit(".", 1)[-1], []).append(path)
    everywhere = all(len(paths) == num_layers for paths in by_name.values())
    rank = len(next(iter(changes.values())).down)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        target_modules=sorted(by_name) if everywhere else sorted(changes),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        inference_mode=True,
    )
    save_file(weights, folder / WEIGHTS_FILE)
    config.save_pretrained(str(folder))


def _of_one_rank(changes: Mapping[str, Change], paths: Iterable[str], shapes: Mapping[str, Change]) -> Changes:
    """The changes at all these paths, filled up with zeros to the highest rank among them."""
    rank = max(len(change.down) for change in changes.values())
    filled: Changes = {}
    for path in paths:
        down = torch.zeros(rank, shapes[path].down.shape[1])
        up = torch.zeros(len(shapes[path].up), rank)
        if path in changes:
            own = len(changes[path].down)
            down[:own], up[:, :own] = changes[path].down, changes[path].up
        filled[path] = Change(down, up)
    return filled
