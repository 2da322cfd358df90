"""What every trainer of trl is told here, and what it is kept from doing.

It gets token ids and never a text or a template of its own. It says how far it is through `Progress`, keeps its state
in the work folder every 30 seconds so that the same command goes on after a crash, and neither calls home, nor writes
model cards, nor prints.
"""

import logging
import math
import time
from pathlib import Path
from typing import Any

from datasets import Dataset  # type: ignore[import-untyped]
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl.trainer.base_trainer import _BaseTrainer

from bakeoff.errors import BakeoffError
from bakeoff.progress import Progress
from training.loop import CHECKPOINT_EVERY_S
from training.preferences.policy import device_here
from training.preferences.recipe import PreferenceRecipe

Curve = list[tuple[int, dict[str, float]]]
"""(step, figures of that step)."""

logging.getLogger("trl").setLevel(logging.ERROR)


class QuietTrainer(_BaseTrainer):
    """Keeps a trainer of trl from calling home, writing model cards and tokenising."""

    def _send_telemetry(self) -> None:
        return None

    def create_model_card(self, *_arguments: object, **_options: object) -> None:
        """Write none."""

    def _prepare_dataset(self, dataset: Any, *_arguments: object) -> Any:
        return dataset


def make_dataset(columns: dict[str, list[Any]]) -> Any:
    """Rows in memory, in the form that trl wants; no file is written."""
    return Dataset.from_dict(columns)


def trainer_config(
    kind: Any, recipe: PreferenceRecipe, *, rows_at_once: int, num_steps: int, seed: int, folder: Path, **knobs: Any
) -> Any:
    """What trl is told of a recipe; rows come in the order in which they are given."""
    return kind(
        output_dir=str(folder),
        max_steps=num_steps,
        per_device_train_batch_size=rows_at_once,
        gradient_accumulation_steps=recipe.batch_size // rows_at_once,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(recipe.schedule, recipe.schedule),
        warmup_steps=round(num_steps * recipe.warmup_share),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=seed,
        data_seed=seed,
        bf16=False,  # the weights have their type already; autocast on top of it only costs time
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        save_total_limit=1,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=device_here() == "cpu",
        **knobs,
    )


def run_trainer(trainer: Any, progress: Progress, folder: Path) -> Curve:
    """Train to the end, from the last checkpoint in the folder if there is one.

    Raises:
        BakeoffError: the loss is not a number.
    """
    trainer.remove_callback(PrinterCallback)
    reporter = _Reporter(progress)
    trainer.add_callback(reporter)
    folder.mkdir(parents=True, exist_ok=True)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))  # type: ignore[no-untyped-call]
    return [
        (int(entry["step"]), {name: float(value) for name, value in entry.items() if name not in ("step", "epoch")})
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


class _Reporter(TrainerCallback):
    """Progress after every step, a checkpoint every so often, and an end to a training that has left the numbers."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._start = self._saved = time.monotonic()
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note where the training stands."""
        self._start = self._saved = time.monotonic()
        self._first = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint when the last one is old."""
        if time.monotonic() - self._saved >= CHECKPOINT_EVERY_S:
            self._saved = time.monotonic()
            control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how far it is."""
        logs: dict[str, Any] = kwargs["logs"]
        if "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss) or not math.isfinite(float(logs.get("grad_norm", 0.0))):
            raise BakeoffError(
                f"training stopped: the loss became {loss} at step {state.global_step} of {state.max_steps}; lower "
                "learning_rate in the recipe and train again"
            )
        done = state.global_step - self._first
        left_s = (time.monotonic() - self._start) / max(1, done) * (state.max_steps - state.global_step)
        note = f"loss {loss:.3f}" + (f", reward {float(logs['reward']):.2f}" if "reward" in logs else "")
        self._progress(state.global_step, state.max_steps, f"{note}, {_clock(left_s)} left")


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
