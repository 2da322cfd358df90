"""Prompts and a reward -> a trained LoRA, by proximal policy optimisation (Schulman et al. 2017; Ziegler et al. 2019).

trl 1.16 has no PPO any more, so this one is ours. Each step writes completions, pays them, and makes a few clipped
passes over them. The reference is the model without its fresh LoRA. The value head is one linear layer on the policy's
own last states, with the gradient stopped: it costs nothing, and what it gets wrong cannot pull at the few weights of
the LoRA. Details from Huang et al. 2024: advantages are whitened over the batch, Adam has an epsilon of 1e-5, and a
completion without an end is docked.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct

from bakeoff.errors import BakeoffError
from bakeoff.progress import Progress
from training.checkpoint import read_checkpoint, write_checkpoint
from training.draw import draw
from training.loop import CHECKPOINT_EVERY_S
from training.preferences.advantages import (
    divergence,
    estimate_advantages,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from training.preferences.completions import blocks_of, forward_answers, write_completions
from training.preferences.encoding import Answer
from training.preferences.policy import put_lora
from training.preferences.recipe import PreferenceRecipe, rows_at_once
from training.preferences.rewards import Reward

_ADAM_EPSILON = 1e-5


class _Batch(Struct):
    """Completions of one step, and what was computed once about them."""

    answers: list[Answer]
    logps: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    mask: torch.Tensor
    figures: dict[str, float]


def learn_ppo(
    start: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    reward: Reward,
    recipe: PreferenceRecipe,
    seed: int,
    folder: Path,
    progress: Progress,
) -> tuple[Any, list[tuple[int, dict[str, float]]]]:
    """Learn from own completions by PPO.

    Args:
        start: what the training starts from, without a LoRA.
        prompts: token ids; drawn by seed, each once before any comes again.
        folder: holds the checkpoint.

    Returns:
        (the PEFT model, the curve: reward, divergence from the reference and losses by step).

    Raises:
        BakeoffError: the loss is not a number.
    """
    model = put_lora(start, recipe, seed).eval()
    head = torch.nn.Linear(model.config.hidden_size, 1).to(model.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": learned, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
            {"params": list(head.parameters()), "lr": recipe.value_learning_rate, "weight_decay": 0.0},
        ],
        eps=_ADAM_EPSILON,
    )
    highest = [group["lr"] for group in optimizer.param_groups]
    path = folder / "ppo.pt"
    curve = _resume(path, learned, head, optimizer)
    begun, written, first = time.monotonic(), time.monotonic(), len(curve)
    for step in range(first, recipe.num_steps):
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * rate_factor(step, recipe)
        batch = _write_batch(
            model, head, tokenizer, _prompts_of(step, prompts, recipe, seed), reward, recipe, (seed, step)
        )
        figures = _update(model, head, optimizer, learned, batch, recipe)
        if not all(math.isfinite(value) for value in figures.values()):
            raise BakeoffError(
                f"training stopped: its figures became {figures} at step {step + 1} of {recipe.num_steps}; lower "
                "learning_rate in the recipe and train again"
            )
        curve.append((step + 1, figures))
        now = time.monotonic()
        left_s = round((now - begun) / (step + 1 - first) * (recipe.num_steps - step - 1))
        note = f"reward {figures['reward']:.2f}, KL {figures['kl']:.2f}, {left_s // 60}:{left_s % 60:02d} left"
        progress(step + 1, recipe.num_steps, note)
        if now - written >= CHECKPOINT_EVERY_S and step + 1 < recipe.num_steps:
            _save(path, learned, head, optimizer, curve)
            written = time.monotonic()
    return model, curve


def rate_factor(step: int, recipe: PreferenceRecipe) -> float:
    """The learning rate of a step (from 0) as a part of the highest."""
    warmup = round(recipe.num_steps * recipe.warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, recipe.num_steps - warmup)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if recipe.schedule == "linear" else 1.0


def _prompts_of(
    step: int, prompts: Sequence[Sequence[int]], recipe: PreferenceRecipe, seed: int
) -> list[Sequence[int]]:
    """The prompts of one step, those of a group beside each other."""
    num_groups = recipe.batch_size // recipe.group_size
    places = range(step * num_groups, (step + 1) * num_groups)
    chosen = []
    for place in places:
        turn = place // len(prompts)
        order = sorted(range(len(prompts)), key=lambda position: draw(seed, "ppo", turn, position))
        chosen.append(prompts[order[place % len(prompts)]])
    return [prompt for prompt in chosen for _ in range(recipe.group_size)]


def _write_batch(
    model: Any,
    head: torch.nn.Linear,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    reward: Reward,
    recipe: PreferenceRecipe,
    seeds: tuple[int, int],
) -> _Batch:
    answers = write_completions(
        model,
        tokenizer,
        prompts,
        max_tokens=recipe.max_completion_tokens,
        temperature=recipe.temperature,
        seed=int(draw("completions", *seeds) * 2**31),
    )
    scores = torch.tensor(reward(answers), device=model.device)
    with torch.no_grad():
        logps, mask, values = _read(model, head, answers, recipe.temperature)
        with model.disable_adapter():
            reference_logps, _, _ = _read(model, head, answers, recipe.temperature)
        rewards = token_rewards(scores, logps, reference_logps, mask, recipe.beta)
        advantages, returns = estimate_advantages(rewards, values, mask, gae_lambda=recipe.gae_lambda)
    figures = {
        "reward": float(scores.mean()),
        "kl": divergence(logps, reference_logps, mask),
        "tokens": float(mask.sum(1).float().mean()),
    }
    return _Batch(answers, logps, values, whiten(advantages, mask), returns, mask, figures)


def _read(
    model: Any, head: torch.nn.Linear, answers: Sequence[Answer], temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities, mask and values of all tokens of all answers, a few rows at a time."""
    width = max(len(answer.completion) for answer in answers)
    parts = []
    for block in blocks_of(answers):
        logps, mask, states = forward_answers(model, block, temperature, width)
        parts.append((logps, mask, head(states.float())[:, :, 0] * mask))
    logps, mask, values = (torch.cat(found) for found in zip(*parts, strict=True))
    return logps, mask, values


