"""`bakeoff documents sync`: make a domain hold what a folder holds, once or for as long as it changes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakeoff.cli.output import domain_option, group_option, json_option, print_json, progress_of, say
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BadInput

if TYPE_CHECKING:
    from retrieval.documents import Reading


@click.command("sync")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@domain_option()
@click.option("--watch", is_flag=True, help="Go on: follow every change until Ctrl-C.")
@click.option("--allow-empty", is_flag=True, help="A missing or empty folder is meant: remove all that came from it.")
@group_option("Who may see new documents; may be repeated. Known ones keep their groups.")
@json_option()
def sync(folder: Path, domain: str, watch: bool, allow_empty: bool, groups: tuple[str, ...], as_json: bool) -> None:
    """Make a domain hold what DIR holds: adds, changes and deletions.

    Documents that came from elsewhere are left alone. A file that cannot be read now keeps its documents; one that was
    moved or renamed, unchanged, keeps the groups that may see it. New files are for everyone, unless --group says.
    """
    from retrieval.documents import Reading, read_changed, read_documents
    from retrieval.formats.converter import Converter
    from retrieval.sync import watch_folder

    workspace = Workspace()

    def apply(reading: Reading, changed: set[Path] | None) -> None:
        start = time.monotonic()
        result = _apply(workspace, folder, domain, reading, changed, groups, allow_empty=allow_empty)
        if as_json:
            print_json(result)
        else:
            click.echo(
                f"{domain}: {result['added']} added, {result['replaced']} replaced, {result['removed']} removed, "
                f"{result['unchanged']} unchanged, {len(result['skipped'])} skipped; "
                f"epoch {result['epoch']} ({time.monotonic() - start:.2f} s)"
            )

    with Converter() as converter:
        if not watch:
            paths = [folder] if folder.is_dir() else []
            apply(read_documents(paths, converter, allow_nothing=True), None)
            return
        for turn, changed in enumerate(watch_folder(folder)):  # the first is the whole folder
            try:
                apply(read_changed(folder, changed, converter), changed)
            except BadInput as error:
                if turn == 0:
                    raise
                say(f"Not followed: {error}")
            if turn == 0:
                say(f"Watching {folder}. Ctrl-C ends.")


def _apply(
    workspace: Workspace,
    folder: Path,
    domain: str,
    reading: "Reading",
    changed: set[Path] | None,
    groups: tuple[str, ...],
    *,
    allow_empty: bool,
) -> dict[str, Any]:
    from retrieval.catalogue import document_ids, document_origins, load_texts
    from retrieval.permissions import load_groups
    from retrieval.store import add_documents, remove_documents
    from retrieval.sync import plan_sync

    with workspace.engine.connect() as connection:
        known = document_origins(connection, domain)
    plan = plan_sync(folder, reading.reads, reading.reports, known, changed, allow_empty=allow_empty)
    for report in reading.skipped:
        say(f"  skipped  {report}")
    for clash in plan.clashes:
        say(f"  skipped  {clash}")
    gone = list(plan.to_remove)
    if any(read.document.id not in known for read in plan.to_add):  # its removal may come with the next change only
        gone += [name for name, origin in known.items() if origin and not Path(origin).exists()]
    with workspace.engine.connect() as connection:  # a file that was moved keeps its groups
        new = {read.document.text for read in plan.to_add}
        moved = {text: name for name, text in load_texts(connection, domain, gone).items() if text in new}
        kept = load_groups(connection, domain, moved.values())
    named: dict[str, tuple[str, ...]] = {}
    for read in plan.to_add:
        if read.groups is not None:
            named[read.document.id] = read.groups
        elif read.document.id not in known and read.document.text in moved:
            named[read.document.id] = kept[moved[read.document.text]]
        elif read.document.id not in known and groups:
            named[read.document.id] = groups
    with progress_of("Indexing documents") as progress:
        documents = [read.document for read in plan.to_add]
        counts = add_documents(workspace.engine, domain, documents, workspace.embedder, progress, named)
    epoch = counts.epoch
    if plan.to_remove:
        epoch = remove_documents(workspace.engine, domain, plan.to_remove)
    with workspace.engine.connect() as connection:
        total = len(document_ids(connection, domain))
    return {
        "added": counts.added,
        "replaced": counts.replaced,
        "removed": len(plan.to_remove),
        "unchanged": counts.unchanged,
        "skipped": [str(report) for report in reading.skipped] + plan.clashes,
        "documents": total,
        "epoch": epoch,
    }
