"""`bakeoff examples`: questions with their answers, for training and for testing."""

from pathlib import Path
from typing import cast

import click

from bakeoff.cli.output import domain_option, json_option, print_json, progress_of
from bakeoff.cli.workspace import Workspace
from bakeoff.examples import SPLITS, import_examples
from bakeoff.records import Split


@click.group("examples")
def examples_command() -> None:
    """Import questions with their answers."""


@examples_command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@domain_option()
@click.option("--split", required=True, type=click.Choice(SPLITS), help="What the examples may be used for.")
@json_option()
def import_command(file: Path, domain: str, split: str, as_json: bool) -> None:
    """Import a JSONL FILE: id, question, answer, and optionally answers, document_ids and any tags.

    All lines go in or none. An id that is there already is replaced. Training reads train and validation, never test.
    """
    from retrieval.catalogue import document_ids
    from retrieval.shots import embed_shots

    workspace = Workspace()
    with workspace.engine.begin() as connection:
        known = document_ids(connection, domain)
        counts = import_examples(connection, domain, cast("Split", split), file, known)
    if split == "train":
        with progress_of("Embedding training questions") as progress:
            embed_shots(workspace.engine, domain, workspace.embedder, progress)
    if as_json:
        print_json(counts)
    else:
        click.echo(f"{domain}: {counts.added} added, {counts.replaced} replaced; {split} holds {counts.total} examples")
