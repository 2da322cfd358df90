"""Folder of a sentence-transformers model -> OpenVINO graph from token ids to unit vectors, kept in a cache folder.

The encoder is traced once, with pooling and normalisation inside the graph, and compared with sentence-transformers on
a few texts before it is kept: what this module does not know of (a prompt, another pooling, a tokenizer that its files
do not describe) shows there, and the model is refused as `Unsupported` instead of embedding wrongly. The folder is
named by what it was made from, so that another model or another OpenVINO finds none and makes its own.
"""

import json
import logging
import shutil
import uuid
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bakeoff.artefacts import MANIFEST, digest_of, hash_file, write_json
from bakeoff.models import hash_model
from bakeoff.no_telemetry import import_openvino
from retrieval.recipe import Recipe, Unsupported, open_tokenizer

logger = logging.getLogger(__name__)

Precision = Literal["bf16", "f32"]

MIN_COSINE = 0.999
"""Least agreement with sentence-transformers on each text of the check; all-MiniLM-L6-v2 has 0.99997 in bf16."""

_FORMAT = 1
_GRAPH = "encoder.xml"
_WEIGHTS = "encoder.bin"
_CHECK_TEXTS = (
    "",
    "Is breakfast included?",
    "CAFÉ Zoë's naïve PIÑATA costs £12.50, i.e. 15 €!",
    "北京的冬天 и зима в Москве",
    "The pool opens at 8 am in summer, and guests of the annex may use it too. " * 5,
    " ".join(f"Room {number} is longer than any window." for number in range(2000)),
)


def prepare_graph(model_dir: Path, recipe: Recipe, cache_dir: Path) -> Path:
    """Convert the model, unless its graph is in the cache, whole.

    Returns:
        the graph's file.

    Raises:
        Unsupported: it cannot be converted, or the graph does not agree with sentence-transformers.
    """
    source = {"model": hash_model(recipe.encoder_dir), "pooling": recipe.pooling, "max_tokens": recipe.max_tokens}
    facts = {"format": _FORMAT, "source": source, "openvino": version("openvino"), "weights": "float32"}
    folder = cache_dir / digest_of(facts)
    if folder.exists():
        damage = _find_damage(folder, facts)
        if not damage:
            return folder / _GRAPH
        logger.warning("the converted embedder at %s is damaged and made again: %s", folder, damage)
        shutil.rmtree(folder, ignore_errors=True)
    logger.info("embedder conversion started model=%s", model_dir)
    try:
        _convert(model_dir, recipe, folder, facts)
    except OSError as error:
        raise Unsupported(f"its graph cannot be kept in {cache_dir}: {error}") from error
    logger.info("embedder conversion finished folder=%s", folder)
    return folder / _GRAPH


def find_precision() -> Precision:
    """Choose bf16 where the CPU computes in it natively, else f32."""
    capabilities = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"


def compile_graph(graph: Path, precision: Precision) -> Any:
    """Compile for one request at a time on all cores; requests of several threads wait in line.

    Returns:
        openvino.CompiledModel, (ids, mask) of (n, length) int64 -> (n, dim) float32.
    """
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    return import_openvino().Core().compile_model(graph, "CPU", properties)


def pad_rows(rows: Sequence[list[int]], length: int, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad token ids to one length; (ids, mask), both (n, length)."""
    ids = np.full((len(rows), length), pad_id, np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return ids, mask


def _find_damage(folder: Path, facts: dict[str, Any]) -> str:
    """Say what is wrong with a folder of the cache; empty where it is whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if {key: manifest[key] for key in facts} != facts:
            return "its manifest names another source"
        changed = [name for name in (_GRAPH, _WEIGHTS) if manifest["files"][name] != hash_file(folder / name)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{', '.join(changed)} changed" if changed else ""


def _convert(model_dir: Path, recipe: Recipe, folder: Path, facts: dict[str, Any]) -> None:
    partial = folder.with_name(f".{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        import_openvino().save_model(_trace(recipe), partial / _GRAPH, compress_to_fp16=False)
        precision = find_precision()
        cosine = _compare(model_dir, recipe, compile_graph(partial / _GRAPH, precision))
        if not cosine >= MIN_COSINE:
            raise Unsupported(f"its graph agrees with sentence-transformers only to a cosine of {cosine:.4f}")
        files = {path.name: hash_file(path) for path in sorted(partial.iterdir())}
        checked = {"precision": precision, "cosine": round(cosine, 6)}
        write_json(partial / MANIFEST, {**facts, "checked": checked, "files": files})
        try:
            partial.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was quicker; both made the same
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _trace(recipe: Recipe) -> Any:
    import torch
    from transformers import AutoModel

    class Encoder(torch.nn.Module):
        """(ids, mask) -> unit vectors."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.to(states.dtype).unsqueeze(-1)
            pooled = states[:, 0] if recipe.pooling == "cls" else (states * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(pooled, dim=1)

    ov = import_openvino()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of every Python branch the tracer passes; the comparison judges
            model: Any = AutoModel.from_pretrained(
                recipe.encoder_dir, dtype=torch.float32, attn_implementation="eager", local_files_only=True
            )
            mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
            graph = ov.convert_model(Encoder(model.eval()), example_input=(torch.ones_like(mask), mask))
        for port in graph.inputs:
            port.get_node().set_partial_shape(ov.PartialShape([-1, -1]))
        graph.validate_nodes_and_infer_types()
    except Exception as error:
        raise Unsupported(f"it cannot be converted: {error}") from error
    return graph


def _compare(model_dir: Path, recipe: Recipe, compiled: Any) -> float:
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(str(model_dir), device="cpu", local_files_only=True)
        if model.max_seq_length != recipe.max_tokens:
            raise Unsupported(f"it reads {model.max_seq_length} tokens, not {recipe.max_tokens}")
        wanted = model.encode(list(_CHECK_TEXTS), normalize_embeddings=True, show_progress_bar=False)
        encodings = open_tokenizer(recipe, truncates=True).encode_batch_fast(list(_CHECK_TEXTS))
        rows = [encoding.ids for encoding in encodings]
        made = compiled(pad_rows(rows, max(map(len, rows)), recipe.pad_id))[0]
        return float((wanted * made).sum(axis=1).min())
    except Unsupported:
        raise
    except Exception as error:
        raise Unsupported(f"its graph cannot be compared with sentence-transformers: {error}") from error
