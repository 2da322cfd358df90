"""Examples -> those that stand twice, that nearly do, and that contradict each other.

Exact means the same words after normalisation. Near candidates come from MinHash with locality-sensitive hashing
(datasketch), which may miss a pair but makes none up: each is verified by its true Jaccard similarity and by
`matching.Matcher`, which knows that two questions of one template are not copies of each other.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from bakeoff.records import Example
from training.data.matching import NEAR_SHINGLES, Matcher, find_shingles, jaccard
from training.data.wording import normalise

if TYPE_CHECKING:
    from datasketch import MinHash

NUM_PERMUTATIONS = 96
BANDS, ROWS = 32, 3
"""A pair of similarity 0.4 becomes a candidate with probability 0.88, one of 0.6 with 0.9996, one of 0.1 with 0.03."""

MIN_ESTIMATE = 0.25
"""Of the similarity, by the share of equal permutations; 0.4 is estimated lower once in a thousand times."""
MAX_CANDIDATES = 100
"""Judged for each text, the likeliest ones: in a set of one template everything resembles everything."""


class Repeat(Struct, frozen=True):
    """Two examples of one split that say the same."""

    kept_id: str
    """The one that stands first."""
    repeated_id: str
    similarity: float
    """Jaccard similarity of the questions' character shingles; 1 for exact repeats."""


class Conflict(Struct, frozen=True):
    """One question with answers that do not agree."""

    question: str
    ids: tuple[str, ...]
    answers: tuple[str, ...]
    """The answer of each of the ids."""


def find_exact(examples: Sequence[Example]) -> tuple[Repeat, ...]:
    """Examples whose question and answer another one had before, in the order of the examples."""
    first: dict[tuple[str, str], str] = {}
    found = []
    for example in examples:
        kept_id = first.setdefault((normalise(example.question), normalise(example.answer)), example.id)
        if kept_id != example.id:
            found.append(Repeat(kept_id, example.id, 1.0))
    return tuple(found)


def find_near(examples: Sequence[Example]) -> tuple[Repeat, ...]:
    """Examples whose question is a copy of an earlier one with small changes, and whose answer agrees.

    Each repeated example is named once, with the earliest one it copies. Exact repeats are left out.
    """
    exact = {repeat.repeated_id for repeat in find_exact(examples)}
    kept = [example for example in examples if example.id not in exact]
    matcher = Matcher(kept, len(kept) ** 2 // 2)
    found: dict[str, Repeat] = {}
    for first, second, similarity in sorted(similar_pairs([example.question for example in kept])):
        left, right = kept[first], kept[second]
        if right.id not in found and matcher.is_near_copy(left, right):
            found[right.id] = Repeat(left.id, right.id, round(similarity, 3))
    return tuple(found[example.id] for example in kept if example.id in found)


def find_conflicts(examples: Sequence[Example]) -> tuple[Conflict, ...]:
    """Questions that stand more than once with answers of which none is acceptable for the other."""
    by_question: dict[str, list[Example]] = {}
    for example in examples:
        by_question.setdefault(normalise(example.question), []).append(example)
    repeated = [group for group in by_question.values() if len(group) > 1]
    return tuple(
        Conflict(group[0].question, tuple(one.id for one in group), tuple(one.answer for one in group))
        for group in repeated
        if any(not _share_target(left, right) for left, right in combinations(group, 2))
    )


def similar_pairs(texts: Sequence[str], others: Sequence[str] | None = None) -> Iterator[tuple[int, int, float]]:
    """Pairs of texts whose shingles overlap by at least `NEAR_SHINGLES`, verified.

    Args:
        others: compare each text with these; None compares the texts with each other.

    Yields:
        (position, position in `others` or a later position in `texts`, Jaccard similarity).

    Source: Broder, "On the resemblance and containment of documents", 1997.
    """
    from datasketch import MinHashLSH

    ours = [find_shingles(text) for text in texts]
    theirs = ours if others is None else [find_shingles(text) for text in others]
    index = MinHashLSH(num_perm=NUM_PERMUTATIONS, params=(BANDS, ROWS))
    signatures = _sign(ours)
    for position, signature in enumerate(signatures):
        index.insert(position, signature, check_duplication=False)
    values = np.array([signature.hashvalues for signature in signatures]).reshape(len(texts), NUM_PERMUTATIONS)
    for second, signature in enumerate(signatures if others is None else _sign(theirs)):
        candidates = np.array(sorted(index.query(signature)), np.int64)
        if others is None:
            candidates = candidates[candidates < second]
        estimates = (values[candidates] == signature.hashvalues).mean(axis=1)
        likeliest = np.argsort(-estimates, kind="stable")[:MAX_CANDIDATES]
        for first in candidates[likeliest[estimates[likeliest] >= MIN_ESTIMATE]].tolist():
            similarity = jaccard(ours[first], theirs[second])
            if similarity >= NEAR_SHINGLES:
                yield first, second, similarity


def _sign(shingles: Sequence[Collection[str]]) -> list["MinHash"]:
    from datasketch import MinHash

    encoded = ([shingle.encode() for shingle in group] for group in shingles)
    signatures: list[MinHash] = MinHash.bulk(encoded, num_perm=NUM_PERMUTATIONS)
    return signatures


def _share_target(left: Example, right: Example) -> bool:
    ours, theirs = ({normalise(answer) for answer in (one.answer, *one.answers)} for one in (left, right))
    return bool(ours & theirs)
