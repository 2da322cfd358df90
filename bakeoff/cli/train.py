"""`bakeoff train`: examples -> rows -> adapter, promoted when it is done."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakeoff.artefacts import adapters_dir, register_adapter
from bakeoff.cli.output import domain_option, json_option, print_json, progress_of
from bakeoff.cli.workspace import Workspace
from bakeoff.models import find_model, hash_model
from bakeoff.records import Passage

if TYPE_CHECKING:
    from training.train import TrainResult


@click.group("train", invoke_without_command=True)
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
@click.option("--fresh", is_flag=True, help="Train anew even if the very same training was finished before.")
@json_option()
@click.pass_context
def train_command(
    context: click.Context,
    domain: str | None,
    recipe: Path | None,
    seed: int,
    tokens: int | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Train a LoRA adapter on the domain's training examples and let its modes answer with it.

    Without a validation split, 10% of train is cut by seed. The test split is never read. An interrupted training goes
    on where it stopped when the same command is run again.
    """
    if context.invoked_subcommand is not None:
        return
    if domain is None:
        raise click.UsageError("Missing option '--domain'.")
    result = train_adapter(Workspace(), domain, recipe=recipe, seed=seed, tokens=tokens, fresh=fresh)
    if as_json:
        print_json(result)
        return
    click.echo(
        f"{domain}: adapter {result.adapter}, {result.tokens:,} tokens in {result.seconds:.0f} s, "
        f"loss {result.train_loss:.3f} on train and {result.validation_loss:.3f} on validation\n{result.path}"
    )


def train_adapter(
    workspace: Workspace, domain: str, *, recipe: Path | None, seed: int, tokens: int | None, fresh: bool
) -> "TrainResult":
    """Train on the domain's train split, register the adapter and promote it.

    Raises:
        NotReady: the domain has no training examples.
    """
    from training.recipe import load_recipe
    from training.train import train

    overrides = {} if tokens is None else {"token_budget": tokens}
    train_examples, validation_examples = workspace.splits(domain, seed)
    base_dir = find_model(workspace.settings)
    home = workspace.settings.home

    def find_passages(questions: list[str]) -> list[list[Passage]]:
        results = workspace.retriever.search_many(domain, questions, workspace.search_options)
        return [list(result.passages) for result in results]

    with progress_of("Training") as progress:
        result = train(
            base_dir=base_dir,
            base_digest=hash_model(base_dir),
            domain=domain,
            train_examples=train_examples,
            validation_examples=validation_examples,
            find_passages=find_passages,
            recipe=load_recipe(recipe, overrides),
            seed=seed,
            adapters_dir=adapters_dir(home),
            work_dir=home / "training",
            progress=progress,
            fresh=fresh,
        )
    with workspace.engine.begin() as connection:
        register_adapter(connection, domain, result.adapter)
    return result
