"""Base model, as transformers keeps it -> folder the embedded engine serves. The only step that needs torch.

The graph is traced, its weights are packed, and before the folder takes its place the engine's own pipeline scores a
short text: log-probabilities that differ from transformers' mean an architecture that was exported wrongly, and the
export is refused.
"""

import logging
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bakeoff.errors import BadInput, Mismatch, NotReady
from bakeoff.models import hash_model
from bakeoff.tensors import Tensors
from service.embedded.manifest import MANIFEST_FILE, EngineManifest, is_current, read_manifest, written_at_once
from service.embedded.packing import find_weights, pack_weights
from service.embedded.runtime import MODEL_FILE, Precision, ov
from service.embedded.scoring import score_tokens

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TOLERANCES: dict[Precision, float] = {"float32": 0.01, "int8": 0.3}
"""Largest mean difference of log-probabilities, in nats per token, between transformers in float32 and the export."""

_MIN_WEIGHT_SIZE = 4096


def export_base(model_dir: Path, engine_dir: Path, precision: Precision = "float32") -> Path:
    """Export a base model, unless the folder is there and current.

    Args:
        model_dir: Hugging Face folder: config, safetensors, tokenizer.
        engine_dir: gets a folder `<name of the model>-<precision>`.
        precision: arithmetic and storage of the weights, see `runtime`.

    Returns:
        the engine folder.

    Raises:
        NotReady: no such base model.
        BadInput: its architecture cannot be served by this engine.
    """
    target = engine_dir / f"{model_dir.name}-{precision}"
    base_digest = _hash_base(model_dir)
    if is_current(target, base_digest, "", precision):
        return target

    from service.embedded.graph import load_decoder, measure_cache, trace_decoder

    logger.info("export started base_model=%s precision=%s", model_dir.name, precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of every Python branch it passes; the check below judges
        model = load_decoder(model_dir)
        shape = measure_cache(model)
        graph = trace_decoder(model, shape)
    tensors = Tensors(model_dir.glob("*.safetensors"))
    names = {name for name in tensors.names if len(tensors.shape(name)) == 2}
    names = {name for name in names if np.prod(tensors.shape(name)) >= _MIN_WEIGHT_SIZE}
    pack_weights(graph, {name: tensors.read(name) for name in sorted(find_weights(graph, names))}, precision)
    config: Any = model.config
    manifest = EngineManifest(
        base_model=model_dir.name,
        base_digest=base_digest,
        precision=precision,
        window=config.max_position_embeddings,
        cache_shape=shape,
        versions={name: version(name) for name in ("openvino", "openvino-genai", "torch", "transformers")},
    )
    with written_at_once(target) as folder:
        ov.save_model(graph, folder / MODEL_FILE, compress_to_fp16=False)
        (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        _check_against(model, folder)
    logger.info("export finished folder=%s", target)
    return target


def find_export(model_dir: Path, engine_dir: Path, precision: Precision = "float32") -> Path:
    """Find what `export_base` wrote for this base model, and check that it was made from these weights.

    Raises:
        NotReady: no such base model, or it was not exported in this precision.
        Mismatch: it was exported from other weights, or the export is damaged.
    """
    target = engine_dir / f"{model_dir.name}-{precision}"
    base_digest = _hash_base(model_dir)
    if read_manifest(target).base_digest != base_digest:
        raise Mismatch(f"{target} was exported from other weights. Run: bakeoff models prepare")
    return target


def _hash_base(model_dir: Path) -> str:
    if not (model_dir / "config.json").is_file():
        raise NotReady(f"{model_dir} holds no base model. Run: bakeoff models prepare")
    return hash_model(model_dir)


def _check_against(model: "torch.nn.Module", folder: Path) -> None:
    import torch

    config: Any = model.config
    manifest = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes(), type=EngineManifest)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, 80).tolist()
    with torch.no_grad():
        wanted = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0, :-1].float(), dim=-1)
    reference = wanted[torch.arange(16, 79), torch.tensor(tokens[17:])].numpy()
    scored = np.array(score_tokens(folder, manifest, [(tokens[:17], tokens[17:])])[0])
    difference = float(np.abs(scored - reference).mean())
    if not difference <= TOLERANCES[manifest.precision]:
        raise BadInput(
            f"{config.model_type}: exported log-probabilities differ from transformers' by {difference:.3f} on "
            f"average, more than {TOLERANCES[manifest.precision]}; the embedded engine cannot serve this architecture"
        )
