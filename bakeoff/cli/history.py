"""`bakeoff documents epochs | rollback | purge`: the past of a domain's documents."""

import click
import msgspec

from bakeoff.adapter_files import KIND
from bakeoff.adapters import list_adapters
from bakeoff.artefacts import find_runs, indexes_dir, read_manifest
from bakeoff.cli.output import confirm, domain_option, json_option, print_json
from bakeoff.cli.workspace import Workspace

ANSWERS = "answers.jsonl"


@click.command("epochs")
@domain_option()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many, the newest first.")
@json_option()
def show_epochs(domain: str, limit: int, as_json: bool) -> None:
    """List the changes of a domain's documents: each began an epoch that can still be searched."""
    from retrieval.history import list_epochs

    with Workspace().engine.connect() as connection:
        epochs = list_epochs(connection, domain)[:limit]
    if as_json:
        print_json({"epochs": epochs})
        return
    for epoch in epochs:
        when = epoch.created_at.strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"{epoch.epoch:8}  {when}  {epoch.action:8}  {epoch.num_documents} changed")


@click.command("rollback")
@domain_option()
@click.option("--epoch", required=True, type=click.IntRange(0), help="The epoch whose documents are wanted back.")
@json_option()
def roll_back_command(domain: str, epoch: int, as_json: bool) -> None:
    """Begin a new epoch with the documents of an earlier one.

    Nothing in between is lost: it can be searched, and rolled back to. Who may see a document stays as it is today, and
    what was purged does not come back.
    """
    from retrieval.history import roll_back

    new = roll_back(Workspace().engine, domain, epoch)
    if as_json:
        print_json({"epoch": new, "as": epoch})
    else:
        click.echo(f"{domain}: epoch {new} holds what epoch {epoch} held")


@click.command("purge")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@domain_option()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option()
def purge(ids: tuple[str, ...], domain: str, yes: bool, as_json: bool) -> None:
    """Erase documents from every epoch, snapshot and log; nothing brings them back.

    Answers that were made from them are erased too, of earlier runs and of the service; adapters that may have learned
    them are named, to be removed or trained again.
    """
    from retrieval.history import purge_documents
    from retrieval.retriever import snapshots_folder
    from service.archive import erase_answers_from

    workspace = Workspace()
    home = workspace.settings.home
    if not yes:
        confirm(f"Erase {', '.join(ids)} from every epoch of domain {domain}?")
    purged = purge_documents(workspace.engine, domain, ids, snapshots_folder(indexes_dir(home), domain))
    num_answers = erase_answers_from(workspace.engine, domain, purged.chunk_ids)
    runs = _erase_answers(workspace, domain, set(ids))
    adapters = _find_learned(workspace, domain, set(ids))
    if as_json:
        counts = {"purged": purged.documents, "epoch": purged.epoch, "answers": num_answers}
        print_json({**counts, "runs": runs, "adapters": adapters})
        return
    click.echo(f"{domain}: {', '.join(sorted(set(ids)))} erased from every epoch; epoch {purged.epoch}")
    if num_answers:
        click.echo(f"  {num_answers} stored answers made from them are erased")
    for name in runs:
        click.echo(f"  run {name}: answers made from them are erased, its report is removed")
    for digest in adapters:
        click.echo(
            f"  adapter {digest} learned from them: train again, then remove it: "
            f"bakeoff adapters remove {digest} --domain {domain}"
        )


def _find_learned(workspace: Workspace, domain: str, ids: set[str]) -> list[str]:
    """Digests of the adapters that learned from one of these documents, as their manifests say."""
    with workspace.engine.connect() as connection:
        adapters = list_adapters(connection, workspace.settings.home, domain)
    lineages = {adapter.digest: read_manifest(adapter.path, KIND)["lineage"] for adapter in adapters}
    return sorted(digest for digest, lineage in lineages.items() if ids & set(lineage["documents"]))


def _erase_answers(workspace: Workspace, domain: str, ids: set[str]) -> list[str]:
    """Take the answers made from these documents out of every run; returns the runs that held any."""
    touched = []
    for run in find_runs(workspace.settings.home, domain):
        path = run / ANSWERS
        lines = path.read_text().splitlines() if path.is_file() else []
        kept = [line for line in lines if not ids & set(msgspec.json.decode(line).get("document_ids") or ())]
        if len(kept) < len(lines):
            partial = path.with_suffix(".partial")
            partial.write_text("".join(f"{line}\n" for line in kept))
            partial.replace(path)
            (run / "report.html").unlink(missing_ok=True)
            touched.append(run.name)
    return touched
