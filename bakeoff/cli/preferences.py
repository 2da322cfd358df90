"""`bakeoff train preferences`: votes, rankings or thumbs -> an adapter that people prefer, or a reward model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakeoff.cli.output import domain_option, json_option, print_json, progress_of, say
from bakeoff.cli.workspace import Workspace
from training.preferences.recipe import METHODS

if TYPE_CHECKING:
    from training.preferences.train import PreferenceResult


@click.command("preferences")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@domain_option()
@click.option("--method", type=click.Choice(METHODS), default="dpo", show_default=True, help="How to learn from them.")
@click.option(
    "--from",
    "start",
    default="promoted",
    show_default=True,
    metavar="DIGEST|promoted|base",
    help="What to start from: an adapter of the domain, the one that serves (the base model where none does), or the "
    "base model.",
)
@click.option("--reward-model", metavar="DIGEST|FOLDER", help="What pays rloo, grpo and ppo.")
@click.option("--reward", "rule", metavar="RULE", help="A rule in its place: short, one-sentence or cites.")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML recipe; the default one, training/recipes/preferences.toml, explains every knob.",
)
@click.option("--seed", default=0, show_default=True, help="Draws the held-out questions, the order and the weights.")
@click.option("--epochs", type=click.IntRange(1, 1000), help="Times that every vote is learned from.")
@click.option("--batch-size", type=click.IntRange(2, 1024), help="Pairs, thumbs or completions of one step.")
@click.option("--beta", type=click.FloatRange(0), help="How strongly the adapter is held to where it started.")
@click.option(
    "--learning-rate-multiplier",
    "rate_factor",
    type=click.FloatRange(0, min_open=True),
    metavar="FACTOR",
    help="Times the recipe's learning rate.",
)
@click.option("--fresh", is_flag=True, help="Train anew even if the very same training was finished before.")
@json_option()
def preferences_command(
    file: Path,
    domain: str,
    method: str,
    start: str,
    reward_model: str | None,
    rule: str | None,
    recipe: Path | None,
    seed: int,
    epochs: int | None,
    batch_size: int | None,
    beta: float | None,
    rate_factor: float | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Learn from what people said of answers: votes, rankings or thumbs, a JSONL file.

    A fifth of the questions is held out and only measures. The adapter is registered and serves nobody until it is
    promoted. An interrupted training goes on where it stopped when the same command is run again.
    """
    result = learn_from_people(
        Workspace(),
        file,
        domain,
        method=method,
        start=start,
        reward_model=reward_model,
        rule=rule,
        recipe=recipe,
        seed=seed,
        overrides={"num_epochs": epochs, "batch_size": batch_size, "beta": beta},
        rate_factor=rate_factor,
        fresh=fresh,
    )
    if as_json:
        print_json(result)
        return
    kind = "reward model" if result.kind == "reward-model" else "adapter"
    click.echo(f"{domain}: {kind} {result.digest}, {method}, {result.seconds:.0f} s\n{result.path}")
    for line in describe_measures(result.measures):
        click.echo(f"  {line}")
    if result.kind == "adapter":
        say(f"It serves nobody yet: bakeoff adapters promote {result.digest} --domain {domain}")
    else:
        say(
            f"Learn with it: bakeoff train preferences {file} --domain {domain} --method rloo "
            f"--reward-model {result.digest}"
        )


