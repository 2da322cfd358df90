"""Two examples -> do they ask the same thing? The one judgement behind near-duplicates and leaks.

Likeness of letters or of meaning alone cries wolf where thousands of questions share a template. So two examples match
only if their answers agree, their numbers are the same, and what they share would hardly be shared by chance: the
evidence is the information of the shared terms and of the shared answer, in nats, and has to exceed the logarithm of
the number of pairs compared, so that less than one pair of a set is expected to reach it by chance.
"""

import math
from collections import Counter
from collections.abc import Sequence

from bakeoff.records import Example
from training.data.wording import Weights, correct, find_bag, find_names, find_numbers, find_terms, normalise

NEAR_SHINGLES = 0.4
"""Jaccard similarity of character shingles from which two questions may be copies of each other. Low, because one slip
changes most shingles of a short question; what decides is `Matcher.is_near_copy`."""
MAX_SLIPS = 3
"""Words that a copy may have misspelt."""
NEAR_ADDED = 0.3
"""Most that the terms only one question has may weigh, as a share of the terms of both."""
AGREE = 0.75
"""Weighted overlap of terms from which two answers say the same."""
MAX_DISTINCT = 5
"""An answer that at most so many examples share tells questions apart; a label does not."""
MAX_DISTINCT_SHARE = 0.05
COSINE_DISTINCT = 0.6
COMMON_EVIDENCE = 1.5
"""Where the answer is a label, questions of one label share their words without one being made from the other: the
evidence has to be so many times as high."""
COSINE_APART = 0.8
COSINE_COMMON = 0.87
"""Cosine of two questions from which one may be a paraphrase: with a distinct answer; with a distinct answer though
they name different things; with an answer that many share (a label), which says little by itself."""
SHINGLE = 3


def find_shingles(text: str) -> frozenset[str]:
    """Runs of three characters of each term, its borders marked; the order of the words does not count."""
    return frozenset(
        padded[start : start + SHINGLE]
        for padded in (f"^{term}$" for term in find_terms(text))
        for start in range(len(padded) - SHINGLE + 1)
    )


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared part of two sets, from 0 to 1; two empty sets are equal."""
    either = len(left | right)
    return len(left & right) / either if either else 1.0


class Matcher:
    """What is common and what is rare in the questions and answers of a set."""

    def __init__(self, examples: Sequence[Example], num_pairs: int) -> None:
        self._questions = Weights([example.question for example in examples])
        self._answers = Weights([example.answer for example in examples])
        self._same: dict[tuple[str, str], bool] = {}
        self._names = find_names([example.question for example in examples])
        self._answer_counts = Counter(normalise(example.answer) for example in examples)
        self._max_distinct = min(MAX_DISTINCT, max(2, int(MAX_DISTINCT_SHARE * len(examples))))
        self._log_examples = math.log(len(examples) + 1)
        self._log_pairs = math.log(num_pairs + 1)

    def is_distinct(self, left: Example, right: Example) -> bool:
        """Whether few examples have the answer of one of these."""
        return self._count(left, right) <= self._max_distinct

    def agree(self, left: Example, right: Example) -> bool:
        """Whether any target of one says the same as any target of the other."""
        ours = {normalise(answer): answer for answer in (left.answer, *left.answers)}
        theirs = {normalise(answer): answer for answer in (right.answer, *right.answers)}
        if ours.keys() & theirs.keys():
            return True
        return any(self._say_same(one, other) for one in ours.values() for other in theirs.values())

    def is_near_copy(self, left: Example, right: Example) -> bool:
        """Whether one question is the other with slips, in another order, or with something unimportant added.

        Where the answer is a label, only a literal copy counts: the same words but for slips, articles and politeness.
        "How can I change my address?" and "My address has changed" are two examples of one label.
        """
        written, other = find_terms(left.question), find_terms(right.question)
        if min(len(written - other), len(other - written)) > MAX_SLIPS:
            return False
        corrected = correct(right.question, like=left.question)
        ours, theirs = find_terms(left.question), find_terms(corrected)
        if find_numbers(ours) != find_numbers(theirs) or not self.agree(left, right):
            return False
        if not self.is_distinct(left, right):
            return find_bag(left.question) == find_bag(corrected)
        if ours - theirs and theirs - ours:  # a word in another's place: another hotel, another service
            return False
        added = self._questions.total(ours ^ theirs)
        return added <= NEAR_ADDED * self._questions.total(ours | theirs)

    def is_paraphrase(self, left: Example, right: Example, cosine: float) -> bool:
        """Whether the questions are alike in meaning and share what tells them from all others."""
        if cosine < COSINE_DISTINCT:
            return False
        ours, theirs = find_terms(left.question), find_terms(right.question)
        is_distinct, are_apart = self.is_distinct(left, right), self._are_apart(left, right)
        if are_apart and (cosine < COSINE_APART or not is_distinct):
            return False
        if not is_distinct and (cosine < COSINE_COMMON or find_numbers(ours) != find_numbers(theirs)):
            return False
        if find_numbers(ours - theirs) and find_numbers(theirs - ours):
            return False
        needed = self._log_pairs * (1 if is_distinct else COMMON_EVIDENCE)
        return self._evidence(left, right, ours & theirs) >= needed and self.agree(left, right)

    def _evidence(self, left: Example, right: Example, shared: frozenset[str]) -> float:
        of_answer = self._log_examples - math.log(max(self._count(left, right) - 1, 1))
        return self._questions.information(shared) + of_answer

    def _are_apart(self, left: Example, right: Example) -> bool:
        """Whether they name different things: other documents, or other names on both sides."""
        if left.document_ids and right.document_ids and set(left.document_ids).isdisjoint(right.document_ids):
            return True
        ours, theirs = (find_terms(example.question) & self._names for example in (left, right))
        return bool(ours - theirs) and bool(theirs - ours)

    def _count(self, left: Example, right: Example) -> int:
        return min(self._answer_counts[normalise(example.answer)] for example in (left, right))

    def _say_same(self, one: str, other: str) -> bool:
        pair = (one, other) if one < other else (other, one)
        if pair not in self._same:
            ours, theirs = find_terms(one), find_terms(other)
            has_numbers_alike = find_numbers(ours) == find_numbers(theirs)
            self._same[pair] = has_numbers_alike and self._answers.overlap(ours, theirs) >= AGREE
        return self._same[pair]
