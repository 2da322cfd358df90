"""`bakeoff domains`: the knowledge areas of this home."""

import shutil

import click

from bakeoff.adapters import list_adapters
from bakeoff.artefacts import delete_adapter_files, indexes_dir, runs_dir
from bakeoff.cli.output import confirm, json_option, print_json, say
from bakeoff.cli.workspace import Workspace
from bakeoff.domains import delete_domain, find_domain, list_domains
from bakeoff.modes import check_domain_name


@click.group("domains")
def domains_command() -> None:
    """List and delete domains."""


@domains_command.command("list")
@json_option()
def show_list(as_json: bool) -> None:
    """List the domains with their epoch and promoted adapter."""
    with Workspace().engine.connect() as connection:
        domains = list_domains(connection)
    if as_json:
        print_json({"domains": domains})
        return
    for domain in domains:
        click.echo(f"{domain.name}\tepoch {domain.epoch}\tadapter {domain.adapter or '-'}")
    if not domains:
        say("No domain yet. Make one with: bakeoff documents add PATH --domain NAME")


@domains_command.command("delete")
@click.argument("domain")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option()
def delete(domain: str, yes: bool, as_json: bool) -> None:
    """Delete a DOMAIN: its documents, examples, adapters and runs."""
    workspace = Workspace()
    home = workspace.settings.home
    check_domain_name(domain)
    with workspace.engine.connect() as connection:
        find_domain(connection, domain)
    if not yes:
        confirm(f"Delete domain {domain} with all its documents, examples, adapters and runs?")
    with workspace.engine.begin() as connection:
        own = {adapter.digest for adapter in list_adapters(connection, home, domain)}
        delete_domain(connection, domain)
        own -= {adapter.digest for adapter in list_adapters(connection, home)}
    for digest in own:
        delete_adapter_files(home, digest)
    shutil.rmtree(runs_dir(home, domain), ignore_errors=True)
    shutil.rmtree(indexes_dir(home) / domain, ignore_errors=True)
    if as_json:
        print_json({"deleted": domain})
    else:
        click.echo(f"{domain}: deleted")
