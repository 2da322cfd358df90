"""A sentence and what a model said about it -> an example, or the reason why not.

The answer is the sentence itself, or the model's shorter one where it uses no other word, so that it is supported by
construction. The question has to speak of the sentence and of nothing the passage does not say, to name what it is
about, to repeat no known one and to give no held-out one away.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from bakeoff.artefacts import digest_of
from bakeoff.records import Chunk, Example
from training.data.leaks import Embed, find_leaks
from training.data.wording import find_numbers, find_terms, normalise

MIN_WORDS, MAX_WORDS = 4, 30
"""Words of a question."""
MIN_SHARED = 0.7
"""Part of the question's terms that the passage or its title has to hold."""
MIN_COSINE = 0.6
"""Of the question and the sentence: the question is about it."""
MAX_COSINE = 0.9
"""Of the question and a known one, whatever their answers: a repetition."""
_LABEL = re.compile(r"^\W*(?:question|q|answer|a)\s*[:.)-]\s*", re.IGNORECASE)
_SPEAKS_OF_TEXT = re.compile(
    r"\b(?:sentence|passage|text|article|question|answer|paragraph|document)s?\b", re.IGNORECASE
)

Reason = Literal[
    "kept",
    "no question",
    "about the text",
    "copies the sentence",
    "not in the passage",
    "off the point",
    "known question",
    "leak",
]


class Source(Struct, frozen=True):
    """A sentence to ask about, and where it stands."""

    chunk: Chunk
    sentence: str

    @property
    def key(self) -> str:
        """Names the sentence in the file of replies."""
        return digest_of((self.chunk.chunk_id, self.sentence))


class Draft(Struct, frozen=True):
    """A pair that the model wrote, and what became of it."""

    example: Example | None
    reason: Reason


def read_reply(source: Source, reply: str) -> tuple[str, str]:
    """The question and the answer of a pair: the model's own answer only if the sentence holds all its words.

    A question that does not say what it is about gets the document's title in front.
    """
    lines = [_LABEL.sub("", line).strip(" \"“”'*") for line in reply.splitlines() if line.strip()]
    question = next((line[: line.index("?") + 1] for line in lines if "?" in line), "")
    answers = [line for line in lines if "?" not in line]
    answer = answers[0] if answers and is_supported(answers[0], source.sentence) else source.sentence
    subject = re.split(r" [(|–-] ?", source.chunk.title)[0].strip()
    if question and subject and not find_terms(question) & find_terms(subject):
        question = f"{subject}: {question}"
    return question, answer


def is_supported(answer: str, passage: str) -> bool:
    """Whether every word of the answer that carries meaning, and every number, stands in the passage."""
    return bool(normalise(answer)) and find_terms(answer) <= find_terms(passage)


def judge_drafts(
    replies: Iterable[tuple[Source, str]],
    model: str,
    known: Sequence[Example],
    held_out: Sequence[Example],
    embed: Embed,
) -> list[Draft]:
    """Turn replies into examples, or say why not.

    Args:
        model: recorded in the tag `synthetic`.
        known: examples of train, and those kept before.
        held_out: examples of validation and test.
        embed: texts -> (n, dim) float32, unit length.
    """
    drafts: list[Draft] = []
    hopeful: list[tuple[int, Example, str]] = []
    for source, reply in replies:
        question, answer = read_reply(source, reply)
        reason = _judge_wording(source, question)
        tags = {
            "synthetic": {"model": model, "chunk_id": source.chunk.chunk_id, "document_id": source.chunk.document_id}
        }
        example_id = f"synthetic-{digest_of((question, answer))}"
        example = Example(example_id, question, answer, (answer,), (source.chunk.document_id,), tags)
        if reason == "kept":
            hopeful.append((len(drafts), example, source.sentence))
        drafts.append(Draft(example if reason == "kept" else None, reason))
    for place, reason in _judge_meaning(hopeful, known, held_out, embed):
        drafts[place] = Draft(None, reason)
    return drafts


def _judge_wording(source: Source, question: str) -> Reason:
    words = normalise(question).split()
    if not question or not MIN_WORDS <= len(words) <= MAX_WORDS:
        return "no question"
    passage = find_terms(f"{source.chunk.title}\n{source.chunk.heading}\n{source.chunk.text}")
    if _SPEAKS_OF_TEXT.search(question) and not _SPEAKS_OF_TEXT.search(source.chunk.text):
        return "about the text"
    terms, stated = find_terms(question), find_terms(source.sentence)
    if normalise(source.sentence) in normalise(question):
        return "copies the sentence"
    foreign = terms - passage
    if len(foreign) > (1 - MIN_SHARED) * len(terms) or find_numbers(foreign) or foreign & _find_capitals(question):
        return "not in the passage"
    if not (terms & stated) - find_terms(source.chunk.title):
        return "off the point"
    return "kept"


def _find_capitals(text: str) -> frozenset[str]:
    """Terms that begin with a capital letter: names, or the first word."""
    return frozenset(term for word in text.split() if word[0].isupper() for term in find_terms(word))


def _judge_meaning(
    hopeful: Sequence[tuple[int, Example, str]], known: Sequence[Example], held_out: Sequence[Example], embed: Embed
) -> Iterator[tuple[int, Reason]]:
    """(place, reason) of those that fall."""
    if not hopeful:
        return
    questions = embed([example.question for _, example, _ in hopeful])
    sentences = embed([sentence for _, _, sentence in hopeful])
    others = embed([example.question for example in (*known, *held_out)]) if known or held_out else questions[:0]
    leaking = {leak.train_id for leak in find_leaks([one for _, one, _ in hopeful], held_out, embed)}
    num_known = len(known)
    kept: list[int] = []
    for row, (place, example, _) in enumerate(hopeful):
        likeness = others @ questions[row]
        if float(questions[row] @ sentences[row]) < MIN_COSINE:
            yield place, "off the point"
        elif example.id in leaking or (len(held_out) and likeness[num_known:].max() >= MAX_COSINE):
            yield place, "leak"
        elif (num_known and likeness[:num_known].max() >= MAX_COSINE) or any(
            float(questions[row] @ questions[before]) >= MAX_COSINE for before in kept
        ):
            yield place, "known question"
        else:
            kept.append(row)
