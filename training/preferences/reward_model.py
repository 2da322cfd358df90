"""Pairs -> a reward model: the base model with a LoRA and one number at the end of an answer, by trl's RewardTrainer.

The number of the answer people liked should be the higher one (Bradley & Terry 1952; Ouyang et al. 2022, section 3.5).
It is an artefact of its own kind: the LoRA as PEFT writes it, the head beside it, and in the manifest the mean and
spread of its scores, by which they are scaled before anything learns from them.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from safetensors.torch import load_file, save_file
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from bakeoff.artefacts import read_manifest
from bakeoff.errors import Mismatch
from bakeoff.progress import Progress
from training.preferences.completions import blocks_of
from training.preferences.encoding import Answer, PairRow
from training.preferences.lora import Change, Changes, add_changes, read_changes, write_changes
from training.preferences.policy import device_here, make_lora
from training.preferences.recipe import PreferenceRecipe, rows_at_once
from training.preferences.reward_files import HEAD_FILE, KIND
from training.preferences.trl_seam import Curve, QuietTrainer, make_dataset, run_trainer, trainer_config

_CENTRE = 0.01
"""Keeps scores near 0 on average, which pairs alone leave open (Eisenstein et al. 2023)."""


class Scale(Struct, frozen=True):
    """Mean and standard deviation of the scores on the answers it learned from."""

    mean: float = 0.0
    deviation: float = 1.0


class _Reward(QuietTrainer, RewardTrainer):
    pass


def load_scorer(base_dir: Path, dtype: torch.dtype, changes: Mapping[str, Change], seed: int) -> Any:
    """Load the base model with the changes added and a small random head in place of the vocabulary."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base_dir, dtype=dtype, num_labels=1, attn_implementation="sdpa", local_files_only=True
    )
    add_changes(model, changes)
    return model.to(device_here()).eval()


def learn_reward(
    model: Any,
    tokenizer: Any,
    rows: Sequence[PairRow],
    recipe: PreferenceRecipe,
    seed: int,
    folder: Path,
    progress: Progress,
) -> tuple[Any, Curve]:
    """Learn a reward model from pairs, in the order given.

    Args:
        model: from `load_scorer`.
        folder: holds the checkpoints.

    Returns:
        (the PEFT model, the curve).
    """
    columns = {
        "chosen_ids": [list(row.chosen.ids) for row in rows],
        "rejected_ids": [list(row.rejected.ids) for row in rows],
    }
    longest = max(len(answer.ids) for row in rows for answer in (row.chosen, row.rejected))
    config = trainer_config(
        RewardConfig,
        recipe,
        rows_at_once=rows_at_once(recipe, 2 * longest),
        num_steps=math.ceil(len(rows) / recipe.batch_size),
        seed=seed,
        folder=folder,
        max_length=None,
        center_rewards_coefficient=_CENTRE,
        pad_token=_padding(tokenizer),
        train_sampling_strategy="sequential",
    )
    trainer = _Reward(
        model,
        args=config,
        train_dataset=make_dataset(columns),
        processing_class=tokenizer,
        peft_config=make_lora(model, recipe, "SEQ_CLS"),
    )
    return trainer.model, run_trainer(trainer, progress, folder)


def score_answers(model: Any, answers: Sequence[Answer]) -> list[float]:
    """Score answers; a PEFT model or a plain one.

    The score is read at the last token of each row, wherever padding ends.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = getattr(base, base.base_model_prefix)
    scores: list[float] = []
    for block in blocks_of(answers):
        longest = max(len(answer.ids) for answer in block)
        ids = torch.tensor([[*answer.ids, *[0] * (longest - len(answer.ids))] for answer in block])
        seen = torch.tensor([[1] * len(answer.ids) + [0] * (longest - len(answer.ids)) for answer in block])
        with torch.inference_mode():
            states = decoder(
                input_ids=ids.to(base.device), attention_mask=seen.to(base.device), use_cache=False
            ).last_hidden_state
            last = states[torch.arange(len(block), device=base.device), seen.sum(1).to(base.device) - 1]
            scores += base.score(last)[:, 0].float().tolist()
    return scores


def scale_of(scores: Sequence[float]) -> Scale:
    """Mean and spread of scores; a spread of 0 counts as 1."""
    found = torch.tensor(scores)
    return Scale(float(found.mean()), float(found.std()) or 1.0)


def save_reward_model(changes: Changes, model: Any, base_name: str, folder: Path) -> None:
    """Write the LoRA and the head of a trained model."""
    write_changes(changes, base_name, folder, model.config.num_hidden_layers)
    save_file({"score.weight": head_of(model).detach().float().cpu().contiguous()}, folder / HEAD_FILE)


def head_of(model: Any) -> torch.Tensor:
    """The head's weights, (1, hidden), of a PEFT model or a plain one."""
    score = (model.get_base_model() if hasattr(model, "get_base_model") else model).score
    trained: torch.Tensor = (
        score.modules_to_save["default"].weight if hasattr(score, "modules_to_save") else score.weight
    )
    return trained


def open_reward_model(folder: Path, base_dir: Path, base_digest: str, dtype: torch.dtype) -> tuple[Any, Scale]:
    """Load a reward model, its LoRA added to the weights.

    Raises:
        NotFound: no such reward model.
        Mismatch: it is damaged, or was made for another base model.
    """
    manifest = read_manifest(folder, KIND)
    if manifest["base_sha256"] != base_digest:
        raise Mismatch(
            f"reward model {folder.name} was trained on {manifest['base_model']}, which is not the base model here; "
            "train one with: bakeoff train preferences FILE --domain D --method reward"
        )
    model = load_scorer(base_dir, dtype, read_changes(folder, base_dir), seed=0)
    with torch.no_grad():
        model.score.weight.copy_(load_file(folder / HEAD_FILE)["score.weight"])
    return model, Scale(**manifest["scale"])


def _padding(tokenizer: Any) -> str:
    """A token that no row ends with: transformers looks for the last token that is not padding to read the score at."""
    others = [token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token]
    return str(others[0] if others else tokenizer.eos_token)
