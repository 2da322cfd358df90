"""What an adapter's folder has to be, checked without torch: whoever promotes, loads or folds one comes here.

An adapter that does not do what it says must be refused, never served as if it were the base model. So the folder has
to match its manifest and its name, belong to this base model and this chat template, hold no pickle, and consist of
pairs of finite LoRA matrices that fit the base model's weights and change at least one of them. Each refusal has a
sentence of its own.
"""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bakeoff.artefacts import digest_of, read_manifest
from bakeoff.errors import Mismatch
from bakeoff.tensors import Array, Tensors

KIND = "adapter"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
TEMPLATE_FILE = "chat_template.jinja"

_PREFIX = "base_model.model."
_MAGNITUDE = "lora_magnitude_vector"
_KEEPS_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations of PEFT that leave the base weights as they were."""


class LoraConfig(msgspec.Struct):
    """The fields of PEFT's LoraConfig that decide what the adapter computes."""

    peft_type: str
    r: int
    lora_alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    modules_to_save: list[str] | None = None
    trainable_token_indices: Any = None
    layer_replication: Any = None


class Pair(msgspec.Struct, frozen=True):
    """What one weight of the base model becomes."""

    down: Array
    """A, (rank, in) float32."""
    up: Array
    """B, (out, rank) float32."""
    scale: float
    magnitude: Array | None = None
    """(out,) float32, the length of each row; DoRA only."""

    @property
    def delta(self) -> Array:
        """What is added, (out, in) float32: scale * B @ A."""
        return np.float32(self.scale) * (self.up @ self.down)

    def fold(self, weight: Array) -> Array:
        """The weight of base and adapter together, (out, in) float32.

        Source: Hu et al. 2021, section 4.1; with magnitudes Liu et al. 2024 (DoRA), equation 5.
        """
        folded = weight + self.delta
        if self.magnitude is not None:
            folded *= (self.magnitude / np.linalg.norm(folded, axis=1))[:, None]
        return folded


def check_adapter_folder(folder: Path, base_dir: Path, base_digest: str) -> None:
    """Refuse an adapter that must not serve.

    Args:
        folder: of the adapter, named by its digest.
        base_dir: Hugging Face folder of the base model.
        base_digest: `bakeoff.models.hash_model` of it.

    Raises:
        NotFound: no such folder.
        Mismatch: damaged, renamed, of another base model or chat template, with pickle files, without its config, or
            with matrices that do not fit, are not finite, or change nothing.
    """
    read_facts(folder, base_digest, base_dir.name)
    check_template(folder, read_template(base_dir), base_dir.name)
    base = Tensors(base_dir.glob("*.safetensors"))
    read_pairs(folder, {name: base.shape(name) for name in base.names})


def read_facts(folder: Path, base_digest: str, base_model: str) -> dict[str, Any]:
    """The manifest of an intact adapter of this base model.

    Raises:
        NotFound: no such folder.
        Mismatch: it is damaged, is not what its name says, or was trained on another base model.
    """
    facts = read_manifest(folder, KIND)
    digest = digest_of(facts)
    if digest != folder.name:
        raise Mismatch(f"adapter {folder.name} is not what its name says: its manifest has digest {digest}")
    if facts.get("base_sha256") != base_digest:
        raise Mismatch(
            f"adapter {digest} was trained on {facts.get('base_model')} (sha256 {str(facts.get('base_sha256'))[:12]}), "
            f"this engine serves {base_model} (sha256 {base_digest[:12]})"
        )
    return facts


def read_template(base_dir: Path) -> str:
    """The chat template of a Hugging Face folder: of its own file or of the tokenizer's config; empty without one."""
    path = base_dir / TEMPLATE_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    path = base_dir / "tokenizer_config.json"
    found = msgspec.json.decode(path.read_bytes()).get("chat_template") if path.is_file() else None
    if isinstance(found, list):  # several, by name
        found = {named["name"]: named["template"] for named in found}.get("default")
    return found or ""


