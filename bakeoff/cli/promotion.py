"""What the commands do to an adapter: promote it through the gate, go back, remove it, and keep its card true.

Each change is one transaction with its event (`bakeoff.adapters`); files follow after it: the card is written anew, the
folder and the folded weights of a removed adapter are deleted. A crash in between leaves files that nobody asks for,
never a domain without its adapter. A folder that must not serve is refused before the gate, whatever the reason.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from sqlalchemy import Connection

from bakeoff.adapter_files import KIND, check_adapter_folder
from bakeoff.adapters import (
    Adapter,
    AdapterEvent,
    Check,
    GateReport,
    find_adapter,
    is_open,
    list_events,
    record_event,
    tell_history,
    unregister_adapter,
)
from bakeoff.artefacts import delete_adapter_files, peek_manifest
from bakeoff.card import describe_adapter, write_card
from bakeoff.cli.output import say
from bakeoff.cli.workspace import Workspace
from bakeoff.database import reading, writing
from bakeoff.domains import find_domain
from bakeoff.errors import BadInput, BakeoffError, Mismatch, NotFound
from bakeoff.models import find_model, hash_model
from bakeoff.promotions import find_previous, promote_adapter, roll_back_adapter


def promote_through_gate(workspace: Workspace, domain: str, digest: str, *, anyway: str | None = None) -> GateReport:
    """Run the gate on a registered adapter and promote it if it passes, or if a reason to do so anyway is given.

    Args:
        digest: whole, or its first eight or more digits.
        anyway: why it shall serve though the gate may refuse it; written into its history for ever.

    Returns:
        what the gate found; without `anyway` the adapter serves exactly if this passed. For an adapter that serves
        already nothing runs, and the report is the one it was promoted with.

    Raises:
        NotFound: the domain has no such adapter.
        BadInput: an empty reason.
        Mismatch: its folder must not serve, whatever the reason; or another was promoted while the gate ran.
    """
    if anyway is not None and not anyway.strip():
        raise BadInput("--anyway needs a reason; it is kept in the adapter's history")
    adapter = look_up(workspace, domain, digest)
    if adapter.promoted:
        return _report_of_serving(workspace, adapter)
    try:
        check_files(workspace, adapter)
    except Mismatch as error:
        note_event(workspace, adapter, "refused", reason=str(error))
        raise
    from bakeoff.cli.gating import gate_adapter

    report = gate_adapter(workspace, domain, adapter.digest)
    if not report.passed and anyway is None:
        failed = ", ".join(check.name for check in report.checks if not check.passed)
        note_event(workspace, adapter, "refused", reason=f"gate: {failed}", details={"gate": report})
        return report
    with writing(workspace.engine) as connection:
        promote_adapter(connection, domain, adapter.digest, report, anyway or "")
    _refresh_cards(workspace, domain, adapter.digest, report.against)
    return report


def roll_back(workspace: Workspace, domain: str, to: str | None, reason: str) -> tuple[Adapter, str | None]:
    """Let the adapter serve again that served before.

    Returns:
        the adapter that serves now, and the digest of the one that served until now.

    Raises:
        NotFound: there is none.
        Mismatch: its folder must not serve.
    """
    with reading(workspace.engine) as connection:
        target = to or find_previous(connection, domain)
        before = find_domain(connection, domain).adapter
    adapter = look_up(workspace, domain, target)
    check_files(workspace, adapter)
    with writing(workspace.engine) as connection:
        roll_back_adapter(connection, domain, adapter.digest, reason)
    _refresh_cards(workspace, domain, adapter.digest, before)
    return adapter, before


def remove_adapter(workspace: Workspace, adapter: Adapter, reason: str = "") -> None:
    """Take the adapter out of its domain and delete its files, unless another domain has it too.

    Raises:
        BadInput: it serves.
    """
    with writing(workspace.engine) as connection:
        is_last = unregister_adapter(connection, adapter.domain, adapter.digest, reason)
    if is_last:
        delete_adapter_files(workspace.settings.home, adapter.digest)


def check_files(workspace: Workspace, adapter: Adapter) -> None:
    """Refuse an adapter that must not serve; see `check_adapter_folder`."""
    base_dir = find_model(workspace.settings)
    check_adapter_folder(adapter.path, base_dir, hash_model(base_dir))


def look_up(workspace: Workspace, domain: str, digest: str) -> Adapter:
    """The domain's adapter of this digest, or of these first eight or more digits.

    Raises:
        NotFound: no such domain; none, or several, of it begin so.
        BadInput: fewer than eight digits.
    """
    if len(digest) < 8:
        raise BadInput(f"{digest!r} is too short to name an adapter: give at least eight of its digits")
    with workspace.engine.connect() as connection:
        find_domain(connection, domain)
        return find_adapter(connection, workspace.settings.home, domain, digest)


def note_event(
    workspace: Workspace, adapter: Adapter, event: Any, *, reason: str = "", details: dict[str, Any] | None = None
) -> None:
    """Record an event that changes nothing else, and write the card anew."""
    with writing(workspace.engine) as connection:
        record_event(connection, adapter.domain, adapter.digest, event, reason=reason, details=details)
    refresh_card(workspace, adapter)


def refresh_card(workspace: Workspace, adapter: Adapter) -> None:
    """Write the model card anew; where that cannot be done, say so: the change itself is made."""
    try:
        manifest, events, audience = describe(workspace, adapter)
        write_card(adapter.path, manifest, events, audience)
    except (BakeoffError, OSError) as error:
        say(f"The model card of {adapter.digest} could not be written: {error}")


def _refresh_cards(workspace: Workspace, domain: str, *digests: str | None) -> None:
    for digest in digests:
        if digest is not None:
            with suppress(NotFound):  # removed since
                refresh_card(workspace, look_up(workspace, domain, digest))


def card_text(workspace: Workspace, adapter: Adapter) -> str:
    """The model card as it is true now."""
    return describe_adapter(adapter.digest, *describe(workspace, adapter))


def describe(workspace: Workspace, adapter: Adapter) -> tuple[dict[str, Any], list[AdapterEvent], str]:
    """Manifest, events, and who may be served in one sentence.

    Raises:
        NotFound: its folder is gone.
        Mismatch: its manifest cannot be read.
    """
    manifest = peek_manifest(adapter.path, KIND)
    with reading(workspace.engine) as connection:
        events = tell_history(connection, adapter.digest)
        return manifest, events, describe_audience(connection, adapter, manifest)


def describe_audience(connection: Connection, adapter: Adapter, manifest: Mapping[str, Any]) -> str:
    """Who may be served by an adapter as things are now, in one or two sentences."""
    from retrieval.audience import describe_restrictions, restricting_groups

    learned_in = manifest.get("domain", adapter.domain)
    restrictions = restricting_groups(connection, learned_in, manifest.get("lineage") or {})
    if not restrictions:
        return "It may answer everyone: everyone may see each document it learned from."
    audience = f"It {describe_restrictions(restrictions)}."
    if is_open(connection, adapter.domain, adapter.digest):
        return f"{audience} An administrator opened it to everyone all the same."
    return (
        f"{audience} It answers no caller who may not see them all. To let it serve everyone: "
        f"bakeoff adapters open {adapter.digest} --domain {adapter.domain} --reason TEXT"
    )


def _report_of_serving(workspace: Workspace, adapter: Adapter) -> GateReport:
    with workspace.engine.connect() as connection:
        events = list_events(connection, adapter.domain, adapter.digest)
    reports = [event.details["gate"] for event in events if event.event == "promoted" and "gate" in event.details]
    if reports:
        return msgspec.convert(reports[-1], GateReport)
    sentence = f"adapter {adapter.digest} serves {adapter.domain} already; it was promoted without a gate"
    return GateReport(adapter.digest, adapter.digest, (Check("serves", True, sentence),))
