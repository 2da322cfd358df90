"""`bakeoff documents grant | revoke`: who may see a document. Counts from the next request, in every epoch."""

import click

from bakeoff.cli.output import domain_option, group_option, json_option, print_json
from bakeoff.cli.workspace import Workspace


@click.command("grant")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@domain_option()
@group_option("Group that may see them from now on; may be repeated. `everyone` is everyone.", required=True)
@json_option()
def grant(ids: tuple[str, ...], domain: str, groups: tuple[str, ...], as_json: bool) -> None:
    """Let groups see documents."""
    _change(ids, domain, grant=groups, revoke=(), as_json=as_json)


@click.command("revoke")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@domain_option()
@group_option("Group that may not see them any more; may be repeated.", required=True)
@json_option()
def revoke(ids: tuple[str, ...], domain: str, groups: tuple[str, ...], as_json: bool) -> None:
    """Hide documents from groups. A document without any group is seen by nobody."""
    _change(ids, domain, grant=(), revoke=groups, as_json=as_json)


def _change(
    ids: tuple[str, ...], domain: str, *, grant: tuple[str, ...], revoke: tuple[str, ...], as_json: bool
) -> None:
    from retrieval.permissions import change_grants

    groups = change_grants(Workspace().engine, domain, ids, grant=grant, revoke=revoke)
    if as_json:
        print_json({"groups": groups})
        return
    for document_id, names in groups.items():
        click.echo(f"{document_id}\t{', '.join(names) or 'nobody'}")