def check_template(folder: Path, template: str, base_model: str) -> None:
    """Refuse an adapter whose prompts would be written otherwise than in its training.

    Raises:
        Mismatch: it has no chat template, or another one than the base model.
    """
    path = folder / TEMPLATE_FILE
    if not path.is_file():
        raise Mismatch(f"{path} is missing: it says how the prompts were written that the adapter learned from")
    if path.read_text(encoding="utf-8").strip() != template.strip():
        raise Mismatch(f"{path} is not the chat template of {base_model}; the adapter learned from other prompts")


def read_pairs(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Pair]:
    """Read an adapter as pairs of matrices.

    Args:
        folder: as PEFT saves it.
        shapes: of the base model's parameters, by name.

    Returns:
        by parameter name, sorted.

    Raises:
        Mismatch: a file is missing or damaged, the adapter is more than LoRA or DoRA, its matrices do not fit, are not
            finite, or change nothing.
    """
    config = read_config(folder / CONFIG_FILE)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise Mismatch(f"{folder} holds no {WEIGHTS_FILE}")
    tensors = Tensors([path])
    modules = {name.removesuffix(".lora_A.weight") for name in tensors.names if name.endswith(".lora_A.weight")}
    expected = {f"{module}.lora_{side}.weight" for module in modules for side in "AB"}
    if config.use_dora:
        expected |= {f"{module}.{_MAGNITUDE}" for module in modules}
    if tensors.names != expected or not modules:
        odd = sorted(tensors.names ^ expected)[:3]
        raise Mismatch(f"{path} does not consist of pairs of LoRA matrices: {', '.join(odd) or 'it is empty'}")
    pairs = {}
    for module in sorted(modules):
        down, up = (tensors.read(f"{module}.lora_{side}.weight") for side in "AB")
        name = f"{module.removeprefix(_PREFIX)}.weight"
        if not module.startswith(_PREFIX) or name not in shapes:
            raise Mismatch(f"{path}: {module} is no module of the base model, which has no weight {name}")
        if down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0] or shapes[name] != (len(up), down.shape[1]):
            raise Mismatch(f"{path}: {module} has A {down.shape} and B {up.shape}; the base weight is {shapes[name]}")
        magnitude = tensors.read(f"{module}.{_MAGNITUDE}") if config.use_dora else None
        if magnitude is not None and magnitude.shape != (len(up),):
            raise Mismatch(f"{path}: {module} has magnitudes {magnitude.shape}; the base weight is {shapes[name]}")
        if not all(np.isfinite(part).all() for part in (down, up, magnitude) if part is not None):
            raise Mismatch(f"{path}: {module} holds NaN or infinite values")
        rank = len(down)
        scale = config.lora_alpha / (math.sqrt(rank) if config.use_rslora else rank)
        pairs[name] = Pair(down, up, scale, magnitude)
    if not any(pair.delta.any() for pair in pairs.values()):
        raise Mismatch(f"{path} changes nothing: every product of its matrices is zero, as before training")
    return pairs


def read_config(path: Path) -> LoraConfig:
    """Read PEFT's config.

    Raises:
        Mismatch: missing, damaged, or of an adapter that is more than LoRA or DoRA.
    """
    try:
        config = msgspec.json.decode(path.read_bytes(), type=LoraConfig)
    except FileNotFoundError as error:
        raise Mismatch(f"{path} does not exist; an adapter folder must hold it") from error
    except msgspec.DecodeError as error:
        raise Mismatch(f"{path} does not parse: {error}") from error
    unsupported = {
        f"peft_type {config.peft_type}": config.peft_type != "LORA",
        "lora_bias": config.lora_bias,
        "fan_in_fan_out": config.fan_in_fan_out,
        f"bias {config.bias}": config.bias != "none",
        f"init_lora_weights {config.init_lora_weights}": config.init_lora_weights not in _KEEPS_BASE,
        "alpha_pattern": bool(config.alpha_pattern),
        "modules_to_save": bool(config.modules_to_save),
        "trainable_token_indices": bool(config.trainable_token_indices),
        "layer_replication": bool(config.layer_replication),
    }
    found = [name for name, is_set in unsupported.items() if is_set]
    if found:
        raise Mismatch(f"{path}: the embedded engine folds LoRA and DoRA only, this adapter has {', '.join(found)}")
    return config