def learn_from_people(
    workspace: Workspace,
    file: Path,
    domain: str,
    *,
    method: Any,
    start: str,
    reward_model: str | None,
    rule: str | None,
    recipe: Path | None,
    seed: int,
    fresh: bool,
    overrides: Mapping[str, object] | None = None,
    rate_factor: float | None = None,
) -> "PreferenceResult":
    """Train on a file of judgements and register the adapter, without promoting it.

    A domain that does not exist yet is made when the adapter is registered, where `start` is `base`.

    Args:
        overrides: knobs of the recipe; None leaves a knob as the recipe has it.
        rate_factor: times the recipe's learning rate.

    Raises:
        BadInput: the file or the options cannot be used.
        NotFound: no such domain, adapter or reward model.
    """
    from bakeoff.adapters import register_adapter
    from bakeoff.artefacts import adapters_dir
    from bakeoff.cli.reporting import report_metrics
    from bakeoff.database import reading
    from bakeoff.domains import ensure_domain
    from bakeoff.errors import BadInput
    from bakeoff.models import find_model, hash_model
    from retrieval.audience import groups_on_record
    from training.preferences.judgements import read_preferences
    from training.preferences.recipe import load_preference_recipe
    from training.preferences.reward_files import find_reward_model, reward_models_dir
    from training.preferences.train import train_preferences

    if reward_model and rule:
        raise BadInput("name what pays either with --reward-model or with --reward, not with both", "reward-model")
    knobs = {name: value for name, value in (overrides or {}).items() if value is not None}
    if rate_factor is not None:
        knobs["learning_rate"] = load_preference_recipe(method, recipe).learning_rate * rate_factor
    loaded = load_preference_recipe(method, recipe, knobs)
    preferences = read_preferences(file, domain)
    if preferences.num_elsewhere:
        say(f"{preferences.num_elsewhere} lines of other domains are left out.")
    home = workspace.settings.home

    def find_groups(documents: Sequence[str]) -> Mapping[str, Sequence[str]]:
        with reading(workspace.engine) as connection:
            return groups_on_record(connection, domain, documents)

    start_dir = _find_start(workspace, domain, start)
    base_dir = find_model(workspace.settings)
    with progress_of("Learning from people") as progress:
        result = train_preferences(
            preferences,
            method=method,
            domain=domain,
            base_dir=base_dir,
            base_digest=hash_model(base_dir),
            recipe=loaded,
            seed=seed,
            adapters_dir=adapters_dir(home),
            reward_models_dir=reward_models_dir(home),
            work_dir=home / "training",
            progress=progress,
            start_dir=start_dir,
            find_groups=find_groups,
            reward=find_reward_model(home, reward_model) if reward_model else rule or "",
            fresh=fresh,
        )
    if result.train_loss is not None:
        report_metrics({"step": result.step, "train_loss": result.train_loss, "valid_loss": None})
    if result.kind == "adapter":
        with workspace.engine.begin() as connection:
            if start == "base":
                ensure_domain(connection, domain)
            register_adapter(connection, domain, result.digest)
    return result


def describe_measures(measures: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each figure, before and after, with its interval."""
    words = {
        "likelier": ("chosen answer likelier than the rejected one", "{:.0%}"),
        "raised": ("chosen answer raised more than the rejected one", "{:.0%}"),
        "accuracy": ("chosen answer scored above the rejected one", "{:.0%}"),
        "reward": ("reward of its completions", "{:.3f}"),
        "tokens": ("tokens of its completions", "{:.1f}"),
    }
    lines = []
    for name, (text, form) in words.items():
        parts = [
            f"{when} {form.format(figure['mean'])} ({form.format(figure['low'])} to {form.format(figure['high'])})"
            for when in ("before", "after")
            if (figure := measures[when].get(name)) is not None
        ]
        if parts:
            num_questions = measures["after"][name]["num_questions"]
            lines.append(f"{text}: {', '.join(parts)}, {num_questions} held-out questions")
    return lines


def _find_start(workspace: Workspace, domain: str, start: str) -> Path | None:
    """Folder of the adapter to start from; None for the base model."""
    from bakeoff.adapters import find_adapter
    from bakeoff.domains import find_domain

    if start == "base":
        return None
    with workspace.engine.connect() as connection:
        found = find_domain(connection, domain)
        digest = found.adapter if start == "promoted" else start
        if digest is None:
            return None
        return find_adapter(connection, workspace.settings.home, domain, digest).path
