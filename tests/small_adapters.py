"""Real LoRA folders made by hand: two projections of the real base model, a few kilobytes, written without torch."""

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from bakeoff.artefacts import adapters_dir, write_artefact
from bakeoff.models import hash_model

MODULES = {"model.layers.0.self_attn.q_proj": (576, 576), "model.layers.3.mlp.down_proj": (576, 1536)}
"""Module of the shipped base model -> (out, in)."""

hash_base = cache(hash_model)


def make_tensors(seed: int = 0, size: float = 0.05, rank: int = 2) -> dict[str, Any]:
    """Random pairs of matrices."""
    random = np.random.default_rng(seed)
    tensors = {}
    for module, (out, width) in MODULES.items():
        for side, shape in (("A", (rank, width)), ("B", (out, rank))):
            drawn = random.normal(0, size, shape).astype(np.float32)
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = drawn
    return tensors


def write_peft_folder(folder: Path, tensors: Mapping[str, Any], **config: Any) -> None:
    """What PEFT writes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "adapter_model.safetensors")
    names = [module.rsplit(".", 1)[-1] for module in MODULES]
    fields = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": names}
    fields |= {"layers_to_transform": [0, 3], "init_lora_weights": True, "bias": "none", "inference_mode": True}
    (folder / "adapter_config.json").write_text(json.dumps({**fields, **config}))


def write_small_adapter(
    home: Path,
    base_dir: Path,
    domain: str = "d",
    *,
    seed: int = 0,
    tensors: Mapping[str, Any] | None = None,
    documents: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    template: str | None = None,
    config: Mapping[str, Any] | None = None,
    **facts: Any,
) -> str:
    """Write an adapter of the base model as training does.

    Args:
        documents: it learned from.
        groups: of these at the training, where written down.
        template: another chat template than the base model's.
        facts: of the manifest, over the usual ones.

    Returns:
        its digest.
    """

    def fill(folder: Path) -> None:
        write_peft_folder(folder, make_tensors(seed) if tensors is None else tensors, **(config or {}))
        shutil.copyfile(base_dir / "chat_template.jinja", folder / "chat_template.jinja")
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)

    lineage = {"documents": list(documents), "examples": []} | ({} if groups is None else {"groups": groups})
    manifest = {"domain": domain, "method": "sft", "base_model": base_dir.name, "base_sha256": hash_base(base_dir)}
    return write_artefact(adapters_dir(home), "adapter", {**manifest, "seed": seed, "lineage": lineage, **facts}, fill)[
        0
    ]
