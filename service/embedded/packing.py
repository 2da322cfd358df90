"""Puts weights into an OpenVINO graph in the form it is served in.

A weight becomes a small constant and the nodes that widen it: float16 -> float32, or int8 in groups of 32 -> times a
float32 scale. The last of these nodes bears the parameter's name, which is how the weights of an adapter find the place
of the base model's later. OpenVINO recognises both patterns and keeps the small constant on disk.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bakeoff.errors import Mismatch
from bakeoff.tensors import Array
from service.embedded.runtime import Precision, ops, ov

GROUP = 32
"""Weights that share an int8 scale: half the error of one scale per row, at the same speed."""


def find_weights(model: ov.Model, names: set[str]) -> dict[str, Any]:
    """Find the nodes that bear the names of parameters."""
    return {op.get_friendly_name(): op for op in model.get_ordered_ops() if op.get_friendly_name() in names}


def pack_weights(model: ov.Model, weights: Mapping[str, Array], precision: Precision) -> None:
    """Replace parameters of a graph, in place.

    Args:
        model: with nodes that bear the parameters' names.
        weights: by name, (out, in) float32.
        precision: of the stored constants.

    Raises:
        Mismatch: a parameter the graph does not have, or in another shape, or beyond float16.
    """
    nodes = find_weights(model, set(weights))
    for name, weight in weights.items():
        if name not in nodes:
            raise Mismatch(f"the exported model has no weight called {name}")
        node = nodes[name]
        if tuple(node.get_output_shape(0)) != weight.shape:
            raise Mismatch(f"{name} is {weight.shape}, the model wants {tuple(node.get_output_shape(0))}")
        readers = node.output(0).get_target_inputs()
        packed = (
            _pack_int8(weight) if precision == "int8" and weight.shape[1] % GROUP == 0 else _pack_half(name, weight)
        )
        node.set_friendly_name(f"{name}.replaced")
        packed.set_friendly_name(name)
        for reader in readers:
            reader.replace_source_output(packed.output(0))
    model.validate_nodes_and_infer_types()


def _pack_half(name: str, weight: Array) -> Any:
    half = weight.astype(np.float16)
    if not np.isfinite(half).all():
        raise Mismatch(f"{name} holds values up to {np.abs(weight).max():.3g}, more than float16 can store")
    node = ops.convert(ops.constant(half), "f32")
    node.get_rt_info()["decompression"] = ""
    return node


def _pack_int8(weight: Array) -> Any:
    rows, columns = weight.shape
    grouped = weight.reshape(rows, columns // GROUP, GROUP)
    scale = np.abs(grouped).max(axis=2, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    quantised = np.rint(grouped / scale).astype(np.int8)
    widened = ops.multiply(ops.convert(ops.constant(quantised), "f32"), ops.constant(scale.astype(np.float32)))
    return ops.reshape(widened, ops.constant(np.array([rows, columns], dtype=np.int64)), False)
