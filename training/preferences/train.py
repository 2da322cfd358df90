"""Judgements -> an adapter, or a reward model, in an artefact folder whose manifest says what it came from.

A training is named by a hash of all that decides it: judgements, method, recipe, seed, base model, what it starts from
and what pays it. Under that name lie its checkpoints while it runs, and afterwards the digest of what it made, so that
the same call returns it and an interrupted one goes on. The database is left alone: whoever calls registers the
adapter.
"""

import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bakeoff.adapter_files import KIND as ADAPTER
from bakeoff.artefacts import digest_of, read_manifest, write_json
from bakeoff.chat_template import load_tokenizer
from bakeoff.errors import BadInput, Mismatch, NotFound
from bakeoff.progress import Progress
from bakeoff.prompts import PROMPTS_VERSION
from training.adapter import write_adapter
from training.facts import FindGroups
from training.preferences.judgements import Preferences
from training.preferences.lineage import inherit_leaks, trace_lineage
from training.preferences.material import gather_material
from training.preferences.pairs import contexts_of, cut_held_out
from training.preferences.recipe import ONLINE, Method, PreferenceRecipe
from training.preferences.reward_files import KIND as REWARD_MODEL
from training.preferences.reward_files import write_reward_model
from training.variants import ENGINES

_PACKAGES = ("trl", "datasets")


class PreferenceResult(Struct, frozen=True):
    """A finished training."""

    kind: str
    """`adapter` or `reward-model`."""
    digest: str
    path: Path
    method: str
    measures: dict[str, dict[str, Any]]
    """`before` and `after`, on held-out questions."""
    seconds: float
    step: int = 0
    """The last one of its curve."""
    train_loss: float | None = None
    """At that step, in the method's own terms."""
    resumed: bool = False
    """Whether it was there already and nothing was trained."""


