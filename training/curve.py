"""What a training looked like: its curve, its TensorBoard log, and the gap between rows learned and rows held out.

The gap is measured on rows of the same kinds on both sides, without dropout, after the last step: the losses of single
batches cannot tell it, because a batch of closed-book rows is far harder than one with passages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from training.batches import Batch, make_batches
from training.rows import Row

WIDE = 0.5
"""Nats per label token between train and validation from which the report speaks of learning by heart: the held-out
targets are then e^0.5 = 1.6 times less likely, token by token, than those seen."""


_BATCH_TOKENS = 1024


class CurvePoint(Struct, frozen=True):
    """The losses at one step, in nats per label token."""

    step: int
    train_loss: float
    """Mean since the point before."""
    validation_loss: float


class Gap(Struct, frozen=True):
    """Rows of one kind, seen and held out, after training: nats per label token."""

    kind: str
    train_loss: float
    validation_loss: float
    num_train: int
    num_validation: int

    @property
    def gap(self) -> float:
        """How much worse the held-out rows are predicted."""
        return self.validation_loss - self.train_loss


class Log:
    """TensorBoard's event files: `tensorboard --logdir .bakeoff/training`."""

    def __init__(self, folder: Path | None, done: int = 0) -> None:
        """Open the log; what an earlier start wrote after step `done` is replaced. Without a folder there is none."""
        self._writer: Any = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def step(self, step: int, loss: float, learning_rate: float, norm: float, tokens_per_s: float) -> None:
        """Write one step."""
        values = {"loss": loss, "learning_rate": learning_rate, "gradient_norm": norm, "tokens_per_s": tokens_per_s}
        self._write({f"train/{name}": value for name, value in values.items()}, step)

    def point(self, point: CurvePoint) -> None:
        """Write one validation."""
        self._write({"validation/loss": point.validation_loss, "train/mean_loss": point.train_loss}, point.step)
        if self._writer is not None:
            self._writer.flush()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)


def measure_gaps(model: Any, rows: Sequence[Row], validation_rows: Sequence[Row]) -> tuple[Gap, ...]:
    """Compare rows that were learned with rows that were not, kind by kind, as many of each.

    Args:
        rows: of the training; the first of each kind are taken, whose order is seeded.
    """
    from training.model import validation_loss

    gaps = []
    for kind in dict.fromkeys(row.kind for row in validation_rows):
        held_out = [row for row in validation_rows if row.kind == kind]
        seen = [row for row in rows if row.kind == kind][: len(held_out)]
        if seen:
            on_train, on_held_out = (validation_loss(model, found, _batches(found)) for found in (seen, held_out))
            gaps.append(Gap(kind, on_train, on_held_out, len(seen), len(held_out)))
    return tuple(gaps)


def _batches(rows: Sequence[Row]) -> list[Batch]:
    return make_batches([len(row.ids) for row in rows], _BATCH_TOKENS, 0)


def describe_training(curve: Sequence[CurvePoint], gaps: Sequence[Gap], best_step: int, num_steps: int) -> str:
    """Say in one or two sentences whether a training ended well, and which knob to turn if not."""
    sentences = [
        f"{gap.kind}: {gap.train_loss:.2f} nats on rows learned, {gap.validation_loss:.2f} on rows held out"
        for gap in gaps
    ]
    report = "; ".join(sentences) + "." if sentences else "No validation rows, so nothing says how well it generalises."
    turned = bool(curve) and min(curve, key=lambda point: point.validation_loss).step < curve[-1].step
    if best_step < num_steps and (not curve or curve[-1].step < num_steps):
        report += f" Stopped early: the validation loss was lowest at step {best_step} of {num_steps}."
    elif turned:
        report += " The validation loss had turned before the end: lower max_epochs or token_budget, or set patience."
    if any(gap.gap > WIDE for gap in gaps):
        report += " A wide gap: it learns by heart; more examples, or fewer epochs, a lower rank or some dropout."
    return report
