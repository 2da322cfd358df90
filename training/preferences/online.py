"""Prompts and a reward -> a trainer of trl for RLOO or GRPO: learning from completions of one's own.

Each step writes several completions of each prompt and moves towards those that were paid better than the others of
their group: by the mean of the others (RLOO, Ahmadian et al. 2024) or by the group's mean and spread (GRPO, Shao et al.
2024). Neither needs a value head. The KL divergence from the reference counts as a cost.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from bakeoff.progress import Progress
from training.preferences.encoding import Answer
from training.preferences.label_logits import score_labels_only
from training.preferences.policy import make_lora
from training.preferences.recipe import PreferenceRecipe, rows_at_once
from training.preferences.rewards import Reward
from training.preferences.trl_seam import Curve, QuietTrainer, make_dataset, run_trainer, trainer_config


class _PromptIds:
    """Gives the ids of a prompt where trl would tokenise its text; the texts it gets are positions."""

    ids_of: Sequence[Sequence[int]]

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(self.ids_of[int(prompt)]) for prompt in prompts], None, {}


class _RLOO(_PromptIds, QuietTrainer, RLOOTrainer):
    pass


class _GRPO(_PromptIds, QuietTrainer, GRPOTrainer):
    pass


_TRAINERS: Mapping[str, tuple[Any, Any]] = {"rloo": (_RLOO, RLOOConfig), "grpo": (_GRPO, GRPOConfig)}


def learn_online(
    method: str,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    reward: Reward,
    recipe: PreferenceRecipe,
    seed: int,
    folder: Path,
    progress: Progress,
) -> tuple[Any, Curve]:
    """Learn from own completions.

    Args:
        method: `rloo` or `grpo`.
        model: what the training starts from, without a LoRA.
        prompts: token ids; each is taken once, in an order drawn by seed, before any comes again.
        folder: holds the checkpoints.

    Returns:
        (the PEFT model, the curve).
    """
    trainer = build_online(method, model, tokenizer, prompts, reward, recipe, seed, folder)
    return trainer.model, run_trainer(trainer, progress, folder)


def build_online(
    method: str,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    reward: Reward,
    recipe: PreferenceRecipe,
    seed: int,
    folder: Path,
) -> Any:
    """Make the trainer that `learn_online` runs."""
    kind, config = _TRAINERS[method]
    num_groups = recipe.batch_size // recipe.group_size
    filled = [*prompts, *(prompts[place % len(prompts)] for place in range(-len(prompts) % num_groups))]

    def pay(prompts: list[str], completion_ids: list[list[int]], **_rest: Any) -> list[float]:
        written = zip(prompts, completion_ids, strict=True)
        return reward([Answer(tuple(filled[int(prompt)]), tuple(ids)) for prompt, ids in written])

    told = trainer_config(
        config,
        recipe,
        rows_at_once=rows_at_once(recipe, max(map(len, prompts)) + recipe.max_completion_tokens),
        num_steps=recipe.num_steps * recipe.num_updates,
        seed=seed,
        folder=folder,
        beta=recipe.beta,
        num_generations=recipe.group_size,
        max_completion_length=recipe.max_completion_tokens,
        temperature=recipe.temperature,
        num_iterations=recipe.num_updates,
        epsilon=recipe.clip,
    )
    trainer = kind(
        model,
        reward_funcs=pay,
        args=told,
        train_dataset=make_dataset({"prompt": [str(place) for place in range(len(filled))]}),
        processing_class=tokenizer,
        peft_config=make_lora(model, recipe),
    )
    trainer.ids_of = filled
    score_labels_only(trainer.model, recipe.temperature)
    return trainer
