"""Which adapter serves a domain: promoting one, and going back to one that served before.

A domain serves one adapter or none: the digest in its row. Row and event change in one transaction, under the domain's
lock, so that a reader sees the old adapter with the old history or the new one with the new, and of two who promote at
the same time the second finds that what it compared with serves no longer.
"""

from sqlalchemy import Connection, select, update

from bakeoff.adapters import GateReport, adapters_table, is_registered, list_events, record_event
from bakeoff.domains import domains_table, lock_domain
from bakeoff.errors import BadInput, Mismatch, NotFound


def promote_adapter(
    connection: Connection, domain: str, digest: str, report: GateReport | None, reason: str = "", by: str | None = None
) -> None:
    """Let the domain's modes answer with this adapter from the next request on.

    Args:
        connection: in a transaction (`bakeoff.database.writing`); the change and its event are in it together.
        report: what the gate found; None where no gate ran.
        reason: why it serves although the gate refused it or did not run.

    Raises:
        NotFound: the domain has no such adapter.
        BadInput: the gate did not pass it and no reason is given.
        Mismatch: another adapter was promoted since the gate compared.
    """
    serving = lock_domain(connection, domain).adapter
    if not is_registered(connection, domain, digest):
        raise NotFound(f"domain {domain!r} has no adapter {digest}; see: bakeoff adapters list --domain {domain}")
    if (report is None or not report.passed) and not reason.strip():
        raise BadInput(f"adapter {digest} did not pass the gate; a reason is needed to promote it anyway")
    if report is not None and report.against != serving:
        raise Mismatch(
            f"the gate compared adapter {digest} with {report.against or 'the base model'}, but since then "
            f"{serving or 'the base model'} serves {domain}; run again: bakeoff adapters promote {digest} "
            f"--domain {domain}"
        )
    _serve(connection, domain, digest)
    details = {"from": serving} if report is None else {"from": serving, "gate": report}
    record_event(connection, domain, digest, "promoted", reason=reason, details=details, by=by)


def roll_back_adapter(
    connection: Connection, domain: str, to: str | None = None, reason: str = "", by: str | None = None
) -> str:
    """Let the adapter serve again that served before the present one; its gate was passed then and is not run again.

    Args:
        connection: in a transaction.
        to: digest of an adapter that served before; by default the last one before this that still exists.

    Returns:
        the digest that serves now.

    Raises:
        NotFound: nothing served before that still exists.
    """
    serving = lock_domain(connection, domain).adapter
    target = to or find_previous(connection, domain)
    served = {event.digest for event in list_events(connection, domain) if event.event in ("promoted", "rolled back")}
    if target not in served or not is_registered(connection, domain, target):
        raise NotFound(f"adapter {target} never served {domain}, or was removed; see: bakeoff adapters list")
    _serve(connection, domain, target)
    record_event(connection, domain, target, "rolled back", reason=reason, details={"from": serving}, by=by)
    return target


def find_previous(connection: Connection, domain: str) -> str:
    """The adapter that served before the present one and still exists.

    Going back twice goes back two steps: what was rolled back from is not "before" any more.

    Raises:
        NotFound: there is none.
    """
    history: list[str] = []
    for event in list_events(connection, domain):
        if event.event == "promoted":
            history.append(event.digest)
        elif event.event == "rolled back":
            while history and history[-1] != event.digest:
                history.pop()
            history = history or [event.digest]
    existing = set(connection.scalars(select(adapters_table.c.digest).where(adapters_table.c.domain == domain)))
    serving = history[-1] if history else None
    for digest in reversed(history):
        if digest != serving and digest in existing:
            return digest
    raise NotFound(f"no adapter served {domain} before the present one; see: bakeoff adapters list --domain {domain}")


def _serve(connection: Connection, domain: str, digest: str) -> None:
    connection.execute(update(domains_table).where(domains_table.c.name == domain).values(adapter=digest))