def train_preferences(
    preferences: Preferences,
    *,
    method: Method,
    domain: str,
    base_dir: Path,
    base_digest: str,
    recipe: PreferenceRecipe,
    seed: int,
    adapters_dir: Path,
    reward_models_dir: Path,
    work_dir: Path,
    progress: Progress,
    start_dir: Path | None = None,
    reward: str = "",
    find_groups: FindGroups = lambda _: {},
    fresh: bool = False,
    base_name: str | None = None,
) -> PreferenceResult:
    """Learn from people's judgements, or return what the same call made before.

    Args:
        base_dir: a Hugging Face model folder with a chat template.
        base_digest: hash of the base model's weights.
        start_dir: folder of the adapter to start from; None for the bare base model.
        reward: for online methods, digest of a reward model or name of a rule.
        find_groups: documents -> who may see them now; goes into the lineage.
        work_dir: holds checkpoints and the notes of finished trainings.
        progress: called after every step.
        fresh: train anew even if the same training is finished or under way.
        base_name: what manifest and config call the base model; the folder's name by default.

    Raises:
        BakeoffError: judgements that do not fit the method or are too few, a recipe, base model, adapter or reward
            model that cannot be used, a full disk, or a loss that is not a number.
    """
    base_name = base_name or base_dir.name
    started_from = start_dir.name if start_dir else "base"
    parents = _read_parents(start_dir, reward_models_dir / reward if _is_model(method, reward, domain) else None)
    for parent in parents:
        if parent["base_sha256"] != base_digest:
            raise Mismatch(
                f"the {parent['kind']} named here was trained on {parent['base_model']}, which is not the base model "
                "of this machine; name another one, or start with --from base"
            )
    named_by = (preferences, PROMPTS_VERSION, method, domain, base_digest, started_from, recipe, seed, reward)
    folder = work_dir / "preferences" / digest_of(named_by)
    kind, target_dir = (REWARD_MODEL, reward_models_dir) if method == "reward" else (ADAPTER, adapters_dir)
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    finished = _find_finished(folder, kind, target_dir)
    if finished is not None:
        return finished
    begun = time.monotonic()
    tokenizer = load_tokenizer(base_dir)
    sides = cut_held_out(preferences, recipe.held_out_share, seed)
    material = gather_material(sides, method, tokenizer, recipe, seed)

    with _quiet():
        from training.preferences.making import make_adapter, make_reward_model

        shared: dict[str, Any] = {
            "base_dir": base_dir,
            "base_name": base_name,
            "start_dir": start_dir,
            "recipe": recipe,
            "seed": seed,
            "tokenizer": tokenizer,
            "folder": folder,
            "progress": progress,
        }
        if method == "reward":
            made = make_reward_model(material, **shared)
        else:
            paid_by: dict[str, Any] = {
                "reward": reward,
                "reward_models_dir": reward_models_dir,
                "base_digest": base_digest,
            }
            made = make_adapter(material, method=method, **paid_by, **shared)
    held_out_questions = sorted({digest_of(context.question) for context in contexts_of(sides.held_out)})
    facts = {
        "domain": domain,
        "method": method,
        "base_model": base_name,
        "base_sha256": base_digest,
        "started_from": started_from,
        "reward": reward or None,
        "recipe": recipe,
        "seed": seed,
        "data": {"preferences": digest_of(preferences), "learned": digest_of(sides.learned)},
        "rows": {
            "learned": len(material.rows or material.prompts),
            "left_out_too_long": material.num_too_long,
            "thumbs_not_used": len(sides.learned.thumbs) if method in ("reward", "dpo", "orpo") else 0,
            "held_out_pairs": len(material.held_out),
            "held_out_questions": len(held_out_questions),
            "held_out_questions_known_to_reward": _known(parents, held_out_questions),
        },
        "leaks": inherit_leaks(parents),
        "engines": ENGINES["lora"] if method != "reward" else (),
        "lineage": trace_lineage(sides.learned, parents, find_groups),
        **made.facts,
        "seconds": round(time.monotonic() - begun, 3),
    }
    if method == "reward":
        facts["questions"] = sorted({digest_of(context.question) for context in contexts_of(sides.learned)})
        digest = write_reward_model(target_dir, facts, made.save, _PACKAGES)
    else:
        digest = write_adapter(
            target_dir, facts, chat_template=tokenizer.chat_template, save=made.save, packages=_PACKAGES
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "finished.json", {"digest": digest})
    return _result_of(digest, kind, target_dir, resumed=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the libraries tell each other of their coming versions, and of a head that is to be learned."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message=r"(?s).*trl\.experimental")
            yield
    finally:
        logging.set_verbosity(before)


def _is_model(method: Method, reward: str, domain: str) -> bool:
    """Whether a reward model pays, and not a rule."""
    from training.preferences.rewards import RULES

    if method in ONLINE and not reward:
        raise BadInput(
            f"{method} needs something that pays it; train a reward model with: bakeoff train preferences FILE "
            f"--domain {domain} --method reward, and name its digest with --reward-model; or name a rule "
            f"with --reward: {', '.join(RULES)}",
            "reward-model",
        )
    if method not in ONLINE and reward:
        raise BadInput(
            f"{method} is not paid by anything; leave --reward-model and --reward out, or take: {', '.join(ONLINE)}"
        )
    if reward and reward not in RULES and not re.fullmatch(r"[0-9a-f]{8,64}", reward):
        raise BadInput(f"reward {reward!r} does not exist. Rules: {', '.join(RULES)}", "reward")
    return bool(reward) and reward not in RULES


def _read_parents(start_dir: Path | None, reward_dir: Path | None) -> list[dict[str, Any]]:
    """Manifests of the adapter and of the reward model that a training builds on."""
    found = [read_manifest(start_dir, ADAPTER)] if start_dir else []
    return [*found, *([read_manifest(reward_dir, REWARD_MODEL)] if reward_dir else [])]


def _known(parents: list[dict[str, Any]], held_out_questions: list[str]) -> int:
    """Held-out questions that a reward model learned from: on these, it judges what it knows."""
    known = {question for parent in parents for question in parent.get("questions", ())}
    return len(known.intersection(held_out_questions))


def _find_finished(folder: Path, kind: str, target_dir: Path) -> PreferenceResult | None:
    """What this training made, if it is still there."""
    try:
        digest = msgspec.json.decode((folder / "finished.json").read_bytes(), type=dict[str, str])["digest"]
        return _result_of(digest, kind, target_dir, resumed=True)
    except (FileNotFoundError, NotFound):
        return None


def _result_of(digest: str, kind: str, target_dir: Path, *, resumed: bool) -> PreferenceResult:
    manifest = read_manifest(target_dir / digest, kind)
    curve = manifest.get("curve") or []
    step, figures = curve[-1] if curve else (0, {})
    return PreferenceResult(
        kind,
        digest,
        target_dir / digest,
        manifest["method"],
        manifest["measures"],
        manifest["seconds"],
        step,
        figures.get("loss"),
        resumed,
    )
