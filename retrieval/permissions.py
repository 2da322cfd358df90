"""Who may see a document: groups, now, whatever the epoch.

A caller sees a document when one of their groups is granted it; everyone belongs to the group `everyone`, which new
documents are granted unless they are added with groups of their own. Every change is counted, so that a search knows
from one number whether what it filtered by is still true, and a change counts from the next request.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Engine, delete, insert, select, update

from bakeoff.database import writing
from bakeoff.domains import advance_permissions, lock_domain
from bakeoff.errors import BadInput, NotFound
from retrieval.tables import EVERYONE, documents_table, grants_table

GROUP_PATTERN = "1 to 64 of a-z, A-Z, 0-9, '.', '_', '@', '-'"
_GROUP = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def caller_groups(groups: Iterable[str] = ()) -> frozenset[str]:
    """The groups of a caller: these, and `everyone`.

    Raises:
        BadInput: not a name a group can have.
    """
    return frozenset(check_groups(groups)) | {EVERYONE}


def check_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """Return the groups, sorted, each once.

    Raises:
        BadInput: not a name a group can have.
    """
    for group in groups:
        if not _GROUP.fullmatch(group):
            raise BadInput(f"group {group!r} is not a name: {GROUP_PATTERN}", param="group")
    return tuple(sorted(set(groups)))


def change_grants(
    engine: Engine, domain: str, ids: Sequence[str], *, grant: Sequence[str] = (), revoke: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Grant documents to groups and revoke them from others, all documents or none.

    Returns:
        Document id -> the groups that may see it now.

    Raises:
        NotFound: names the ids that the domain never held.
        BadInput: not a name a group can have, or nothing to change.
    """
    grant, revoke = check_groups(grant), check_groups(revoke)
    if not grant and not revoke:
        raise BadInput("name a group to grant or to revoke", param="group")
    with writing(engine) as connection:
        lock_domain(connection, domain)
        table = documents_table.c
        known = set(connection.scalars(select(table.id).where(table.domain == domain, table.id.in_(ids))))
        if missing := sorted(set(ids) - known):
            raise NotFound(f"domain {domain!r} holds no document {', '.join(missing)}; nothing was changed")
        before = load_groups(connection, domain, ids)
        after = {name: tuple(sorted((set(before[name]) | set(grant)) - set(revoke))) for name in dict.fromkeys(ids)}
        write_groups(connection, domain, after)
    return after


def load_groups(connection: Connection, domain: str, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Document id -> its groups, sorted; nobody sees a document that has none."""
    found: dict[str, list[str]] = {document_id: [] for document_id in ids}
    table = grants_table.c
    query = select(table.document_id, table.caller_group).where(
        table.domain == domain, table.is_granted, table.document_id.in_(list(found))
    )
    for document_id, group in connection.execute(query.order_by(table.caller_group)):
        found[document_id].append(group)
    return {document_id: tuple(groups) for document_id, groups in found.items()}


def write_groups(connection: Connection, domain: str, wanted: Mapping[str, Sequence[str]]) -> bool:
    """Set who may see these documents, in the caller's transaction; returns whether anything changed."""
    table = grants_table.c
    query = select(table.document_id, table.caller_group, table.is_granted).where(
        table.domain == domain, table.document_id.in_(list(wanted))
    )
    stored = {(row[0], row[1]): bool(row[2]) for row in connection.execute(query)}
    pairs = {(document_id, group) for document_id, groups in wanted.items() for group in groups}
    changes = {pair: True for pair in pairs if stored.get(pair) is not True}
    changes |= {pair: False for pair, is_granted in stored.items() if is_granted and pair not in pairs}
    named = {document_id for document_id, _ in stored}
    nobody = [document_id for document_id, groups in wanted.items() if not groups and document_id not in named]
    changes |= {(document_id, EVERYONE): False for document_id in nobody}  # or an edit would take it for a new one
    if not changes:
        return False
    count = advance_permissions(connection, domain)
    for (document_id, group), is_granted in changes.items():
        here = (table.domain == domain, table.document_id == document_id, table.caller_group == group)
        if (document_id, group) in stored:
            connection.execute(update(grants_table).where(*here).values(is_granted=is_granted, changed=count))
    new = [
        {
            "domain": domain,
            "document_id": document_id,
            "caller_group": group,
            "is_granted": is_granted,
            "changed": count,
        }
        for (document_id, group), is_granted in changes.items()
        if (document_id, group) not in stored
    ]
    if new:
        connection.execute(insert(grants_table), new)
    return True


def erase_groups(connection: Connection, domain: str, ids: Sequence[str]) -> None:
    """Forget who may see these documents, in the caller's transaction."""
    table = grants_table.c
    connection.execute(delete(grants_table).where(table.domain == domain, table.document_id.in_(ids)))
    advance_permissions(connection, domain)
