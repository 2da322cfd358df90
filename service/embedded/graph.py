"""Traces a decoder of transformers into a stateful OpenVINO graph.

The model runs once under the tracer with its key/value cache as plain inputs and outputs; then each pair becomes a
variable of the graph, reordered by `beam_idx` and empty at the start. That is the form whose attention GenAI replaces
by paged attention (SDPAToPagedAttention). What is more than plain causal attention over the whole past may be lost in
that replacement, so it is refused here rather than computed wrongly there.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from bakeoff.errors import BadInput
from service.embedded.runtime import CacheShape, ops, ov

# isort: split
from openvino._offline_transformations import apply_make_stateful_transformation, apply_moc_transformations

_UNSUPPORTED_ROPE = {"dynamic", "longrope"}


class _TracedCache:
    """As much of transformers' `Cache` as a decoder touches, over the tracer's tensors."""

    is_compileable = False

    def __init__(self, tensors: tuple[torch.Tensor, ...]) -> None:
        self.tensors = list(tensors)

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        at = 2 * layer
        self.tensors[at] = torch.cat([self.tensors[at], key], dim=-2)
        self.tensors[at + 1] = torch.cat([self.tensors[at + 1], value], dim=-2)
        return self.tensors[at], self.tensors[at + 1]

    def get_seq_length(self, *_: Any) -> int:
        return int(self.tensors[0].shape[-2])


class _Decoder(torch.nn.Module):
    """Tokens, mask, positions and cache in; logits and the longer cache out."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: torch.Tensor, attention: torch.Tensor, positions: torch.Tensor, *cache: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        queries = torch.arange(tokens.shape[1]) + cache[0].shape[2]
        keys = torch.arange(attention.shape[1])
        visible = (keys[None, :] <= queries[:, None])[None, None] & attention[:, None, None, :].bool()
        mask = torch.where(visible, 0.0, torch.finfo(torch.float32).min)
        traced = _TracedCache(cache)
        output = self.model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=traced, use_cache=True
        )
        return (output.logits, *traced.tensors)


def load_decoder(model_dir: Path) -> torch.nn.Module:
    """Load a causal language model in float32, from the folder only.

    Raises:
        BadInput: transformers has no causal language model of this architecture.
    """
    try:
        model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
        )
    except ValueError as error:
        raise BadInput(f"{model_dir} cannot be loaded as a causal language model: {error}") from error
    return model.eval()


def measure_cache(model: torch.nn.Module) -> CacheShape:
    """Run three tokens and look at the cache they leave.

    Raises:
        BadInput: attention that is not plain causal attention, alike in every layer.
    """
    config: Any = model.config
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if kind in _UNSUPPORTED_ROPE:
        raise BadInput(f"{config.model_type}: rope type {kind} changes with the length; the embedded engine cannot")
    with torch.no_grad():
        cache = model(input_ids=torch.ones(1, 3, dtype=torch.long), use_cache=True).past_key_values
    layers = list(getattr(cache, "layers", []))
    kinds = {type(layer).__name__ for layer in layers}
    shapes = (
        {(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in layers} if layers else set()
    )
    if kinds != {"DynamicLayer"} or len(shapes) != 1:
        raise BadInput(
            f"{config.model_type}: the embedded engine serves decoders with full causal attention in every layer, "
            f"this one has {', '.join(sorted(kinds)) or 'no cache'}. Use the vLLM engine for it"
        )
    num_heads, key_dim, value_dim = shapes.pop()
    return CacheShape(len(layers), num_heads, key_dim, value_dim)


def trace_decoder(model: torch.nn.Module, shape: CacheShape) -> ov.Model:
    """Trace a decoder into a stateful graph whose weights bear the names of the parameters.

    Raises:
        BadInput: this architecture cannot be traced.
    """
    batch, new, past = 2, 3, 4
    example = [
        torch.ones(batch, new, dtype=torch.long),
        torch.ones(batch, past + new, dtype=torch.long),
        torch.arange(past, past + new).repeat(batch, 1),
    ]
    dims = [shape.key_dim, shape.value_dim] * shape.num_layers
    example += [torch.zeros(batch, shape.num_heads, past, dim) for dim in dims]
    try:
        with torch.no_grad():
            graph = ov.convert_model(_Decoder(model), example_input=tuple(example))
    except Exception as error:
        config: Any = model.config
        raise BadInput(f"{config.model_type} cannot be exported for the embedded engine: {error}") from error
    cache_names = [f"{layer}.{part}" for layer in range(shape.num_layers) for part in ("key", "value")]
    _name_ports(graph, cache_names, shape.num_heads, dims)
    apply_moc_transformations(graph, cf=False)
    _reorder_by_beam(graph)
    pairs = {f"past_key_values.{name}": f"present.{name}" for name in cache_names}
    apply_make_stateful_transformation(graph, pairs)
    _start_empty(graph)
    for op in graph.get_ops():
        op.set_friendly_name(op.get_friendly_name().removeprefix("self.model."))
    return graph


def _name_ports(graph: ov.Model, cache_names: list[str], num_heads: int, dims: list[int]) -> None:
    names = ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{name}" for name in cache_names)]
    shapes = [[-1, -1]] * 3 + [[-1, num_heads, -1, dim] for dim in dims]
    for port, name, shape in zip(graph.inputs, names, shapes, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        port.get_node().set_partial_shape(ov.PartialShape(shape))
    for port, name in zip(graph.outputs, ["logits", *(f"present.{name}" for name in cache_names)], strict=True):
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()


def _reorder_by_beam(graph: ov.Model) -> None:
    beam = ops.parameter([-1], ov.Type.i32, name="beam_idx")
    beam.output(0).get_tensor().set_names({"beam_idx"})
    graph.add_parameters([beam])
    for port in graph.inputs:
        if port.get_any_name().startswith("past_key_values."):
            readers = port.get_target_inputs()
            reordered = ops.gather(port, beam, ops.constant(0))
            for reader in readers:
                reader.replace_source_output(reordered.output(0))
    graph.validate_nodes_and_infer_types()


def _start_empty(graph: ov.Model) -> None:
    tokens = ops.shape_of(graph.input("input_ids"), output_type="i64")
    batch = ops.gather(tokens, ops.constant([0]), ops.constant(0))
    for op in graph.get_ops():
        if op.get_type_name() == "ReadValue":
            sizes = [size.get_length() if size.is_static else 0 for size in op.get_output_partial_shape(0)][1:]
            empty = ops.concat([batch, ops.constant(sizes)], axis=0)
            op.set_arguments([ops.broadcast(ops.constant(0.0, dtype=ov.Type.f32), empty)])
    graph.validate_nodes_and_infer_types()
