"""Pairs or thumbs -> a trainer of trl for DPO, ORPO or KTO: the methods that learn from answers that are there.

DPO (Rafailov et al. 2023) raises the chosen answer against the rejected one, relative to the reference. ORPO (Hong et
al. 2024) does so without a reference and learns the chosen answer as an example beside it. KTO (Ethayarajh et al. 2024)
needs no pairs: thumbs are enough. Each is handed rows of token ids and learns from them in the order given.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from bakeoff.progress import Progress
from training.preferences.encoding import Answer, PairRow, ThumbRow
from training.preferences.label_logits import score_labels_only
from training.preferences.policy import make_lora
from training.preferences.recipe import PreferenceRecipe, rows_at_once
from training.preferences.trl_seam import Curve, QuietTrainer, make_dataset, run_trainer, trainer_config


class _DPO(QuietTrainer, DPOTrainer):
    pass


class _KTO(QuietTrainer, KTOTrainer):
    pass


class _ORPO(QuietTrainer, ORPOTrainer):
    def tokenize_row(self, _row: Any, _model: Any = None) -> dict[str, Any]:
        """Add nothing: the rows have their ids."""
        return {}


def learn_offline(
    method: str,
    model: Any,
    tokenizer: Any,
    rows: Sequence[PairRow | ThumbRow],
    recipe: PreferenceRecipe,
    seed: int,
    folder: Path,
    progress: Progress,
) -> tuple[Any, Curve]:
    """Learn from rows, in the order given.

    Args:
        method: `dpo`, `orpo` or `kto`.
        model: what the training starts from, without a LoRA.
        folder: holds the checkpoints.

    Returns:
        (the PEFT model, the curve).
    """
    trainer = build_offline(method, model, tokenizer, rows, recipe, seed, folder)
    return trainer.model, run_trainer(trainer, progress, folder)


def build_offline(
    method: str,
    model: Any,
    tokenizer: Any,
    rows: Sequence[PairRow | ThumbRow],
    recipe: PreferenceRecipe,
    seed: int,
    folder: Path,
) -> Any:
    """Make the trainer that `learn_offline` runs."""
    kind, config, columns_of, knobs_of = _TRAINERS[method]
    at_once = _rows_at_once(rows, recipe)
    columns = columns_of(rows, recipe, at_once)
    told = trainer_config(
        config,
        recipe,
        rows_at_once=at_once,
        num_steps=math.ceil(len(next(iter(columns.values()))) / recipe.batch_size),
        seed=seed,
        folder=folder,
        beta=recipe.beta,
        train_sampling_strategy="sequential",
        **knobs_of(rows, recipe),
    )
    trainer = kind(
        model,
        args=told,
        train_dataset=make_dataset(columns),
        processing_class=tokenizer,
        peft_config=make_lora(model, recipe),
    )
    score_labels_only(trainer.model)
    return trainer


def _rows_at_once(rows: Sequence[PairRow | ThumbRow], recipe: PreferenceRecipe) -> int:
    """A pair is two rows, and so is a thumb with its neighbour's answer; a thumb needs a neighbour."""
    longest = max(
        len(answer.ids)
        for row in rows
        for answer in ((row.answer,) if isinstance(row, ThumbRow) else (row.chosen, row.rejected))
    )
    return rows_at_once(recipe, 2 * longest, least=2 if isinstance(rows[0], ThumbRow) else 1)


def _dpo_columns(rows: Sequence[PairRow], _recipe: PreferenceRecipe, _at_once: int) -> dict[str, list[Any]]:
    return {
        "prompt_ids": [list(row.chosen.prompt) for row in rows],
        "chosen_ids": [list(row.chosen.completion) for row in rows],
        "rejected_ids": [list(row.rejected.completion) for row in rows],
    }


def _orpo_columns(rows: Sequence[PairRow], _recipe: PreferenceRecipe, _at_once: int) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for side in ("chosen", "rejected"):
        answers: list[Answer] = [getattr(row, side) for row in rows]
        columns[f"{side}_input_ids"] = [list(answer.ids) for answer in answers]
        columns[f"{side}_attention_mask"] = [[1] * len(answer.ids) for answer in answers]
        columns[f"{side}_labels"] = [[-100] * len(answer.prompt) + list(answer.completion) for answer in answers]
    return columns


def _kto_columns(rows: Sequence[ThumbRow], recipe: PreferenceRecipe, at_once: int) -> dict[str, list[Any]]:
    """Rows, each with its neighbour's answer after its own prompt: the reference point is estimated there.

    The last batch is filled up from the first rows, because a row alone has no neighbour.
    """
    filled = [*rows, *rows[: -len(rows) % recipe.batch_size]]
    neighbours = [
        filled[position - 1 if position % at_once else min(position + at_once, len(filled)) - 1]
        for position in range(len(filled))
    ]
    return {
        "prompt_ids": [list(row.answer.prompt) for row in filled],
        "completion_ids": [list(row.answer.completion) for row in filled],
        "KL_completion_ids": [list(row.answer.completion) for row in neighbours],
        "label": [row.is_up for row in filled],
    }


def _kto_knobs(rows: Sequence[ThumbRow], _recipe: PreferenceRecipe) -> dict[str, Any]:
    """Weigh the rarer thumb up until both weigh the same (Ethayarajh et al. 2024, equation 8)."""
    num_up = sum(row.is_up for row in rows)
    num_down = len(rows) - num_up
    most = max(num_up, num_down)
    return {
        "max_length": None,
        "desirable_weight": most / max(1, num_up),
        "undesirable_weight": most / max(1, num_down),
    }


_TRAINERS: Mapping[str, tuple[Any, Any, Callable[..., dict[str, list[Any]]], Callable[..., dict[str, Any]]]] = {
    "dpo": (_DPO, DPOConfig, _dpo_columns, lambda _rows, _recipe: {"max_length": None}),
    "orpo": (_ORPO, ORPOConfig, _orpo_columns, lambda _rows, recipe: {"max_length": recipe.max_row_tokens}),
    "kto": (_KTO, KTOConfig, _kto_columns, _kto_knobs),
}
