"""OpenVINO as this product uses it: telemetry off, one way to open a pipeline, one table of precisions.

The settings decide what a token is worth. `float32` computes in float32 with a float32 key/value cache: answers do not
depend on what else is in the batch. `int8` stores weights as int8 and lets the CPU quantise activations too: faster and
smaller, further from the trained model, and an answer may change with its neighbours. Measured in decision 0004.
"""

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from bakeoff.no_telemetry import TELEMETRY_BLOCKED

# isort: split
import openvino as ov
import openvino_genai as genai
from openvino import opset13 as ops

__all__ = [
    "BLOCK_TOKENS",
    "MODEL_FILE",
    "TELEMETRY_BLOCKED",
    "CacheShape",
    "Precision",
    "count_blocks",
    "genai",
    "open_pipeline",
    "ops",
    "ov",
]

Precision = Literal["float32", "int8"]

BLOCK_TOKENS = 32
"""Tokens in one block of the paged key/value cache on CPU, the unit in which prefixes are kept."""

MAX_STREAMS = 64
"""Sequences in one step."""

MODEL_FILE = "openvino_model.xml"


class CacheShape(Struct, frozen=True):
    """What one token costs in the key/value cache."""

    num_layers: int
    num_heads: int
    """Key/value heads of one layer."""
    key_dim: int
    value_dim: int


def count_blocks(shape: CacheShape, precision: Precision, cache_mib: int) -> int:
    """Count the cache blocks that fit.

    Args:
        shape: of the model.
        precision: float32 keeps 4 bytes per value; int8 one, and 8 bytes of scale per head.
        cache_mib: memory for the cache, MiB.

    Returns:
        blocks of `BLOCK_TOKENS` tokens, at least one.
    """
    per_head = (shape.key_dim + shape.value_dim) * 4 if precision == "float32" else shape.key_dim + shape.value_dim + 16
    per_block = shape.num_layers * shape.num_heads * per_head * BLOCK_TOKENS
    return max(1, cache_mib * 2**20 // per_block)


def open_pipeline(
    folder: Path,
    precision: Precision,
    num_blocks: int,
    num_threads: int,
    tokenizer_folder: Path | None = None,
    *,
    keeps_prefixes: bool = True,
) -> genai.ContinuousBatchingPipeline:
    """Compile the model of a folder for continuous batching.

    Args:
        folder: written by `export_base` or `fold_adapter`.
        precision: the one it was written in.
        num_blocks: size of the key/value cache.
        num_threads: 0 takes every core.
        tokenizer_folder: written by `convert_tokenizer`, for answers in a given form.
        keeps_prefixes: off for scoring, where every prompt token must be computed.
    """
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 0
    scheduler.num_kv_blocks = num_blocks
    scheduler.max_num_seqs = MAX_STREAMS
    scheduler.max_num_batched_tokens = 512
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = keeps_prefixes
    properties = _properties(precision, num_threads)
    if tokenizer_folder is None:
        return genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", properties)
    tokenizer = genai.Tokenizer(tokenizer_folder)
    return genai.ContinuousBatchingPipeline(folder, tokenizer, scheduler, "CPU", **properties)


def _properties(precision: Precision, num_threads: int) -> dict[str, Any]:
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision == "float32":
        # Each of the three defaults (bf16 arithmetic, u8 cache, quantised activations) changes greedy answers.
        properties |= {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        properties |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    if num_threads:
        properties["INFERENCE_NUM_THREADS"] = num_threads
    return properties
