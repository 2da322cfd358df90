"""`bakeoff documents`: what a domain knows."""

from pathlib import Path

import click

from bakeoff.cli.output import domain_option, json_option, print_json, progress_of
from bakeoff.cli.workspace import Workspace


@click.group("documents")
def documents_command() -> None:
    """Add, list and remove the documents of a domain."""


@documents_command.command("add")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@domain_option()
@json_option()
def add(paths: tuple[Path, ...], domain: str, as_json: bool) -> None:
    """Add documents: .jsonl (id, title, text, source per line), .md, .txt, or folders of them.

    Everything is checked before anything is written. Adding an id again replaces that document; one that has not
    changed is passed over, so an interrupted run goes on where it stopped.
    """
    from retrieval.documents import read_documents
    from retrieval.store import add_documents

    workspace = Workspace()
    documents = read_documents(paths)
    with progress_of("Indexing documents") as progress:
        counts = add_documents(workspace.engine, domain, documents, workspace.embedder, progress)
    if as_json:
        print_json(counts)
    else:
        click.echo(
            f"{domain}: {counts.added} added, {counts.replaced} replaced, {counts.unchanged} unchanged; "
            f"{counts.chunks} chunks embedded; epoch {counts.epoch}"
        )


@documents_command.command("list")
@domain_option()
@json_option()
def show_list(domain: str, as_json: bool) -> None:
    """List a domain's documents."""
    from retrieval.store import list_documents

    with Workspace().engine.connect() as connection:
        rows = list_documents(connection, domain)
    if as_json:
        print_json({"documents": rows})
        return
    for row in rows:
        click.echo(f"{row.id}\t{row.chunks} chunks\t{row.title}")


@documents_command.command("remove")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@domain_option()
@json_option()
def remove(ids: tuple[str, ...], domain: str, as_json: bool) -> None:
    """Remove documents by id, all or none."""
    from retrieval.store import remove_documents

    epoch = remove_documents(Workspace().engine, domain, ids)
    if as_json:
        print_json({"removed": len(set(ids)), "epoch": epoch})
    else:
        click.echo(f"{domain}: {len(set(ids))} removed; epoch {epoch}")