def _update(
    model: Any,
    head: torch.nn.Linear,
    optimizer: torch.optim.Optimizer,
    learned: list[torch.nn.Parameter],
    batch: _Batch,
    recipe: PreferenceRecipe,
) -> dict[str, float]:
    """Make the clipped passes over one batch; one optimiser step each."""
    figures = dict(batch.figures)
    num_tokens, width = batch.mask.sum(), batch.mask.shape[1]
    at_once = rows_at_once(recipe, max(len(answer.ids) for answer in batch.answers))
    for _ in range(recipe.num_updates):
        sums = {"loss": 0.0, "value_loss": 0.0, "clipped": 0.0}
        for start in range(0, len(batch.answers), at_once):
            part = slice(start, start + at_once)
            logps, mask, states = forward_answers(model, batch.answers[part], recipe.temperature, width)
            values = head(states.detach().float())[:, :, 0] * mask
            loss, clipped = policy_loss(logps, batch.logps[part], batch.advantages[part], mask, recipe.clip)
            missed = value_loss(values, batch.values[part], batch.returns[part], mask, recipe.clip)
            share = float(mask.sum() / num_tokens)
            ((loss + missed) * share).backward()  # type: ignore[no-untyped-call]
            for name, value in zip(sums, (loss, missed, clipped), strict=True):
                sums[name] += float(value.detach()) * share
        torch.nn.utils.clip_grad_norm_(learned, recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        figures |= sums
    return figures


def _save(
    path: Path,
    learned: Sequence[torch.nn.Parameter],
    head: torch.nn.Linear,
    optimizer: torch.optim.Optimizer,
    curve: list[tuple[int, dict[str, float]]],
) -> None:
    weights = [parameter.detach() for parameter in learned]
    state = {"weights": weights, "head": head.state_dict(), "optimizer": optimizer.state_dict(), "curve": curve}
    write_checkpoint(path, state)


def _resume(
    path: Path, learned: Sequence[torch.nn.Parameter], head: torch.nn.Linear, optimizer: torch.optim.Optimizer
) -> list[tuple[int, dict[str, float]]]:
    """Take up a checkpoint and return its curve; draws depend on seed and step alone, so nothing else is kept."""
    saved = read_checkpoint(path)
    if saved is None:
        return []
    with torch.no_grad():
        for parameter, weight in zip(learned, saved["weights"], strict=True):
            parameter.copy_(weight)
    head.load_state_dict(saved["head"])
    optimizer.load_state_dict(saved["optimizer"])
    return [(int(step), dict(figures)) for step, figures in saved["curve"]]
