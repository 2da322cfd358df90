"""`bakeoff examples`: questions with their answers, for training and for testing."""

from pathlib import Path
from typing import cast

import click

from bakeoff.cli.lazy import LazyGroup
from bakeoff.cli.output import confirm, domain_option, json_option, print_json, progress_of, say
from bakeoff.cli.workspace import Workspace
from bakeoff.examples import SPLITS, load_examples, remove_examples, store_examples
from bakeoff.records import Example, Split
from training.data.formats import FORMATS, Format, read_file

COMMANDS = {
    "check": (
        "bakeoff.cli.examples_check",
        "Find leaks, repeats, conflicts, personal data and other trouble.",
    ),
    "split": ("bakeoff.cli.examples_split", "Move a part of the training examples into validation and test."),
    "augment": ("bakeoff.cli.examples_augment", "Let a model write questions about the domain's documents."),
}


@click.group("examples", cls=LazyGroup, commands_by_name=COMMANDS)
def examples_command() -> None:
    """Import questions with their answers, check them, split them, write more."""


@examples_command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@domain_option()
@click.option("--split", required=True, type=click.Choice(SPLITS), help="What the examples may be used for.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Of the file; seen from its content otherwise.")
@click.option("--task", metavar="NAME", help="What the examples ask for, where they do not say it themselves.")
@json_option()
def import_command(file: Path, domain: str, split: str, form: str | None, task: str | None, as_json: bool) -> None:
    """Import a FILE of questions with answers.

    JSONL, CSV, OpenAI chat, Alpaca or ShareGPT. All records go in or none. An id that is there already is replaced; a
    record without one gets a hash of its content. Training reads train and validation, never test.
    """
    from retrieval.catalogue import document_ids

    workspace = Workspace()
    examples = read_file(file, cast("Format | None", form), task)
    with workspace.engine.begin() as connection:
        known = document_ids(connection, domain)
        counts = store_examples(connection, domain, cast("Split", split), examples, known, str(file))
    if split == "train":
        embed_train(workspace, domain)
    if as_json:
        print_json(counts)
    else:
        click.echo(f"{domain}: {counts.added} added, {counts.replaced} replaced; {split} holds {counts.total} examples")


@examples_command.command("remove")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@domain_option()
@click.option(
    "--duplicates", is_flag=True, help="Every training example that repeats an earlier one, nearly or exactly."
)
@click.option("--leaks", is_flag=True, help="Every training example that gives a held-out question away.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option()
def remove_command(ids: tuple[str, ...], domain: str, duplicates: bool, leaks: bool, yes: bool, as_json: bool) -> None:
    """Remove examples by ID, or those of train that a check finds."""
    if not (ids or duplicates or leaks):
        raise click.UsageError("Say which: IDs, --duplicates or --leaks.")
    workspace = Workspace()
    splits = load_splits(workspace, domain)
    chosen = dict.fromkeys(ids)
    if duplicates:
        chosen |= dict.fromkeys(_repeated(splits["train"]))
    if leaks:
        chosen |= dict.fromkeys(_leaking(workspace, splits))
    if chosen and not yes:
        confirm(f"Remove {len(chosen)} examples of domain {domain}?")
    with workspace.engine.begin() as connection:
        removed = remove_examples(connection, domain, list(chosen))
    if as_json:
        print_json({"removed": removed, "ids": list(chosen)})
    else:
        click.echo(f"{domain}: {removed} examples removed")


def load_splits(workspace: Workspace, domain: str) -> dict[Split, list[Example]]:
    """Every example of the domain by its split, each split in the order of import.

    Raises:
        NotFound: no such domain.
    """
    from bakeoff.domains import find_domain

    with workspace.engine.connect() as connection:
        find_domain(connection, domain)
        found = load_examples(connection, domain)
    return {split: [example for other, example in found if other == split] for split in SPLITS}


def embed_train(workspace: Workspace, domain: str) -> None:
    """Make the vectors of the training questions that have none yet."""
    from retrieval.shots import embed_shots

    with progress_of("Embedding training questions") as progress:
        embed_shots(workspace.engine, domain, workspace.embedder, progress)


def _repeated(train: list[Example]) -> list[str]:
    from training.data.duplicates import find_exact, find_near

    return [repeat.repeated_id for repeat in (*find_exact(train), *find_near(train))]


def _leaking(workspace: Workspace, splits: dict[Split, list[Example]]) -> list[str]:
    from training.data.leaks import find_leaks

    say("Looking for leaks ...")
    found = find_leaks(splits["train"], splits["validation"] + splits["test"], workspace.embedder.embed)
    return [leak.train_id for leak in found]
