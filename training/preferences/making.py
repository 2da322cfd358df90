"""Material -> weights and figures: load what a method starts from, measure, learn, measure again.

Everything that needs torch and trl is reached from here, so that a file that cannot be used is refused before they are
loaded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from bakeoff.errors import BakeoffError
from bakeoff.progress import Progress
from training.preferences.completions import end_ids
from training.preferences.encoding import PairRow
from training.preferences.lora import Changes, join_changes, learned_changes, read_changes, write_changes
from training.preferences.material import Material
from training.preferences.measures import measure_pairs, measure_reward, measure_scores
from training.preferences.offline import learn_offline
from training.preferences.online import learn_online
from training.preferences.policy import load_start, pick_dtype
from training.preferences.ppo import learn_ppo
from training.preferences.recipe import ONLINE, Method, PreferenceRecipe
from training.preferences.reward_model import (
    head_of,
    learn_reward,
    load_scorer,
    open_reward_model,
    save_reward_model,
    scale_of,
    score_answers,
)
from training.preferences.rewards import RULES, Reward, dock_unfinished, rule_reward


class Made(Struct, frozen=True):
    """What was learned, ready to be written."""

    save: Callable[[Path], None]
    """Writes the weights into a folder."""
    facts: dict[str, Any]
    """Measures, curve and what else the manifest says of the training."""


def make_adapter(
    material: Material,
    *,
    method: Method,
    base_dir: Path,
    base_digest: str,
    base_name: str,
    start_dir: Path | None,
    recipe: PreferenceRecipe,
    seed: int,
    tokenizer: Any,
    reward: str,
    reward_models_dir: Path,
    folder: Path,
    progress: Progress,
) -> Made:
    """Learn an adapter that stands on the base model alone, whatever it started from.

    Args:
        start_dir: folder of the adapter to start from; None for the bare base model.
        reward: for online methods, name of a rule or digest of a reward model.
        folder: holds the checkpoints.
    """
    start: Changes = read_changes(start_dir, base_dir) if start_dir else {}
    dtype = pick_dtype(base_dir, recipe, starts_from_adapter=bool(start))
    model = load_start(base_dir, dtype, start, recipe)
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if method in ONLINE:
        if reward in RULES:
            pay = rule_reward(reward, tokenizer, recipe)
        else:
            pay = model_reward(reward_models_dir / reward, base_dir, base_digest, dtype)
        pay = dock_unfinished(pay, end_ids(model, tokenizer), recipe.missing_end_penalty)
        before |= _measure_completions(model, material, pay, tokenizer, recipe, seed)
        told = (model, tokenizer, material.prompts, pay, recipe, seed, folder, progress)
        trained, curve = learn_ppo(*told) if method == "ppo" else learn_online(method, *told)
        after |= _measure_completions(trained.eval(), material, pay, tokenizer, recipe, seed)
    else:
        trained, curve = learn_offline(method, model, tokenizer, material.rows, recipe, seed, folder, progress)
        trained.eval()
    if material.held_out:
        for found, figures in zip(measure_pairs(trained, material.held_out), (before, after), strict=True):
            figures |= to_builtins(found)
    changes = join_changes(start, learned_changes(trained))
    num_layers = trained.config.num_hidden_layers
    return Made(
        lambda target: write_changes(changes, base_name, target, num_layers),
        {
            "dtype": str(dtype).removeprefix("torch."),
            "measures": {"before": before, "after": after},
            "curve": curve,
        },
    )


def _measure_completions(
    model: Any, material: Material, reward: Reward, tokenizer: Any, recipe: PreferenceRecipe, seed: int
) -> dict[str, Any]:
    if not material.held_out_prompts:
        return {}
    found: dict[str, Any] = to_builtins(
        measure_reward(model, tokenizer, material.held_out_prompts, reward, recipe, seed)
    )
    return found


def make_reward_model(
    material: Material,
    *,
    base_dir: Path,
    base_name: str,
    start_dir: Path | None,
    recipe: PreferenceRecipe,
    seed: int,
    tokenizer: Any,
    folder: Path,
    progress: Progress,
) -> Made:
    """Learn a reward model; see `make_adapter`."""
    start: Changes = read_changes(start_dir, base_dir) if start_dir else {}
    dtype = pick_dtype(base_dir, recipe, starts_from_adapter=bool(start))
    model = load_scorer(base_dir, dtype, start, seed)
    rows = [row for row in material.rows if isinstance(row, PairRow)]
    trained, curve = learn_reward(model, tokenizer, rows, recipe, seed, folder, progress)
    trained.eval()
    if not bool(head_of(trained).isfinite().all()):
        raise BakeoffError("the reward model's head is not finite; lower learning_rate in the recipe and train again")
    measures: dict[str, Any] = {"before": {}, "after": {}}
    if material.held_out:
        measures["after"]["accuracy"] = to_builtins(measure_scores(trained, material.held_out))
    answers = list(dict.fromkeys(answer for row in rows for answer in (row.chosen, row.rejected)))
    changes = join_changes(start, learned_changes(trained))
    return Made(
        lambda target: save_reward_model(changes, trained, base_name, target),
        {
            "dtype": str(dtype).removeprefix("torch."),
            "scale": to_builtins(scale_of(score_answers(trained, answers))),
            "measures": measures,
            "curve": curve,
        },
    )


def model_reward(folder: Path, base_dir: Path, base_digest: str, dtype: Any) -> Reward:
    """The reward of a reward model, scaled to mean 0 and spread 1 on the answers it learned from."""
    model, scale = open_reward_model(folder, base_dir, base_digest, dtype)
    return lambda answers: [(score - scale.mean) / scale.deviation for score in score_answers(model, answers)]
