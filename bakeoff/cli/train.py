"""`bakeoff train`: examples -> rows -> adapter, promoted if the gate lets it pass; sweeps, preferences and audits."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakeoff.adapter_files import KIND
from bakeoff.adapters import GateReport, register_adapter
from bakeoff.artefacts import adapters_dir, peek_manifest
from bakeoff.cli.lazy import LazyGroup
from bakeoff.cli.output import domain_option, json_option, print_json, progress_of, say
from bakeoff.cli.promotion import describe_audience, look_up, promote_through_gate, refresh_card
from bakeoff.cli.queueing import queue_option, submit_this
from bakeoff.cli.reporting import report_metrics
from bakeoff.cli.training import gather_material, refuse_leaks
from bakeoff.cli.workspace import Workspace
from bakeoff.database import reading, writing
from bakeoff.domains import ensure_domain

if TYPE_CHECKING:
    from training.curve import CurvePoint
    from training.train import TrainResult

WITHOUT_BUDGET = 10**12
"""Tokens: more than any file holds, where epochs are counted."""

COMMANDS = {
    "preferences": ("bakeoff.cli.preferences", "Learn from votes, rankings and thumbs (DPO, KTO, PPO, ...)."),
    "audit": ("bakeoff.cli.audit", "Measure how much of its training text an adapter gives away."),
}


@click.group("train", cls=LazyGroup, commands_by_name=COMMANDS, invoke_without_command=True)
@domain_option(required=False)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML recipe; the default one, training/recipes/default.toml, explains every knob.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Draws the validation split, the rows and the first weights."
)
@click.option("--tokens", type=click.IntRange(1_000), help="Token budget, in place of the recipe's.")
@click.option("--epochs", type=click.IntRange(1, 100), help="Learn every example so often, whatever the budget.")
@click.option("--batch-size", type=click.IntRange(1, 1024), help="Rows of one step, in place of the recipe's tokens.")
@click.option(
    "--learning-rate-multiplier",
    "rate_factor",
    type=click.FloatRange(0, min_open=True),
    metavar="FACTOR",
    help="Times the recipe's learning rate.",
)
@click.option(
    "--train-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Learn from exactly this file (a format of bakeoff examples import), and not from the train split.",
)
@click.option("--validation-file", type=click.Path(path_type=Path), metavar="FILE", help="Goes with --train-file.")
@click.option("--fresh", is_flag=True, help="Train anew even if the very same training was finished before.")
@click.option("--allow-leaks", is_flag=True, help="Train though test questions stand in train; the adapter says so.")
@click.option("--no-promote", is_flag=True, help="Only register the adapter: no gate, and nothing else answers.")
@click.option("--sweep", is_flag=True, help="Search for a better recipe on validation instead; --tokens is per trial.")
@click.option("--trials", default=12, show_default=True, type=click.IntRange(2), help="Recipes that a sweep tries.")
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(1), help="Fresh seeds that a sweep's winner must face."
)
@click.option(
    "--space",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML of what a sweep tries; the default one, training/recipes/sweep.toml, explains the form.",
)
@queue_option()
@json_option()
@click.pass_context
def train_command(
    context: click.Context,
    domain: str | None,
    recipe: Path | None,
    seed: int,
    tokens: int | None,
    epochs: int | None,
    batch_size: int | None,
    rate_factor: float | None,
    train_file: Path | None,
    validation_file: Path | None,
    fresh: bool,
    allow_leaks: bool,
    no_promote: bool,
    sweep: bool,
    trials: int,
    seeds: int,
    space: Path | None,
    as_job: bool,
    as_json: bool,
) -> None:
    """Train a LoRA adapter on the domain's training examples and let its modes answer with it.

    Without a validation split, 10% of train is cut by seed. Nothing is learned or chosen on the test split; its
    questions are only compared with the training questions, and a set that leaks is refused. The adapter is promoted
    if it passes the gate (bakeoff adapters check). An interrupted training goes on where it stopped when the same
    command is run again.
    """
    if context.invoked_subcommand is not None:
        return
    if domain is None:
        raise click.UsageError("Missing option '--domain'.")
    if validation_file is not None and train_file is None:
        raise click.UsageError("--validation-file goes with --train-file.")
    if tokens is not None and epochs is not None:
        raise click.UsageError("Give either --tokens or --epochs.")
    if sweep and train_file is not None:
        raise click.UsageError("--sweep searches on the domain's own splits: leave --train-file out.")
    if sweep and any(knob is not None for knob in (epochs, batch_size, rate_factor)):
        raise click.UsageError("--sweep chooses these knobs itself: put them into a --space or --recipe file.")
    workspace = Workspace()
    if as_job:
        submit_this(context, workspace, "train", domain, is_heavy=True, as_json=as_json)
        return
    if sweep:
        from bakeoff.cli.sweeping import sweep_recipes

        sweep_recipes(workspace, domain, recipe, space, tokens, trials, seeds, seed, as_json=as_json)
        return
    result = train_adapter(
        workspace,
        domain,
        recipe=recipe,
        seed=seed,
        tokens=tokens,
        epochs=epochs,
        batch_size=batch_size,
        rate_factor=rate_factor,
        files=(train_file, validation_file) if train_file is not None else None,
        fresh=fresh,
        allow_leaks=allow_leaks,
    )
    report = None if no_promote else promote_through_gate(workspace, domain, result.adapter)
    if as_json:
        print_json({**_facts(result), "promoted": report is not None and report.passed, "gate": report})
        return
    click.echo(
        f"{domain}: adapter {result.adapter}, {result.tokens:,} tokens in {result.seconds:.0f} s, "
        f"loss {result.train_loss:.3f} on train and {result.validation_loss:.3f} on validation\n{result.report}\n"
        f"{result.path}"
    )
    if report is not None:
        _tell_gate(domain, report)


def train_adapter(
    workspace: Workspace,
    domain: str,
    *,
    recipe: Path | None = None,
    seed: int = 0,
    tokens: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    rate_factor: float | None = None,
    files: tuple[Path, Path | None] | None = None,
    fresh: bool = False,
    allow_leaks: bool = False,
) -> "TrainResult":
    """Train on the domain's train split and register the adapter; it does not serve yet.

    Args:
        tokens: token budget, in place of the recipe's.
        epochs: times that every example is learned, in place of any budget.
        batch_size: rows of one step.
        rate_factor: times the recipe's learning rate.
        files: of training and of validation examples, in place of the domain's splits; a domain that does not exist
            yet is made when the adapter is registered.

    Raises:
        NotReady: the domain has no training examples.
        BadInput: the training set holds test questions, and that is not allowed.
    """
    from training.recipe import load_recipe
    from training.train import train

    given = {"token_budget": WITHOUT_BUDGET if epochs else tokens, "max_epochs": epochs, "batch_rows": batch_size}
    overrides: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if rate_factor is not None:
        overrides["learning_rate"] = load_recipe(recipe).learning_rate * rate_factor
    knobs = load_recipe(recipe, overrides)
    material = gather_material(workspace, domain, seed, files)
    leaks = refuse_leaks(workspace, domain, material.train_examples, allowed=allow_leaks)
    home = workspace.settings.home
    with progress_of("Training") as progress:
        result = train(
            base_dir=material.base_dir,
            base_digest=material.base_digest,
            domain=domain,
            train_examples=material.train_examples,
            validation_examples=material.validation_examples,
            find_passages=material.find_passages,
            find_shots=material.find_shots,
            find_groups=material.find_groups,
            leaks=leaks,
            recipe=knobs,
            seed=seed,
            adapters_dir=adapters_dir(home),
            work_dir=home / "training",
            progress=progress,
            watch=_report_point,
            fresh=fresh,
        )
    with writing(workspace.engine) as connection:
        if files is not None:
            ensure_domain(connection, domain)
        register_adapter(connection, domain, result.adapter)
    adapter = look_up(workspace, domain, result.adapter)
    refresh_card(workspace, adapter)
    with reading(workspace.engine) as connection:
        say(describe_audience(connection, adapter, peek_manifest(adapter.path, KIND)))
    return result


def _report_point(point: "CurvePoint") -> None:
    report_metrics({"step": point.step, "train_loss": point.train_loss, "valid_loss": point.validation_loss})


def _facts(result: "TrainResult") -> dict[str, Any]:
    return {field: getattr(result, field) for field in result.__struct_fields__}


def _tell_gate(domain: str, report: GateReport) -> None:
    for check in report.checks:
        click.echo(f"  {'passed' if check.passed else 'FAILED'}  {check.name}: {check.sentence}")
    if report.passed:
        click.echo(f"Promoted: {domain} answers with it from now on.")
    else:
        serving = f"adapter {report.against} goes on serving" if report.against else "no adapter serves"
        click.echo(
            f"Not promoted: {serving}. To promote it all the same, on the record: "
            f"bakeoff adapters promote {report.adapter} --domain {domain} --anyway REASON"
        )
