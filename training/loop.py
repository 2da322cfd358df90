"""Rows -> learned adapter weights: AdamW on one batch after another, resumable at any moment.

The adapter's weights and the optimiser's state are float32; the model computes with a copy of the weights in its own
type (mixed precision with master weights, Micikevicius et al. 2018, section 3.1), because LoRA's many small products in
float32 would cost a fifth of the speed. Every 30 s the whole state goes to disk; a training that is started again with
the same rows and seed goes on from there and ends where it would have ended.
"""

import ctypes
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct

from bakeoff.errors import BakeoffError
from bakeoff.progress import Progress
from training.batches import make_batches
from training.checkpoint import read_checkpoint, write_checkpoint
from training.model import check_parity, label_loss, validation_loss
from training.recipe import Recipe
from training.rows import Row

CHECKPOINT_EVERY_S = 30.0
TRIM_EVERY = 3
"""Steps. Each trim is paid back in page faults (a fifth of the speed at every step); without any, memory grew from 3 to
4.4 GiB in two minutes, with one in eight to 4.0."""


class CurvePoint(Struct, frozen=True):
    """The losses at one step, in nats per label token."""

    step: int
    train_loss: float
    """Mean since the point before."""
    validation_loss: float


class Learned(Struct, frozen=True):
    """What a finished loop hands on."""

    weights: dict[str, torch.Tensor]
    """float32, by parameter name."""
    curve: tuple[CurvePoint, ...]
    tokens: int
    """Tokens trained on, padding excluded."""
    seconds: float
    """Time in the loop, validation included, earlier starts of an interrupted training too."""


class _State(Struct):
    """Where a training stands; everything but the weights and the optimiser."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    """Over the labels since the last point of the curve."""
    num_labels: int = 0
    curve: list[tuple[int, float, float]] = []


def learn(
    model: Any,
    rows: Sequence[Row],
    validation_rows: Sequence[Row],
    recipe: Recipe,
    *,
    seed: int,
    checkpoint_path: Path,
    progress: Progress,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> Learned:
    """Train the adapter on every row once.

    Args:
        model: from `load_model`.
        checkpoint_path: of this very training: rows, recipe and seed have to be those of an earlier start.

    Raises:
        BakeoffError: the loss is not a number, or the disk is full.
    """
    lengths = [len(row.ids) for row in rows]
    batches = make_batches(lengths, recipe.batch_tokens, seed)
    validation_batches = make_batches([len(row.ids) for row in validation_rows], recipe.batch_tokens, seed)
    check_parity(model, min(rows, key=lambda row: len(row.ids)))
    weights = _Weights(model, recipe)
    state = _resume(checkpoint_path, weights)
    validation_steps = {round(len(batches) * part / recipe.validations) for part in range(1, recipe.validations + 1)}
    start, resumed_at = time.monotonic(), state.seconds
    written, tokens_before = start, state.tokens
    while state.step < len(batches):
        batch = batches[state.step]
        loss, num_labels = label_loss(model, [rows[position] for position in batch])
        torch.autograd.backward(loss / num_labels)
        loss_sum = float(loss.detach())
        norm = weights.step(recipe.learning_rate * schedule_factor(state.step, len(batches), recipe))
        if not math.isfinite(loss_sum) or not math.isfinite(norm):
            raise BakeoffError(
                f"training stopped: the loss became {loss_sum / num_labels} (gradient norm {norm}) at step "
                f"{state.step + 1} of {len(batches)}; lower learning_rate = {recipe.learning_rate:g} and train again"
            )
        state.step += 1
        if state.step % TRIM_EVERY == 0 or state.step in validation_steps:
            _trim_memory()
        state.tokens += sum(lengths[position] for position in batch)
        state.loss_sum += loss_sum
        state.num_labels += num_labels
        note = f"loss {loss_sum / num_labels:.3f}"
        if state.step in validation_steps:
            held_out = validation_loss(model, validation_rows, validation_batches)
            state.curve.append((state.step, state.loss_sum / state.num_labels, held_out))
            state.loss_sum, state.num_labels = 0.0, 0
        if state.curve:
            note += f", validation {state.curve[-1][2]:.3f}"
        now = time.monotonic()
        state.seconds = resumed_at + now - start
        rate = (state.tokens - tokens_before) / (now - start)
        progress(state.step, len(batches), f"{note}, {rate:.0f} tokens/s, {_left(sum(lengths) - state.tokens, rate)}")
        if now - written >= checkpoint_every_s and state.step < len(batches):
            _write(checkpoint_path, weights, state)
            written = time.monotonic()
    curve = tuple(CurvePoint(*point) for point in state.curve)
    return Learned(weights.named(), curve, state.tokens, state.seconds)


def schedule_factor(step: int, num_steps: int, recipe: Recipe) -> float:
    """The learning rate of a step (from 0) as a part of the highest: a linear rise, then the recipe's fall to 0."""
    warmup = round(num_steps * recipe.warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, num_steps - warmup)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if recipe.schedule == "linear" else 1.0


class _Weights:
    """The adapter's float32 weights with their optimiser, and the copies that the model computes with."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        dtype = next(parameter.dtype for parameter in model.parameters() if not parameter.requires_grad)
        self._names = [name for name, _ in trained]
        self._copies = [parameter for _, parameter in trained]
        self._masters = [parameter.detach().float().clone() for parameter in self._copies]
        for parameter in self._copies:
            parameter.data = parameter.data.to(dtype)
        self._max_norm = recipe.max_grad_norm
        self.optimizer = torch.optim.AdamW(
            self._masters, lr=recipe.learning_rate, betas=(0.9, 0.999), weight_decay=recipe.weight_decay
        )

    def step(self, learning_rate: float) -> float:
        """Take one step along the gradients that stand in the copies; return their norm before clipping."""
        for master, parameter in zip(self._masters, self._copies, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        norm = float(torch.nn.utils.clip_grad_norm_(self._masters, self._max_norm))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self._copy()
        return norm

    def named(self) -> dict[str, torch.Tensor]:
        """The float32 weights by parameter name."""
        return dict(zip(self._names, self._masters, strict=True))

    def load(self, named: dict[str, torch.Tensor], optimizer: dict[str, Any]) -> None:
        for name, master in zip(self._names, self._masters, strict=True):
            master.copy_(named[name])
        self.optimizer.load_state_dict(optimizer)
        self._copy()

    def _copy(self) -> None:
        for master, parameter in zip(self._masters, self._copies, strict=True):
            parameter.data.copy_(master)


def _write(path: Path, weights: _Weights, state: _State) -> None:
    write_checkpoint(
        path,
        {
            "state": {field: getattr(state, field) for field in state.__struct_fields__},
            "weights": weights.named(),
            "optimizer": weights.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        },
    )


def _resume(path: Path, weights: _Weights) -> _State:
    saved = read_checkpoint(path)
    if saved is None:
        return _State()
    weights.load(saved["weights"], saved["optimizer"])
    torch.set_rng_state(saved["rng"])
    return _State(**saved["state"])


def _trim_memory() -> None:
    """Give freed memory back: steps of ever other shapes leave glibc's heap in pieces, which only grows."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _left(tokens: int, rate: float) -> str:
    seconds = round(tokens / rate)
    return f"{seconds // 60}:{seconds % 60:02d} left"
