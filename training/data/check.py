"""The splits of a domain, or a file -> one report of everything that would spoil a training.

Each detector is a module of its own; here they are run over the right splits and counted. Within a split: empties,
repeats, conflicts. Between train and the held-out splits: leaks, and questions about the same documents, which are
counted but are no leak. Personal data is reported by id and kind, never quoted.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from bakeoff.progress import Progress
from bakeoff.records import Example
from training.data.duplicates import Conflict, Repeat, find_conflicts, find_exact, find_near
from training.data.language import LanguageReport, find_foreign
from training.data.leaks import Embed, Leak, count_same_document, find_leaks
from training.data.personal import example_texts, find_personal
from training.data.wording import normalise

MAX_LABELS = 200
"""More different values than this are no labels."""


class Lengths(Struct, frozen=True):
    """Tokens of one field over all examples, in the base model's tokenizer."""

    shortest: int
    median: int
    p95: int
    longest: int


class LabelCount(Struct, frozen=True):
    """How often one label stands in each split."""

    label: str
    counts: dict[str, int]
    """Split -> examples."""


class Personal(Struct, frozen=True):
    """Personal data in one example."""

    example_id: str
    kinds: tuple[str, ...]


class CheckReport(Struct, frozen=True):
    """What was found in a domain's examples, or in a file."""

    source: str
    sizes: dict[str, int]
    """Split -> examples."""
    with_documents: int
    """Examples that name a document."""
    synthetic: int
    """Examples that a model wrote (`bakeoff examples augment`)."""
    empties: tuple[str, ...]
    """Ids of examples whose question or answer holds no word."""
    duplicates: tuple[Repeat, ...]
    near_duplicates: tuple[Repeat, ...]
    conflicts: tuple[Conflict, ...]
    question_tokens: Lengths
    answer_tokens: Lengths
    max_row_tokens: int
    """Longest row that the recipe trains on."""
    too_long: tuple[str, ...]
    """Ids of examples whose closed-book row is longer."""
    tasks: tuple[LabelCount, ...]
    labels: tuple[LabelCount, ...]
    """By the tag `label`; empty where no example has it."""
    language: LanguageReport
    personal: tuple[Personal, ...]
    leaks: dict[str, tuple[Leak, ...]]
    """Held-out split -> what gives its questions away in train."""
    same_document: dict[str, int]
    """Held-out split -> its examples about a document that train also asks about. No leak."""

    @property
    def num_findings(self) -> int:
        """Everything that somebody should look at."""
        leaks = sum(map(len, self.leaks.values()))
        lists = (self.empties, self.duplicates, self.near_duplicates, self.conflicts, self.too_long, self.personal)
        return leaks + sum(map(len, lists)) + len(self.language.foreign)


