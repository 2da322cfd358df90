"""Rows -> learned adapter weights: AdamW on one batch after another, resumable at any moment.

The adapter's weights and the optimiser's state are float32; the model computes with a copy of them in its own type.
Every 30 s, and when it is interrupted, the whole state goes to disk; a training that is started again with the same
rows and seed goes on from there and ends where it would have ended. With patience, training stops when the validation
loss has turned, and the weights of the lowest are what it hands on.
"""

import ctypes
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct

from bakeoff.errors import BakeoffError
from bakeoff.progress import Progress
from training.batches import Batch, make_batches
from training.checkpoint import read_checkpoint, write_checkpoint
from training.curve import CurvePoint, Log
from training.interruption import Interruption
from training.model import check_parity, label_loss, validation_loss
from training.recipe import Recipe
from training.rows import Row
from training.weights import Weights

CHECKPOINT_EVERY_S = 30.0
TRIM_EVERY = 3
"""Batches. Each trim is paid back in page faults (a fifth of the speed at every batch); without any, memory grew from 3
to 4.4 GiB in two minutes, with one in eight to 4.0."""


class Learned(Struct, frozen=True):
    """What a finished loop hands on."""

    weights: dict[str, torch.Tensor]
    """float32, by parameter name."""
    first: dict[str, torch.Tensor]
    """The weights before the first step."""
    curve: tuple[CurvePoint, ...]
    best_step: int
    """The step whose weights these are."""
    num_steps: int
    """Steps that the training would have had; more than were taken where it stopped early."""
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
    best_step: int = 0
    worse: int = 0
    """Validations since the lowest loss."""


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
    log_dir: Path | None = None,
    watch: Callable[[CurvePoint], None] = lambda _: None,
) -> Learned:
    """Train the adapter on every row once, or until the validation loss has turned.

    Args:
        model: from `load_model`.
        checkpoint_path: of this very training: rows, recipe and seed have to be those of an earlier start.
        log_dir: gets TensorBoard's event files; what an interrupted start wrote beyond its checkpoint is replaced.
        watch: called with each point of the curve; may raise to end the training.

    Raises:
        BakeoffError: the loss is not a number, or the disk is full.
    """
    lengths = [len(row.ids) for row in rows]
    steps = make_steps(lengths, recipe, seed)
    validation_batches = make_batches([len(row.ids) for row in validation_rows], recipe.batch_tokens, seed)
    check_parity(model, min(rows, key=lambda row: len(row.ids)))
    weights = Weights(model, recipe)
    first = best = weights.snapshot()
    state = _State()
    if (saved := read_checkpoint(checkpoint_path)) is not None:
        state, best = _resume(saved, weights)
    log = Log(log_dir, state.step)
    validation_steps = {round(len(steps) * part / recipe.validations) for part in range(1, recipe.validations + 1)}
    start, resumed_at = time.monotonic(), state.seconds
    written, tokens_before = start, state.tokens
    with Interruption() as interruption:
        while state.step < len(steps) and not (recipe.patience and state.worse >= recipe.patience):
            step_rows = [[rows[position] for position in batch] for batch in steps[state.step]]
            learning_rate = recipe.learning_rate * schedule_factor(state.step, len(steps), recipe)
            loss_sum, num_labels, norm = take_step(model, weights, step_rows, recipe, learning_rate)
            if not math.isfinite(loss_sum) or not math.isfinite(norm):
                raise BakeoffError(
                    f"training stopped: the loss became {loss_sum / num_labels} (gradient norm {norm}) at step "
                    f"{state.step + 1} of {len(steps)}; lower learning_rate = {recipe.learning_rate:g} and train again"
                )
            state.step += 1
            if state.step % max(1, TRIM_EVERY // recipe.accumulation) == 0 or state.step in validation_steps:
                _trim_memory()
            state.tokens += sum(len(row.ids) for batch in step_rows for row in batch)
            state.loss_sum += loss_sum
            state.num_labels += num_labels
            now = time.monotonic()
            rate = (state.tokens - tokens_before) / (now - start)
            log.step(state.step, loss_sum / num_labels, learning_rate, norm, rate)
            note = f"loss {loss_sum / num_labels:.3f}"
            if state.step in validation_steps:
                held_out = validation_loss(model, validation_rows, validation_batches)
                point = CurvePoint(state.step, state.loss_sum / state.num_labels, held_out)
                best = _keep_best(state, point, weights, best, recipe)
                log.point(point)
                watch(point)
            if state.curve:
                note += f", validation {state.curve[-1][2]:.3f}"
            state.seconds = resumed_at + now - start
            progress(state.step, len(steps), f"{note}, {rate:.0f} tokens/s, {_left(sum(lengths) - state.tokens, rate)}")
            if interruption.is_asked:
                _write(checkpoint_path, weights, state, best if recipe.patience else {})
                raise KeyboardInterrupt
            if now - written >= checkpoint_every_s and state.step < len(steps):
                _write(checkpoint_path, weights, state, best if recipe.patience else {})
                written = time.monotonic()
    if recipe.patience:
        weights.load(best)  # the model, too, is the one that is handed on
    curve = tuple(CurvePoint(*point) for point in state.curve)
    best_step = state.best_step if recipe.patience else state.step
    return Learned(weights.named(), first, curve, best_step, len(steps), state.tokens, state.seconds)


def make_steps(lengths: Sequence[int], recipe: Recipe, seed: int) -> list[list[Batch]]:
    """The batches of each optimiser step."""
    if recipe.batch_rows:
        return [
            _cut_step(step, lengths, recipe, seed)
            for step in make_batches([1] * len(lengths), recipe.batch_rows, seed, "grouped")
        ]
    batches = make_batches(lengths, recipe.batch_tokens, seed, recipe.batching)
    return [batches[start : start + recipe.accumulation] for start in range(0, len(batches), recipe.accumulation)]


def _cut_step(step: Batch, lengths: Sequence[int], recipe: Recipe, seed: int) -> list[Batch]:
    batches = make_batches([lengths[position] for position in step], recipe.batch_tokens, seed, recipe.batching)
    return [tuple(step[place] for place in batch) for batch in batches]


def schedule_factor(step: int, num_steps: int, recipe: Recipe) -> float:
    """The learning rate of a step (from 0) as a part of the highest: a linear rise, then the recipe's fall to 0."""
    warmup = round(num_steps * recipe.warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, num_steps - warmup)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if recipe.schedule == "linear" else 1.0


def take_step(
    model: Any, weights: Weights, batches: Sequence[Sequence[Row]], recipe: Recipe, learning_rate: float
) -> tuple[float, int, float]:
    """One optimiser step over its batches, every label weighing the same whichever batch it stands in.

    Returns:
        (loss summed over the labels, number of labels, norm of the gradient).
    """
    num_labels = sum(len(row.ids) - row.num_prompt for batch in batches for row in batch)
    loss_sum = 0.0
    for batch in batches:
        loss, _ = label_loss(model, batch, recipe.batching)
        torch.autograd.backward(loss / num_labels)
        loss_sum += float(loss.detach())
    return loss_sum, num_labels, weights.step(learning_rate)


def _keep_best(
    state: _State, point: CurvePoint, weights: Weights, best: dict[str, torch.Tensor], recipe: Recipe
) -> dict[str, torch.Tensor]:
    """Add a point to the curve; return the best weights so far."""
    lowest = min((loss for _, _, loss in state.curve), default=math.inf)
    state.curve.append((point.step, point.train_loss, point.validation_loss))
    state.loss_sum, state.num_labels = 0.0, 0
    if point.validation_loss < lowest:
        state.best_step, state.worse = point.step, 0
        return weights.snapshot() if recipe.patience else best
    state.worse += 1
    return best


def _write(path: Path, weights: Weights, state: _State, best: dict[str, torch.Tensor]) -> None:
    rng = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng["cuda"] = torch.cuda.get_rng_state()
    write_checkpoint(
        path,
        {
            "state": {field: getattr(state, field) for field in state.__struct_fields__},
            "weights": weights.named(),
            "best": best,
            "optimizer": weights.optimizer.state_dict(),
            "rng": rng,
        },
    )


def _resume(saved: dict[str, Any], weights: Weights) -> tuple[_State, dict[str, torch.Tensor]]:
    weights.load(saved["weights"])
    weights.optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["rng"]["cpu"])
    if "cuda" in saved["rng"]:
        torch.cuda.set_rng_state(saved["rng"]["cuda"])
    return _State(**saved["state"]), saved["best"]


def _trim_memory() -> None:
    """Give freed memory back: steps of ever other shapes leave glibc's heap in pieces, which only grows."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _left(tokens: int, rate: float) -> str:
    seconds = round(tokens / rate)
    return f"{seconds // 60}:{seconds % 60:02d} left"
