"""Examples -> adapter: rows, loop, and an artefact folder whose manifest says what was learned from what.

A training is named by a hash of all that decides it: rows, recipe, seed, base model. Under that name lies its
checkpoint while it runs, and afterwards the digest of the adapter it made, so that the same call returns the finished
adapter and an interrupted one goes on. The database is left alone: whoever calls registers the adapter.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bakeoff.adapter_files import KIND
from bakeoff.artefacts import digest_of, read_manifest, write_json
from bakeoff.chat_template import load_tokenizer
from bakeoff.errors import BadInput, NotFound
from bakeoff.progress import Progress
from bakeoff.records import Example
from training.adapter import write_adapter
from training.curve import CurvePoint, measure_gaps
from training.data.leaks import Leak
from training.facts import FindGroups, describe_learning, describe_rows, trace_lineage
from training.loop import CHECKPOINT_EVERY_S, learn
from training.recipe import Recipe
from training.rows import FindPassages, FindShots, Row, make_rows
from training.variants import ENGINES


class TrainResult(Struct, frozen=True):
    """A finished training."""

    adapter: str
    """Digest of the artefact."""
    path: Path
    train_loss: float
    """Mean over the last part of the curve, nats per label token."""
    validation_loss: float
    """Of the weights that were kept; NaN without validation examples."""
    tokens: int
    seconds: float
    report: str
    """Whether the training ended well, in words."""
    step: int
    """The step whose weights were kept."""
    resumed: bool = False
    """Whether the adapter was there already and nothing was trained."""


def train(
    *,
    base_dir: Path,
    base_digest: str,
    domain: str,
    train_examples: Sequence[Example],
    validation_examples: Sequence[Example],
    find_passages: FindPassages,
    recipe: Recipe,
    seed: int,
    adapters_dir: Path,
    work_dir: Path,
    progress: Progress,
    fresh: bool = False,
    base_name: str | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    find_shots: FindShots | None = None,
    find_groups: FindGroups = lambda _: {},
    leaks: Sequence[Leak] = (),
    watch: Callable[[CurvePoint], None] = lambda _: None,
) -> TrainResult:
    """Train an adapter, or return the one that the same call made before.

    Args:
        base_dir: a Hugging Face model folder with a chat template.
        base_digest: hash of the base model's weights; the service refuses the adapter on any other.
        train_examples: the only ones that become rows to learn from.
        find_passages: questions -> what serving would retrieve for them.
        adapters_dir: receives the artefact folder.
        work_dir: holds checkpoints and the notes of finished trainings.
        progress: called after every step.
        fresh: train anew even if the same training is finished or under way.
        base_name: what manifest and config call the base model; the folder's name by default.
        find_shots: training example -> the examples that few-shot rows put before it; wanted by recipes with such rows.
        find_groups: documents -> who may see them now; goes into the lineage.
        leaks: held-out questions that stand in train and were allowed to; the manifest says so for ever.
        watch: called with each point of the curve.

    Raises:
        BakeoffError: examples, recipe, base model or disk cannot be used; or the loss is not a number.
    """
    leaked = {example.id for example in train_examples} & {example.id for example in validation_examples}
    if leaked:
        raise BadInput(f"example {min(leaked)!r} stands in the train and in the validation split")
    tokenizer = load_tokenizer(base_dir)
    rows = make_rows(
        train_examples,
        tokenizer,
        find_passages,
        recipe,
        budget=recipe.token_budget,
        epochs=recipe.max_epochs,
        seed=seed,
        find_shots=find_shots,
    )
    held_out = validation_rows(validation_examples, tokenizer, find_passages, recipe, seed, find_shots)
    data = {
        "train_examples": _hash_of(train_examples),
        "validation_examples": _hash_of(validation_examples),
        "rows": _hash_of(rows.rows),
        "validation_rows": _hash_of(held_out),
    }
    inputs = {"domain": domain, "base": base_digest, "recipe": recipe, "seed": seed, "data": data, "leaks": leaks}
    folder = work_dir / digest_of(inputs)
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    finished = _find_finished(folder, adapters_dir)
    if finished is not None:
        return finished

    from training.gate.forgetting import measure_forgetting
    from training.model import load_model, save_adapter

    model = load_model(base_dir, recipe, seed)
    learned = learn(
        model,
        rows.rows,
        held_out,
        recipe,
        seed=seed,
        checkpoint_path=folder / "checkpoint.pt",
        progress=progress,
        checkpoint_every_s=checkpoint_every_s,
        log_dir=folder / "tensorboard",
        watch=watch,
    )
    gaps = measure_gaps(model, rows.rows, held_out)
    forgetting = measure_forgetting(model, tokenizer)
    base_name = base_name or base_dir.name
    facts = {
        "domain": domain,
        "method": "sft",
        "base_model": base_name,
        "base_sha256": base_digest,
        "recipe": recipe,
        "seed": seed,
        "data": data,
        "leaks": leaks,
        "engines": ENGINES[recipe.lora_variant],
        "lineage": trace_lineage(rows.rows, train_examples, find_groups),
        "rows": describe_rows(rows, recipe, seed),
        **describe_learning(learned, model, gaps),
        "forgetting": forgetting,
    }
    adapter = write_adapter(
        adapters_dir,
        facts,
        chat_template=tokenizer.chat_template,
        save=lambda artefact: save_adapter(model, learned.weights, base_name, artefact, learned.first),
    )
    write_json(folder / "finished.json", {"adapter": adapter})
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return _result_of(adapter, adapters_dir, resumed=False)


def validation_rows(
    examples: Sequence[Example],
    tokenizer: Any,
    find_passages: FindPassages,
    recipe: Recipe,
    seed: int,
    find_shots: FindShots | None = None,
) -> tuple[Row, ...]:
    """The rows on which a training by this recipe takes its validation loss; none where there is no example."""
    if not examples or not recipe.validation_tokens:
        return ()
    return make_rows(
        examples,
        tokenizer,
        find_passages,
        recipe,
        budget=recipe.validation_tokens,
        epochs=1,
        seed=seed,
        find_shots=find_shots,
    ).rows


def _find_finished(folder: Path, adapters_dir: Path) -> TrainResult | None:
    """The adapter that this training made, if it is still there."""
    try:
        adapter = msgspec.json.decode((folder / "finished.json").read_bytes(), type=dict[str, str])["adapter"]
        return _result_of(adapter, adapters_dir, resumed=True)
    except (FileNotFoundError, NotFound):
        return None


def _result_of(adapter: str, adapters_dir: Path, *, resumed: bool) -> TrainResult:
    manifest = read_manifest(adapters_dir / adapter, KIND)
    _, train_loss, validation_loss = next(point for point in reversed(manifest["curve"]) if _is_kept(point, manifest))
    return TrainResult(
        adapter,
        adapters_dir / adapter,
        train_loss,
        float("nan") if validation_loss is None else validation_loss,
        manifest["tokens"],
        manifest["seconds"],
        manifest["report"],
        manifest["best_step"],
        resumed,
    )


def _is_kept(point: Sequence[Any], manifest: dict[str, Any]) -> bool:
    """Whether this point of the curve is that of the weights, or comes before it."""
    return bool(point[0] <= manifest["best_step"])


def _hash_of(values: object) -> str:
    return hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()
