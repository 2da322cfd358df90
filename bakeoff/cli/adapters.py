"""`bakeoff adapters`: what has been trained, which of it serves, and why."""

from pathlib import Path

import click

from bakeoff.adapter_files import KIND
from bakeoff.adapters import EventName, GateReport, is_open, list_adapters, list_events, tell_history
from bakeoff.cli.output import confirm, domain_option, json_option, print_json, say
from bakeoff.cli.workspace import Workspace
from bakeoff.domains import find_domain
from bakeoff.errors import BadInput, BakeoffError


@click.group("adapters")
def adapters_command() -> None:
    """List adapters and say which of them serve."""


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


@adapters_command.command("show")
@click.argument("digest")
@domain_option()
@json_option()
def show(digest: str, domain: str, as_json: bool) -> None:
    """Print the model card of an adapter: how it was made, from what, what the gate found, and all that happened.

    The history of an adapter that was removed is printed too.
    """
    from bakeoff.artefacts import peek_manifest
    from bakeoff.cli.promotion import card_text, look_up

    workspace = Workspace()
    with workspace.engine.connect() as connection:
        find_domain(connection, domain)
        past = [event for event in list_events(connection, domain) if event.digest.startswith(digest)]
        is_gone = len(digest) >= 8 and bool(past) and past[-1].event == "removed"
    if is_gone:
        if as_json:
            print_json({"adapter": None, "events": past})
            return
        click.echo(f"Adapter {past[-1].digest} was removed. What happened to it:\n")
        for event in past:
            reason = f": {event.reason}" if event.reason else ""
            click.echo(f"- {event.at:%Y-%m-%d %H:%M} UTC, {event.event} by {event.by}{reason}")
        return
    adapter = look_up(workspace, domain, digest)
    if not as_json:
        click.echo(card_text(workspace, adapter))
        return
    with workspace.engine.connect() as connection:
        events = tell_history(connection, adapter.digest)
        opened = is_open(connection, domain, adapter.digest)
    manifest = peek_manifest(adapter.path, KIND)
    print_json({"adapter": adapter, "open": opened, "manifest": manifest, "events": events})


@adapters_command.command("promote")
@click.argument("digest")
@domain_option()
@click.option("--anyway", metavar="REASON", help="Promote it even if the gate refuses; the reason is kept for ever.")
@json_option()
def promote(digest: str, domain: str, anyway: str | None, as_json: bool) -> None:
    """Let an adapter serve its domain, if it passes the gate."""
    from bakeoff.cli.promotion import promote_through_gate

    report = promote_through_gate(Workspace(), domain, digest, anyway=anyway)
    serves = report.passed or anyway is not None
    _print_report(report, as_json, serves=serves)
    if not serves:
        raise _refused(report, domain, "is not promoted")
    if as_json:
        return
    for found in report.checks:
        if not found.passed:
            click.echo(f"failed  {found.name}: {found.sentence}")
    click.echo(f"{domain}: adapter {report.adapter} serves from the next request on")


@adapters_command.command("check")
@click.argument("digest")
@domain_option()
@click.option("--files", is_flag=True, help="Look at its files only; takes a second.")
@json_option()
def check(digest: str, domain: str, files: bool, as_json: bool) -> None:
    """Say whether an adapter could be promoted, without promoting it."""
    from bakeoff.cli.promotion import check_files, look_up

    workspace = Workspace()
    adapter = look_up(workspace, domain, digest)
    check_files(workspace, adapter)
    if files:
        if as_json:
            print_json({"adapter": adapter.digest, "files": "whole"})
        else:
            click.echo(f"adapter {adapter.digest}: its files are whole and fit the base model")
        return
    from bakeoff.cli.gating import gate_adapter

    report = gate_adapter(workspace, domain, adapter.digest)
    _print_report(report, as_json)
    if not report.passed:
        raise _refused(report, domain, "would not be promoted")


@adapters_command.command("rollback")
@domain_option()
@click.option("--to", metavar="DIGEST", help="An adapter that served before; the last one before this by default.")
@click.option("--reason", default="", metavar="TEXT", help="Kept in the history.")
@json_option()
def roll_back_command(domain: str, to: str | None, reason: str, as_json: bool) -> None:
    """Let the adapter serve again that served before the present one. The gate is not run again."""
    from bakeoff.cli.promotion import roll_back

    adapter, before = roll_back(Workspace(), domain, to, reason)
    if as_json:
        print_json({"adapter": adapter.digest, "before": before})
    else:
        click.echo(f"{domain}: adapter {adapter.digest} serves from the next request on, no longer {before or 'none'}")


