"""Examples -> train, validation and test, seeded, grouped and stratified.

Examples that share a document, directly or through others, and examples that repeat each other stay together: else the
held-out splits would be easier than life. A greedy pass over the groups, in an order drawn by the seed, gives each to
the split whose share of the group's labels is filled least; scikit-learn's StratifiedGroupKFold makes equal folds only,
and these shares are not equal. Adding examples may join groups and so move others.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from bakeoff.errors import BadInput
from bakeoff.records import Example, Split
from training.data.duplicates import find_exact, find_near
from training.data.wording import normalise
from training.draw import draw

Grouping = Literal["document", "example"]


def assign_splits(
    examples: Sequence[Example], shares: Mapping[Split, float], seed: int, by: Grouping = "document"
) -> dict[str, Split]:
    """Choose the split of each example.

    Args:
        shares: part of the examples for each split but train, which gets the rest; a share of 0 leaves a split out.
        by: `document` keeps examples of one document together; `example` only those that repeat each other.

    Returns:
        example id -> split.

    Raises:
        BadInput: the shares leave nothing for train, or the groups cannot be divided so: one is too large, or a label
            would be missing from train.
    """
    wanted: dict[Split, float] = {"train": 1 - sum(shares.values())}
    wanted |= {split: share for split, share in shares.items() if share > 0}
    if wanted["train"] <= 0:
        raise BadInput(f"the shares {dict(shares)} leave nothing for train; they have to be below 1 together")
    labels = {example.id: stratum_of(example) for example in examples}
    totals = Counter(labels.values())
    groups = group_examples(examples, by)
    filled: dict[Split, Counter[str]] = {split: Counter() for split in wanted}
    assigned: dict[str, Split] = {}
    for group in sorted(groups, key=lambda ids: draw(seed, "split", min(ids))):
        counts = Counter(labels[example_id] for example_id in group)

        def fill(split: Split, counts: Counter[str] = counts) -> float:
            parts = (
                count * (filled[split][label] + count / 2) / (wanted[split] * totals[label])
                for label, count in counts.items()
            )
            return sum(parts)

        best = min(wanted, key=fill)
        filled[best].update(counts)
        assigned |= dict.fromkeys(group, best)
    _check(examples, assigned, filled, wanted, max(map(len, groups), default=0), by)
    return assigned


def group_examples(examples: Sequence[Example], by: Grouping) -> list[list[str]]:
    """Ids of examples that have to stay together: the connected components of shared documents and repeats."""
    parent = {example.id: example.id for example in examples}

    def root(example_id: str) -> str:
        while parent[example_id] != example_id:
            parent[example_id] = example_id = parent[parent[example_id]]
        return example_id

    first: dict[tuple[str, str], str] = {}
    for example in examples:
        keys = [("question", normalise(example.question))]
        if by == "document":
            keys += [("document", document_id) for document_id in example.document_ids]
        for key in keys:
            parent[root(example.id)] = root(first.setdefault(key, example.id))
    for repeat in (*find_exact(examples), *find_near(examples)):
        parent[root(repeat.repeated_id)] = root(repeat.kept_id)
    groups: dict[str, list[str]] = {}
    for example in examples:
        groups.setdefault(root(example.id), []).append(example.id)
    return list(groups.values())


def stratum_of(example: Example) -> str:
    """What is spread evenly over the splits: the label where there is one, else the task."""
    return str(example.tags.get("label") or example.tags.get("task") or "answer")


def _check(
    examples: Sequence[Example],
    assigned: Mapping[str, Split],
    filled: Mapping[Split, Counter[str]],
    wanted: Mapping[Split, float],
    largest: int,
    by: Grouping,
) -> None:
    way_out = "; divide example by example instead: --by example" if by == "document" else ""
    empty = [split for split in wanted if not filled[split].total()]
    if empty:
        raise BadInput(
            f"nothing is left for {empty[0]}: the {len(examples)} examples make too few groups (the largest has "
            f"{largest}){way_out}"
        )
    for split in wanted.keys() - {"train"}:
        missing = sorted(filled[split].keys() - filled["train"].keys())
        if missing:
            raise BadInput(
                f"all examples of {missing[0]!r} hang together and would be in {split} alone, so that nothing could "
                f"teach it ({len(missing)} labels are so){way_out or '; it needs more examples, or another seed'}"
            )
