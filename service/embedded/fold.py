"""LoRA adapter + base model -> weights of their own: W + scale * B @ A, in float32, packed and written once.

Folding costs disk and memory for each adapter, and nothing per token. What matters more: it fails loudly. Every tensor
of the adapter must land on a weight of the base model; an adapter that would change nothing, that holds NaN, or that
was trained in a way this sum does not express is refused, never served as if it were the base model.
"""

import logging
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bakeoff.artefacts import digest_of
from bakeoff.artefacts import read_manifest as read_artefact
from bakeoff.errors import Mismatch
from service.embedded.manifest import MANIFEST_FILE, is_current, read_manifest, written_at_once
from service.embedded.packing import pack_weights
from service.embedded.runtime import MODEL_FILE, ov
from service.embedded.tensors import Array, Tensors

logger = logging.getLogger(__name__)

KIND = "adapter"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_KEEPS_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations of PEFT that leave the base weights as they were."""


class _LoraConfig(msgspec.Struct):
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


def fold_adapter(adapter_dir: Path, model_dir: Path, engine_dir: Path, cache_dir: Path) -> Path:
    """Write the weights of base and adapter together, unless they are there and current.

    Args:
        adapter_dir: artefact of training, named by its digest; as PEFT saves it: `adapter_config.json`,
            `adapter_model.safetensors`.
        model_dir: Hugging Face folder of the base model.
        engine_dir: the base model, exported from that folder.
        cache_dir: gets a folder named by the digest of the adapter.

    Returns:
        the engine folder of the adapter.

    Raises:
        NotFound: no such adapter.
        Mismatch: the adapter is damaged, changes nothing, or does not fit this base model.
    """
    base = read_manifest(engine_dir)
    facts = read_artefact(adapter_dir, KIND)
    digest = digest_of(facts)
    if digest != adapter_dir.name:
        raise Mismatch(f"adapter {adapter_dir.name} is not what its name says: its manifest has digest {digest}")
    if facts.get("base_sha256") != base.base_digest:
        raise Mismatch(
            f"adapter {digest} was trained on {facts.get('base_model')} (sha256 {str(facts.get('base_sha256'))[:12]}), "
            f"this engine serves {base.base_model} (sha256 {base.base_digest[:12]})"
        )
    target = cache_dir / f"{digest}-{base.precision}"
    if is_current(target, base.base_digest, digest, base.precision):
        return target
    tensors = Tensors(model_dir.glob("*.safetensors"))
    deltas = read_deltas(adapter_dir, {name: tensors.shape(name) for name in tensors.names})
    graph = ov.Core().read_model(engine_dir / MODEL_FILE)
    pack_weights(graph, {name: tensors.read(name) + delta for name, delta in deltas.items()}, base.precision)
    versions = {**base.versions, "openvino": version("openvino")}
    manifest = msgspec.structs.replace(base, adapter_digest=digest, versions=versions)
    with written_at_once(target) as folder:
        ov.save_model(graph, folder / MODEL_FILE, compress_to_fp16=False)
        (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    logger.info("adapter folded folder=%s num_weights=%d", target, len(deltas))
    return target


def read_deltas(adapter_dir: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """Read an adapter as what it adds to each weight.

    Args:
        adapter_dir: as PEFT saves it.
        shapes: of the base model's parameters, by name.

    Returns:
        scale * B @ A, (out, in) float32, by parameter name.

    Raises:
        Mismatch: see `fold_adapter`.
    """
    config = _read_config(adapter_dir / CONFIG_FILE)
    path = adapter_dir / WEIGHTS_FILE
    if not path.is_file():
        raise Mismatch(f"{adapter_dir} holds no {WEIGHTS_FILE}")
    tensors = Tensors([path])
    modules = {name.removesuffix(".lora_A.weight") for name in tensors.names if name.endswith(".lora_A.weight")}
    expected = {f"{module}.lora_{side}.weight" for module in modules for side in "AB"}
    if tensors.names != expected or not modules:
        odd = sorted(tensors.names ^ expected)[:3]
        raise Mismatch(f"{path} does not consist of pairs of LoRA matrices: {', '.join(odd) or 'it is empty'}")
    deltas = {}
    for module in sorted(modules):
        down, up = (tensors.read(f"{module}.lora_{side}.weight") for side in "AB")
        name = f"{module.removeprefix(_PREFIX)}.weight"
        if not module.startswith(_PREFIX) or name not in shapes:
            raise Mismatch(f"{path}: {module} is no module of the base model, which has no weight {name}")
        if down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0] or shapes[name] != (len(up), down.shape[1]):
            raise Mismatch(f"{path}: {module} has A {down.shape} and B {up.shape}; the base weight is {shapes[name]}")
        if not (np.isfinite(down).all() and np.isfinite(up).all()):
            raise Mismatch(f"{path}: {module} holds NaN or infinite values")
        rank = len(down)
        scale = np.float32(config.lora_alpha / (math.sqrt(rank) if config.use_rslora else rank))
        deltas[name] = scale * (up @ down)
    if not any(delta.any() for delta in deltas.values()):
        raise Mismatch(f"{path} changes nothing: every product of its matrices is zero, as before training")
    return deltas


def _read_config(path: Path) -> _LoraConfig:
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_LoraConfig)
    except FileNotFoundError as error:
        raise Mismatch(f"{path} does not exist; an adapter folder must hold it") from error
    except msgspec.DecodeError as error:
        raise Mismatch(f"{path} does not parse: {error}") from error
    unsupported = {
        f"peft_type {config.peft_type}": config.peft_type != "LORA",
        "use_dora": config.use_dora,
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
        raise Mismatch(f"{path}: the embedded engine folds plain LoRA only, this adapter has {', '.join(found)}")
    return config
