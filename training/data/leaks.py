"""Training examples and held-out ones -> the leaks: held-out questions, or paraphrases of them, in the training set.

Three nets of decreasing tightness: the same words (exact), the same characters but for small changes (near, by MinHash
and verified), and the same meaning (paraphrase: the held-out question's nearest training questions by the embedder,
accepted by `matching.Matcher`). Questions about one document are no leak; `count_same_document` counts them.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bakeoff.records import Example
from training.data.duplicates import similar_pairs
from training.data.matching import COSINE_DISTINCT, MAX_DISTINCT, Matcher, find_shingles, jaccard
from training.data.wording import normalise

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
NEAREST = 20
"""Training questions judged for each held-out one."""
PARAPHRASES_ALLOWED = 0.01
"""Share of the held-out questions that may look like paraphrases: on sets without leaks it is 0% to 0.8%."""
BLOCK = 512
"""Held-out questions compared at a time: a block of cosines of 10,000 training questions is 20 MB."""


class Leak(Struct, frozen=True):
    """A training example that gives a held-out question away."""

    train_id: str
    held_out_id: str
    kind: Literal["exact", "near", "paraphrase"]
    similarity: float
    """1 for exact; Jaccard similarity of character shingles for near; cosine of the questions for a paraphrase."""


def find_leaks(train: Sequence[Example], held_out: Sequence[Example], embed: Embed) -> tuple[Leak, ...]:
    """Every pair of a training and a held-out example that ask the same, each under the tightest kind.

    Args:
        embed: texts -> (n, dim) float32, unit length.

    Returns:
        exact ones first, then near, then paraphrases; within a kind in the order of the held-out examples.
    """
    if not train or not held_out:
        return ()
    matcher = Matcher([*train, *held_out], len(train) * len(held_out))
    found: dict[tuple[int, int], Leak] = {}
    for ours, theirs in _same_words(train, held_out):
        found[ours, theirs] = Leak(train[ours].id, held_out[theirs].id, "exact", 1.0)
    vectors = [embed([example.question for example in examples]) for examples in (train, held_out)]
    by_meaning = {
        (ours, theirs): cosine
        for ours, theirs, cosine in chain(nearest_pairs(*vectors), _same_answer(train, held_out, *vectors))
    }
    questions = [[example.question for example in examples] for examples in (train, held_out)]
    by_letters = {(ours, theirs): similarity for ours, theirs, similarity in similar_pairs(*questions)}
    for pair in (by_letters.keys() | by_meaning.keys()) - found.keys():
        ours, theirs = pair
        left, right = train[ours], held_out[theirs]
        if matcher.is_near_copy(left, right):
            similarity = by_letters.get(pair) or jaccard(find_shingles(left.question), find_shingles(right.question))
            found[pair] = Leak(left.id, right.id, "near", round(similarity, 3))
        elif pair in by_meaning and matcher.is_paraphrase(left, right, by_meaning[pair]):
            found[pair] = Leak(left.id, right.id, "paraphrase", round(by_meaning[pair], 3))
    kinds = ("exact", "near", "paraphrase")
    order = sorted(found, key=lambda pair: (kinds.index(found[pair].kind), pair[1], pair[0]))
    return tuple(found[pair] for pair in order)


def are_refused(leaks: Sequence[Leak], num_held_out: int) -> bool:
    """Whether a set with these leaks must not be trained on unless somebody answers for it.

    Any question that stands there in the same or nearly the same words; or paraphrases of more held-out questions than
    the detector takes for such by mistake.
    """
    paraphrased = {leak.held_out_id for leak in leaks if leak.kind == "paraphrase"}
    return any(leak.kind != "paraphrase" for leak in leaks) or len(paraphrased) > PARAPHRASES_ALLOWED * num_held_out


def nearest_pairs(train: Vectors, held_out: Vectors) -> Iterator[tuple[int, int, float]]:
    """The nearest training questions of each held-out one, as far as they are near enough to be judged.

    Args:
        train: (n, dim), unit length.
        held_out: (m, dim), unit length.

    Yields:
        (position in train, position in held_out, cosine).
    """
    top = min(NEAREST, len(train))
    for start in range(0, len(held_out), BLOCK):
        cosines = held_out[start : start + BLOCK] @ train.T
        best = np.argpartition(-cosines, top - 1, axis=1)[:, :top]
        for row, columns in enumerate(best):
            for column in columns:
                if cosines[row, column] >= COSINE_DISTINCT:
                    yield int(column), start + row, float(cosines[row, column])


def count_same_document(train: Sequence[Example], held_out: Sequence[Example]) -> int:
    """Held-out examples that share a document with a training example. Not a leak: only a thing to know."""
    documents = {document_id for example in train for document_id in example.document_ids}
    return sum(not documents.isdisjoint(example.document_ids) for example in held_out)


def _same_answer(
    train: Sequence[Example], held_out: Sequence[Example], ours: Vectors, theirs: Vectors
) -> Iterator[tuple[int, int, float]]:
    """Pairs with one and the same rare answer, however far apart their questions are among the others."""
    by_answer: dict[str, list[int]] = {}
    for position, example in enumerate(train):
        by_answer.setdefault(normalise(example.answer), []).append(position)
    for position, example in enumerate(held_out):
        found = by_answer.get(normalise(example.answer), [])
        for candidate in found if len(found) <= MAX_DISTINCT else ():
            yield candidate, position, float(ours[candidate] @ theirs[position])


def _same_words(train: Sequence[Example], held_out: Sequence[Example]) -> Iterator[tuple[int, int]]:
    by_words: dict[str, list[int]] = {}
    for position, example in enumerate(train):
        by_words.setdefault(normalise(example.question), []).append(position)
    for position, example in enumerate(held_out):
        for ours in by_words.get(normalise(example.question), ()):
            yield ours, position
