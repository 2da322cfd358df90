"""Whom an adapter may answer: who may see every document it learned from, for it may give any of them away.

What holds is what holds now, as for searches: a document that was taken from a group since the training takes the
adapter with it. A document that was only removed keeps its groups. One that was purged, or whose domain is gone, has
none any more: then those count that the training wrote down, and without a note it was for everyone.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from bakeoff.database import in_parts
from retrieval.tables import EVERYONE, grants_table

Restrictions = dict[tuple[str, ...], int]
"""Groups that may see some documents -> how many documents; only documents that not everyone may see. () is nobody."""


def restricting_groups(connection: Connection, domain: str, lineage: Mapping[str, Any]) -> Restrictions:
    """Find what keeps an adapter from serving everyone; empty if nothing does.

    Args:
        domain: that it learned from.
        lineage: of its manifest: `documents`, and `groups` ({document id: groups at the training}) where written down.
    """
    recorded: Mapping[str, Sequence[str]] = lineage.get("groups") or {}
    documents: list[str] = lineage.get("documents") or []
    found = {**recorded, **groups_on_record(connection, domain, documents)}
    restrictions: Restrictions = {}
    for document_id in documents:
        groups = found.get(document_id, (EVERYONE,))
        if EVERYONE not in groups:
            key = tuple(sorted(groups))
            restrictions[key] = restrictions.get(key, 0) + 1
    return restrictions


def groups_on_record(connection: Connection, domain: str, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Document id -> its groups, of the documents about which anything is recorded; () is nobody.

    Unlike `permissions.load_groups` it tells a document that nobody may see from one that never was or was purged.
    What a training writes down as `groups` of its lineage comes from here.
    """
    table = grants_table.c
    found: dict[str, set[str]] = {}
    for part in in_parts(ids):
        query = select(table.document_id, table.caller_group, table.is_granted).where(
            table.domain == domain, table.document_id.in_(part)
        )
        for document_id, group, is_granted in connection.execute(query):
            found.setdefault(document_id, set()).update({group} if is_granted else ())
    return {document_id: tuple(sorted(groups)) for document_id, groups in found.items()}


def restrictions_for(restrictions: Restrictions, groups: Collection[str]) -> Restrictions:
    """Those that stand against a caller of these groups; empty if the adapter may answer them."""
    return {key: count for key, count in restrictions.items() if not set(key) & set(groups)}


def describe_restrictions(restrictions: Restrictions) -> str:
    """In words, without naming a document: "learned from 3 documents that only groups hr, law may see"."""
    count = sum(restrictions.values())
    names = sorted({group for key in restrictions for group in key})
    who = f"only {'group' if len(names) == 1 else 'groups'} {', '.join(names)} may see" if names else "nobody may see"
    return f"learned from {count} {'document' if count == 1 else 'documents'} that {who}"