def check_examples(
    source: str,
    splits: Mapping[str, Sequence[Example]],
    embed: Embed,
    count_tokens: Callable[[Sequence[str]], list[int]],
    count_row_tokens: Callable[[Example], int],
    max_row_tokens: int,
    progress: Progress,
) -> CheckReport:
    """Run every detector over the splits.

    Args:
        source: the domain's name, or the file.
        splits: examples by split; a file is one split.
        embed: texts -> (n, dim) float32, unit length.
        count_tokens: length of each text for the base model.
        count_row_tokens: length of an example's closed-book row.
        max_row_tokens: of the recipe.
    """
    every = [example for examples in splits.values() for example in examples]
    done = 0

    def step(note: str) -> None:
        nonlocal done
        done += 1
        progress(done, 6, note)

    empties = tuple(one.id for one in every if not normalise(one.question) or not normalise(one.answer))
    exact = tuple(repeat for examples in splits.values() for repeat in find_exact(examples))
    near = tuple(repeat for examples in splits.values() for repeat in find_near(examples))
    step("duplicates")
    conflicts = tuple(conflict for examples in splits.values() for conflict in find_conflicts(examples))
    questions, answers = (count_tokens([getattr(one, field) for one in every]) for field in ("question", "answer"))
    too_long = find_too_long(every, questions, answers, count_row_tokens, max_row_tokens)
    step("lengths")
    language = find_foreign(every)
    step("language")
    personal = find_personal_examples(every)
    step("personal data")
    train = splits.get("train", ())
    held_out = {split: examples for split, examples in splits.items() if split != "train"} if train else {}
    leaks = find_split_leaks(train, held_out, embed)
    step("leaks")
    report = CheckReport(
        source=source,
        sizes={split: len(examples) for split, examples in splits.items()},
        with_documents=sum(bool(one.document_ids) for one in every),
        synthetic=sum("synthetic" in one.tags for one in every),
        empties=empties,
        duplicates=exact,
        near_duplicates=near,
        conflicts=conflicts,
        question_tokens=measure_lengths(questions),
        answer_tokens=measure_lengths(answers),
        max_row_tokens=max_row_tokens,
        too_long=too_long,
        tasks=count_labels(splits, lambda one: one.tags.get("task", "answer")),
        labels=count_labels(splits, lambda one: one.tags.get("label")),
        language=language,
        personal=personal,
        leaks=leaks,
        same_document={split: count_same_document(train, examples) for split, examples in held_out.items()},
    )
    step("done")
    return report


def find_split_leaks(
    train: Sequence[Example], held_out: Mapping[str, Sequence[Example]], embed: Embed
) -> dict[str, tuple[Leak, ...]]:
    """Leaks by the held-out split that they spoil."""
    split_of = {example.id: split for split, examples in held_out.items() for example in examples}
    found = find_leaks(train, [example for examples in held_out.values() for example in examples], embed)
    return {split: tuple(leak for leak in found if split_of[leak.held_out_id] == split) for split in held_out}


def find_personal_examples(examples: Sequence[Example]) -> tuple[Personal, ...]:
    """The examples with personal data in a text that a model may learn, with its kinds."""
    found = (
        Personal(one.id, tuple(dict.fromkeys(hit.kind for text in example_texts(one) for hit in find_personal(text))))
        for one in examples
    )
    return tuple(one for one in found if one.kinds)


def find_too_long(
    examples: Sequence[Example],
    questions: Sequence[int],
    answers: Sequence[int],
    count_row_tokens: Callable[[Example], int],
    max_row_tokens: int,
) -> tuple[str, ...]:
    """Ids of examples whose row exceeds the limit; only rows that come near it are built."""
    if not examples:
        return ()
    wrapping = count_row_tokens(examples[0]) - questions[0] - answers[0]
    suspects = (
        one
        for one, question, answer in zip(examples, questions, answers, strict=True)
        if (question + answer) * 1.2 + 2 * wrapping > max_row_tokens
    )
    return tuple(one.id for one in suspects if count_row_tokens(one) > max_row_tokens)


def measure_lengths(lengths: Sequence[int]) -> Lengths:
    """Shortest, median, 95th percentile and longest."""
    if not lengths:
        return Lengths(0, 0, 0, 0)
    low, median, high, top = np.percentile(lengths, (0, 50, 95, 100))
    return Lengths(round(low), round(median), round(high), round(top))


def count_labels(splits: Mapping[str, Sequence[Example]], label_of: Callable[[Example], Any]) -> tuple[LabelCount, ...]:
    """How often each label stands in each split, the most frequent first; none where they are too many to be labels."""
    counts: dict[str, Counter[str]] = {}
    for split, examples in splits.items():
        for example in examples:
            label = label_of(example)
            if label is not None:
                counts.setdefault(str(label), Counter())[split] += 1
    if len(counts) > MAX_LABELS:
        return ()
    order = sorted(counts, key=lambda label: (-counts[label].total(), label))
    return tuple(LabelCount(label, {split: counts[label][split] for split in splits}) for label in order)
