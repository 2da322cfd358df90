"""`bakeoff train --sweep`: many short trainings, the best recipe, and how much of its gain is luck."""

import shlex
from pathlib import Path

import click

from bakeoff.cli.output import print_json, progress_of
from bakeoff.cli.training import gather_material, refuse_leaks
from bakeoff.cli.workspace import Workspace

TRIAL_TOKENS = 40_000
"""Default budget of a trial: about a minute and a half on two idle cores."""


def sweep_recipes(
    workspace: Workspace,
    domain: str,
    recipe: Path | None,
    space: Path | None,
    tokens: int | None,
    trials: int,
    seeds: int,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Run or go on with a sweep, and print what it found.

    Raises:
        NotReady: the domain has no training examples.
        BadInput: a knob that does not exist, or a training set that leaks.
    """
    from training.recipe import load_recipe
    from training.space import load_space
    from training.sweep import run_sweep

    start = load_recipe(recipe, {"token_budget": tokens or TRIAL_TOKENS})
    tried = load_space(space)
    material = gather_material(workspace, domain, seed)
    refuse_leaks(workspace, domain, material.train_examples, allowed=False)
    with progress_of("Sweep") as progress:
        result = run_sweep(
            base_dir=material.base_dir,
            domain=domain,
            train_examples=material.train_examples,
            validation_examples=material.validation_examples,
            find_passages=material.find_passages,
            recipe=start,
            space=tried,
            num_trials=trials,
            num_seeds=seeds,
            seed=seed,
            sweeps_dir=workspace.settings.home / "sweeps" / domain,
            progress=progress,
        )
    if as_json:
        print_json(result)
        return
    for trial in sorted(result.trials, key=lambda trial: trial.loss or float("inf")):
        loss = f"{trial.loss:.4f}" if trial.state == "complete" and trial.loss is not None else trial.state
        knobs = " ".join(f"{name}={_short(value)}" for name, value in trial.knobs.items())
        click.echo(f"  trial {trial.number:3}  {loss:>8}  {knobs}")
    click.echo(result.report)
    command = shlex.join(["bakeoff", "train", "--domain", domain, "--recipe", str(result.recipe)])
    click.echo(f"Train it on the whole budget with: {command}")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
