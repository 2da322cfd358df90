"""`bakeoff adapters`: what has been trained."""

import click

from bakeoff.artefacts import list_adapters
from bakeoff.cli.output import domain_option, json_option, print_json, say
from bakeoff.cli.workspace import Workspace


@click.group("adapters")
def adapters_command() -> None:
    """List trained adapters."""


@adapters_command.command("list")
@domain_option(required=False)
@json_option()
def show_list(domain: str | None, as_json: bool) -> None:
    """List adapters, the newest first; `*` marks the one that serves."""
    workspace = Workspace()
    with workspace.engine.connect() as connection:
        adapters = list_adapters(connection, workspace.settings.home, domain)
    if as_json:
        print_json({"adapters": adapters})
        return
    for adapter in adapters:
        mark = "*" if adapter.promoted else " "
        click.echo(f"{mark} {adapter.digest}\t{adapter.domain}\t{adapter.created_at:%Y-%m-%d %H:%M}\t{adapter.path}")
    if not adapters:
        say("No adapter yet. Train one with: bakeoff train --domain NAME")
