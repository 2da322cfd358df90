"""What a training passes on: everything that it, its start and its reward learned from, and who may see that.

An adapter that learned from documents of a group may only serve callers of that group, and one whose examples leaked
says so for ever. Learning from people on top of it washes neither off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from training.facts import FindGroups
from training.preferences.judgements import Preferences, Ranking, Thumb


def trace_lineage(
    learned: Preferences, parents: Sequence[Mapping[str, Any]], find_groups: FindGroups
) -> dict[str, Any]:
    """Documents and examples that the learned judgements name or show, and those of the parents.

    Args:
        parents: manifests of the adapter that it starts from and of the reward model that pays it.
        find_groups: documents -> who may see them now; where it knows nothing, what the parents wrote down counts.
    """
    judgements: list[Ranking | Thumb] = [*learned.rankings, *learned.thumbs]
    lineages = [parent["lineage"] for parent in parents]
    documents = {document for judgement in judgements for document in judgement.document_ids}
    documents |= {passage.document_id for judgement in judgements for passage in judgement.context.passages}
    documents = documents.union(*(lineage["documents"] for lineage in lineages))
    examples = {judgement.example_id for judgement in judgements if judgement.example_id}
    groups: dict[str, list[str]] = {}
    for lineage in lineages:
        groups |= lineage.get("groups") or {}
    groups |= {document: list(found) for document, found in find_groups(sorted(documents)).items()}
    return {
        "documents": sorted(documents),
        "groups": groups,
        "examples": sorted(examples.union(*(lineage["examples"] for lineage in lineages))),
        "synthetic_examples": sorted(
            {name for lineage in lineages for name in lineage.get("synthetic_examples") or ()}
        ),
    }


def inherit_leaks(parents: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The leaks that the parents' manifests name, each once."""
    found = [leak for parent in parents for leak in parent.get("leaks") or ()]
    return [leak for place, leak in enumerate(found) if leak not in found[:place]]
