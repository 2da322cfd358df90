"""`bakeoff documents`: what a domain knows. Its past and its readers are in `history` and `grants`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from bakeoff.cli.grants import grant, revoke
from bakeoff.cli.history import purge, roll_back_command, show_epochs
from bakeoff.cli.output import domain_option, group_option, json_option, print_json, progress_of, say
from bakeoff.cli.queueing import queue_option, submit_this
from bakeoff.cli.sync import sync
from bakeoff.cli.workspace import Workspace

BULK_CHUNKS = 1_000
"""Chunks written by one command from which on it looks whether the index wants to be built anew."""


@click.group("documents")
def documents_command() -> None:
    """Add, follow, list and remove the documents of a domain; say who may see them; go back; erase."""


for command in (sync, show_epochs, roll_back_command, purge, grant, revoke):
    documents_command.add_command(command)


@documents_command.command("add")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@domain_option()
@group_option(
    "Who may see them, and nobody else; may be repeated. Without it a new document is for everyone, and a known one "
    "keeps its groups."
)
@queue_option()
@json_option()
@click.pass_context
def add(
    context: click.Context, paths: tuple[Path, ...], domain: str, groups: tuple[str, ...], as_job: bool, as_json: bool
) -> None:
    """Add documents: Markdown, text, HTML, PDF, DOCX, PPTX, XLSX, CSV, JSONL, or folders of them.

    JSONL holds a document a line: id, text, and optionally title, source, groups. Any other file is one document, named
    by its path below the folder that was given. A file that cannot be read is reported and the others go in. Adding an
    id again replaces that document and embeds only what changed; one that has not changed is passed over, so an
    interrupted run goes on where it stopped.
    """
    from retrieval.catalogue import count_chunks
    from retrieval.documents import FileReport, read_documents
    from retrieval.store import add_documents

    workspace = Workspace()
    if as_job:
        submit_this(context, workspace, "ingest", domain, is_heavy=False, as_json=as_json)
        return
    reading = read_documents(paths)
    wanted = {read.document.id: groups or read.groups for read in reading.reads}
    named = {document_id: names for document_id, names in wanted.items() if names is not None}
    with progress_of("Indexing documents") as progress:
        counts = add_documents(workspace.engine, domain, reading.documents, workspace.embedder, progress, named)
    with workspace.engine.connect() as connection:
        chunks = count_chunks(connection, domain)
    per_file: Counter[str] = Counter()
    for document in reading.documents:
        per_file[document.origin] += chunks.get(document.id, 0)

    def chunks_of(report: FileReport) -> int:
        return per_file[str(report.path.resolve())]

    if as_json:
        files = [
            {"path": r.path, "documents": r.documents, "chunks": chunks_of(r), "skipped": r.skipped, "note": r.note}
            for r in reading.reports
        ]
        print_json({name: getattr(counts, name) for name in counts.__struct_fields__} | {"files": files})
    else:
        _show_reports([(str(report), chunks_of(report), report.skipped) for report in reading.reports])
        if reading.passed_over:
            say(f"{reading.passed_over} files of other kinds were passed over")
        click.echo(
            f"{domain}: {counts.added} added, {counts.replaced} replaced, {counts.unchanged} unchanged; "
            f"{counts.chunks} chunks, {counts.embedded} of them embedded now; epoch {counts.epoch}"
        )
    if counts.chunks >= BULK_CHUNKS:
        _build_index(workspace, domain)


@documents_command.command("list")
@domain_option()
@click.option("--epoch", type=click.IntRange(1), help="As it was in this epoch.")
@json_option()
def show_list(domain: str, epoch: int | None, as_json: bool) -> None:
    """List a domain's documents, with their chunks and the groups that may see them."""
    from retrieval.catalogue import list_documents

    with Workspace().engine.connect() as connection:
        rows = list_documents(connection, domain, epoch)
    if as_json:
        print_json({"documents": rows})
        return
    for row in rows:
        click.echo(f"{row.id}\t{row.chunks} chunks\t{', '.join(row.groups) or 'nobody'}\t{row.title}")


@documents_command.command("remove")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@domain_option()
@json_option()
def remove(ids: tuple[str, ...], domain: str, as_json: bool) -> None:
    """Remove documents by id, all or none, from the epochs to come; those of the past keep them (see purge)."""
    from retrieval.store import remove_documents

    epoch = remove_documents(Workspace().engine, domain, ids)
    if as_json:
        print_json({"removed": len(set(ids)), "epoch": epoch})
    else:
        click.echo(f"{domain}: {len(set(ids))} removed; epoch {epoch}")


@documents_command.command("reindex")
@domain_option()
@json_option()
def reindex(domain: str, as_json: bool) -> None:
    """Cut and embed again what another embedder or an older Bakeoff indexed, from the stored texts."""
    from retrieval.store import reindex_documents

    workspace = Workspace()
    with progress_of("Indexing documents") as progress:
        counts = reindex_documents(workspace.engine, domain, workspace.embedder, progress)
    if as_json:
        print_json(counts)
    else:
        click.echo(f"{domain}: {counts.replaced} documents indexed anew, {counts.chunks} chunks; epoch {counts.epoch}")
    _build_index(workspace, domain)


def _show_reports(reports: Sequence[tuple[str, int, str | None]]) -> None:
    for line, num_chunks, skipped in reports:
        say(
            f"  skipped  {line}"
            if skipped is not None
            else f"  {line}, {num_chunks} chunk{'' if num_chunks == 1 else 's'}"
        )


def _build_index(workspace: Workspace, domain: str) -> None:
    built = workspace.retriever.build_if_due(domain)
    if built is not None:
        measured = f", measured on {built.num_questions} questions" if built.num_questions else " (exact)"
        say(f"Index built: {built.kind}, {built.num_rows} chunks, recall@10 {built.recall:.3f}{measured}")
