"""`bakeoff vector-stores`: the work that clients order by `/v1/vector_stores`."""

import click

from bakeoff.cli.output import json_option, print_json, progress_of
from bakeoff.cli.workspace import Workspace


@click.group("vector-stores")
def vector_stores_command() -> None:
    """Index the files that clients have put into vector stores; the service's jobs run this."""


@vector_stores_command.command("ingest")
@click.argument("store")
@json_option()
def ingest_command(store: str, as_json: bool) -> None:
    """Put the waiting files of a STORE into its domain; goes on where a run before was stopped."""
    from service.openai.vector_stores.ingestion import ingest

    workspace = Workspace()
    with progress_of("Indexing files") as progress:
        ingested = ingest(workspace.engine, workspace.settings.home, workspace.embedder, store, progress)
    if as_json:
        print_json(ingested)
    else:
        click.echo(f"{store}: {ingested.completed} files indexed, {ingested.failed} failed, {ingested.left} withdrawn")