@adapters_command.command("remove")
@click.argument("digests", nargs=-1, required=True, metavar="DIGEST...")
@domain_option()
@click.option("--reason", default="", metavar="TEXT", help="Kept in the history.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option()
def remove(digests: tuple[str, ...], domain: str, reason: str, yes: bool, as_json: bool) -> None:
    """Delete adapters with their weights. Their history stays; one that serves is refused."""
    from bakeoff.cli.promotion import look_up, remove_adapter

    workspace = Workspace()
    adapters = list(dict.fromkeys(look_up(workspace, domain, digest) for digest in digests))
    for adapter in adapters:
        if adapter.promoted:
            raise BadInput(
                f"adapter {adapter.digest} serves {domain} and cannot be removed; nothing was removed. Promote another "
                f"one first, or go back with: bakeoff adapters rollback --domain {domain}"
            )
    names = ", ".join(adapter.digest for adapter in adapters)
    if not yes:
        confirm(f"Delete adapter {names} of domain {domain}?")
    for adapter in adapters:
        remove_adapter(workspace, adapter, reason)
    if as_json:
        print_json({"removed": [adapter.digest for adapter in adapters]})
    else:
        click.echo(f"{domain}: removed {names}; what happened to them stays on record")


@adapters_command.command("open")
@click.argument("digest")
@domain_option()
@click.option("--reason", required=True, metavar="TEXT", help="Kept in the history.")
@json_option()
def open_command(digest: str, domain: str, reason: str, as_json: bool) -> None:
    """Let an adapter answer callers who may not see every document it learned from. Undone by `close`."""
    _set_open(digest, domain, "opened", reason, as_json)


@adapters_command.command("close")
@click.argument("digest")
@domain_option()
@click.option("--reason", default="", metavar="TEXT", help="Kept in the history.")
@json_option()
def close_command(digest: str, domain: str, reason: str, as_json: bool) -> None:
    """Undo `open`: only callers who may see every document it learned from are answered."""
    _set_open(digest, domain, "closed", reason, as_json)


@adapters_command.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@domain_option()
@json_option()
def import_command(folder: Path, domain: str, as_json: bool) -> None:
    """Take over a LoRA adapter that PEFT wrote elsewhere. It serves nobody until it is promoted."""
    from bakeoff.cli.imports import import_adapter

    adapter = import_adapter(Workspace(), domain, folder)
    if as_json:
        print_json(adapter)
    else:
        click.echo(
            f"{domain}: adapter {adapter.digest} from {folder}. Let it serve with: "
            f"bakeoff adapters promote {adapter.digest} --domain {domain}"
        )


@adapters_command.command("probe")
@click.argument("digest")
@json_option()
def probe(digest: str, as_json: bool) -> None:
    """Write down what PEFT computes for an adapter, so that the service can compare what vLLM serves.

    The service does this by itself where a probe is missing.
    """
    from bakeoff.cli.probing import probe_adapter
    from bakeoff.probes import probe_path

    workspace = Workspace()
    written = probe_adapter(workspace, digest)
    path = probe_path(workspace.settings.home, written.name)
    if as_json:
        print_json({"probe": path, "pairs": len(written.pairs)})
    else:
        click.echo(f"{len(written.pairs)} targets of adapter {digest}, with it and without, are in {path}")


def _set_open(digest: str, domain: str, event: EventName, reason: str, as_json: bool) -> None:
    from bakeoff.cli.promotion import look_up, note_event

    if event == "opened" and not reason.strip():
        raise BadInput("--reason is empty; it is kept in the adapter's history")
    workspace = Workspace()
    adapter = look_up(workspace, domain, digest)
    note_event(workspace, adapter, event, reason=reason)
    if as_json:
        print_json({"adapter": adapter.digest, "open": event == "opened"})
    elif event == "opened":
        click.echo(f"{domain}: adapter {adapter.digest} may answer everyone from the next request on")
    else:
        click.echo(f"{domain}: adapter {adapter.digest} answers only who may see all that it learned from")


def _print_report(report: GateReport, as_json: bool, **more: object) -> None:
    """What the gate found; in words only what passed, for the rest is the error, or follows it."""
    if as_json:
        print_json(
            {
                "adapter": report.adapter,
                "against": report.against,
                "passed": report.passed,
                **more,
                "checks": report.checks,
            }
        )
        return
    for found in report.checks:
        if found.passed:
            click.echo(f"passed  {found.name}: {found.sentence}")


def _refused(report: GateReport, domain: str, what: str) -> BakeoffError:
    sentences = "\n".join(f"failed  {found.name}: {found.sentence}" for found in report.checks if not found.passed)
    return BakeoffError(
        f"adapter {report.adapter} {what}.\n{sentences}\nTo promote it all the same, on the record: "
        f"bakeoff adapters promote {report.adapter} --domain {domain} --anyway REASON"
    )
