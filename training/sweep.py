"""Many short trainings -> the recipe with the lowest validation loss, and how much of its gain is luck.

optuna draws recipes (tree-structured Parzen estimator, Bergstra et al. 2011), the recipe one starts from first; a trial
that is behind the median of the others at the same part of its training is ended (Golovin et al. 2017). All trials are
measured on the same validation rows, made by the recipe one starts from, so that a mixture cannot win by choosing
easier rows. The test split is never read. The best of many is best partly by chance: so winner and start are trained
again with several fresh seeds, and the report says what of the gain is left. A sweep that was stopped goes on.
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bakeoff.artefacts import digest_of, write_json
from bakeoff.chat_template import load_tokenizer
from bakeoff.errors import NotReady
from bakeoff.progress import Progress
from bakeoff.records import Example
from training.curve import CurvePoint
from training.loop import learn
from training.recipe import Recipe
from training.rows import FindPassages, Row, make_rows
from training.space import Space, apply_knobs, draw_recipe, knobs_of, write_recipe
from training.sweep_report import SweepResult, Trial, describe_gain, interval_over_seeds
from training.train import validation_rows

VALIDATION_TOKENS = 20_000
VALIDATIONS = 5
"""Points of each trial's curve, at which it can be ended."""
_STARTUP_TRIALS = 4
"""Trials before any is ended."""


class _Trainer(Struct, frozen=True):
    """Trains one recipe on the sweep's rows."""

    base_dir: Path
    tokenizer: Any
    train_examples: Sequence[Example]
    held_out: tuple[Row, ...]
    find_passages: FindPassages
    folder: Path

    def loss_of(
        self, recipe: Recipe, seed: int, progress: Progress, watch: Callable[[CurvePoint], None] = lambda _: None
    ) -> float:
        """Validation loss at the end; remembered, so that nothing is trained twice."""
        from training.model import load_model

        name = digest_of((recipe, seed))
        found = self.folder / f"{name}.json"
        if found.exists():
            return float(msgspec.json.decode(found.read_bytes())["loss"])
        rows = make_rows(
            self.train_examples,
            self.tokenizer,
            self.find_passages,
            recipe,
            budget=recipe.token_budget,
            epochs=recipe.max_epochs,
            seed=seed,
        ).rows
        learned = learn(
            load_model(self.base_dir, recipe, seed),
            rows,
            self.held_out,
            recipe,
            seed=seed,
            checkpoint_path=self.folder / f"{name}.pt",
            progress=progress,
            watch=watch,
        )
        loss = learned.curve[-1].validation_loss
        write_json(found, {"loss": loss, "seed": seed, "recipe": recipe})
        (self.folder / f"{name}.pt").unlink(missing_ok=True)
        return loss


def run_sweep(
    *,
    base_dir: Path,
    domain: str,
    train_examples: Sequence[Example],
    validation_examples: Sequence[Example],
    find_passages: FindPassages,
    recipe: Recipe,
    space: Space,
    num_trials: int,
    num_seeds: int,
    seed: int,
    sweeps_dir: Path,
    progress: Progress,
) -> SweepResult:
    """Search for a better recipe on the validation examples.

    Args:
        recipe: where to start; its `token_budget` is that of each trial.
        num_trials: recipes tried, the start included.
        num_seeds: fresh seeds with which winner and start are trained again.
        seed: of sampler and trials; the fresh seeds are those after it.
        sweeps_dir: gets a folder named by what decides the sweep.
        progress: called with the trials done and what the current one does.

    Raises:
        NotReady: there is no validation example.
        BadInput: a knob or value that a recipe cannot have; few-shot rows.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if not validation_examples:
        raise NotReady("a sweep chooses by validation loss, and there is no validation example; import more examples")
    recipe = msgspec.structs.replace(recipe, validations=VALIDATIONS, patience=0, few_shot_share=0.0)
    examples = [example.id for example in (*train_examples, *validation_examples)]
    folder = sweeps_dir / digest_of((domain, recipe, space, seed, examples, base_dir.name))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(base_dir)
    measured_by = msgspec.structs.replace(recipe, validation_tokens=VALIDATION_TOKENS)
    held_out = validation_rows(validation_examples, tokenizer, find_passages, measured_by, seed)
    trainer = _Trainer(base_dir, tokenizer, train_examples, held_out, find_passages, folder)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = JournalFileBackend(str(folder / "journal.log"))
    study = optuna.create_study(
        study_name="sweep",
        storage=optuna.storages.JournalStorage(journal),
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=1),
    )
    _prepare_queue(study, knobs_of(recipe, space))
    total = num_trials + 2 * num_seeds

    def objective(trial: Any) -> float:
        done = len(_finished(study))

        def watch(point: CurvePoint) -> None:
            trial.report(point.validation_loss, len(trial.storage.get_trial(trial._trial_id).intermediate_values))
            if trial.should_prune():
                raise optuna.TrialPruned

        tried = draw_recipe(trial, space, recipe)
        return trainer.loss_of(tried, seed, _within(progress, done, total, f"trial {trial.number}"), watch)

    while len(_finished(study)) < num_trials:
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=_STARTUP_TRIALS)
        study.optimize(objective, n_trials=1)
    return _conclude(study, trainer, recipe, space, num_trials, num_seeds, seed, progress)


def _conclude(
    study: Any,
    trainer: _Trainer,
    recipe: Recipe,
    space: Space,
    num_trials: int,
    num_seeds: int,
    seed: int,
    progress: Progress,
) -> SweepResult:
    best = study.best_trial
    start = next(trial for trial in _finished(study) if trial.params == knobs_of(recipe, space))
    losses: dict[str, list[float]] = {"start": [], "winner": []}
    for number in range(num_seeds):
        for offset, (name, trial) in enumerate((("start", start), ("winner", best))):
            done = num_trials + 2 * number + offset
            told = _within(progress, done, num_trials + 2 * num_seeds, f"{name}, fresh seed {number + 1}")
            losses[name].append(trainer.loss_of(apply_knobs(recipe, trial.params), seed + 1 + number, told))
    differences = [before - after for before, after in zip(losses["start"], losses["winner"], strict=True)]
    gain = statistics.fmean(differences)
    low, high = interval_over_seeds(differences)
    apparent = start.value - best.value
    trials = tuple(
        Trial(trial.number, trial.params, trial.value, trial.state.name.lower()) for trial in _finished(study)
    )
    report = describe_gain(None if best.number == start.number else best.number, len(trials), apparent, differences)
    path = trainer.folder / "recipe.toml"
    knobs = apply_knobs(recipe, best.params)
    write_recipe(path, {name: getattr(knobs, name) for name in (*space, "lora_alpha")}, report)
    result = SweepResult(
        trainer.folder,
        path,
        trials,
        best.params,
        apparent,
        tuple(losses["start"]),
        tuple(losses["winner"]),
        gain,
        low,
        high,
        apparent - gain,
        report,
    )
    write_json(trainer.folder / "sweep.json", msgspec.to_builtins(result, enc_hook=str))
    return result


def _prepare_queue(study: Any, start: dict[str, Any]) -> None:
    """Queue the start as the first trial, and again every trial that a stop left unfinished."""
    from optuna.trial import TrialState

    if not study.trials:
        study.enqueue_trial(start)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _finished(study: Any) -> list[Any]:
    from optuna.trial import TrialState

    return list(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _within(progress: Progress, done: int, total: int, name: str) -> Progress:
    """Tell the progress of one training as a part of the whole sweep."""
    return lambda step, steps, note: progress(done, total, f"{name}, step {step} of {steps}, {note}")
