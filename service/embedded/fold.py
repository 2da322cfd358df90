"""LoRA adapter + base model -> weights of their own: W + scale * B @ A, in float32, packed and written once.

With DoRA each row of the sum is then brought to its learned length. Folding costs disk and memory for each adapter, and
nothing per token. What matters more: it fails loudly. Every tensor of the adapter must land on a weight of the base
model; an adapter that would change nothing, that holds NaN, or that was trained in a way this sum does not express is
refused (`bakeoff.adapter_files`), never served as if it were the base model.
"""

import logging
from importlib.metadata import version
from pathlib import Path

import msgspec

from bakeoff.adapter_files import read_facts, read_pairs
from bakeoff.tensors import Tensors
from service.embedded.manifest import MANIFEST_FILE, is_current, read_manifest, written_at_once
from service.embedded.packing import pack_weights
from service.embedded.runtime import MODEL_FILE, ov

logger = logging.getLogger(__name__)


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
    read_facts(adapter_dir, base.base_digest, base.base_model)
    digest = adapter_dir.name
    target = cache_dir / f"{digest}-{base.precision}"
    if is_current(target, base.base_digest, digest, base.precision):
        return target
    tensors = Tensors(model_dir.glob("*.safetensors"))
    pairs = read_pairs(adapter_dir, {name: tensors.shape(name) for name in tensors.names})
    graph = ov.Core().read_model(engine_dir / MODEL_FILE)
    pack_weights(graph, {name: pair.fold(tensors.read(name)) for name, pair in pairs.items()}, base.precision)
    versions = {**base.versions, "openvino": version("openvino")}
    manifest = msgspec.structs.replace(base, adapter_digest=digest, versions=versions)
    with written_at_once(target) as folder:
        ov.save_model(graph, folder / MODEL_FILE, compress_to_fp16=False)
        (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    logger.info("adapter folded folder=%s num_weights=%d", target, len(pairs))
    return target
