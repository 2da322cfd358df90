"""A JSONL file of questions and answers -> examples, each checked, each with an id.

What the other formats have in common with it is here too: how the fields of one example are checked, and how examples
without an id get one that stays the same as long as their content does.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from bakeoff.errors import BadInput
from bakeoff.jsonl import read_jsonl
from bakeoff.records import Example

_FIELDS = {"id", "question", "answer", "answers", "document_ids"}


class _Line(msgspec.Struct):
    """The fields of a line that are ours; the others become tags."""

    question: str
    answer: str
    id: str | None = None
    answers: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()


def read_examples(path: Path) -> list[Example]:
    """Read a JSONL file of questions and answers; `training.data.formats` reads the other formats.

    Raises:
        BadInput: names file, line and field of a bad line, a question or an answer that is empty, or an id that
            stands twice.
    """
    lines = read_jsonl(path, dict[str, Any])
    return collect_examples(((f"line {number}", parse_example(raw, path, number)) for number, raw in lines), path)


def parse_example(raw: dict[str, Any], path: Path, line: int) -> Example:
    """Check the fields of one example: ours by name, every other one becomes a tag. Its id is empty where it has none.

    Raises:
        BadInput: names file, line and field.
    """
    try:
        fields = msgspec.convert(raw, _Line)
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}, line {line}: {error}") from error
    for field in ("id", "question", "answer"):
        value = getattr(fields, field)
        if value is not None and not value.strip():
            raise BadInput(f"{path}, line {line}: field `{field}` is empty")
    targets = tuple(dict.fromkeys((fields.answer, *(answer for answer in fields.answers if answer.strip()))))
    tags = {key: value for key, value in raw.items() if key not in _FIELDS}
    return Example(fields.id or "", fields.question, fields.answer, targets, fields.document_ids, tags)


def collect_examples(placed: Iterable[tuple[str, Example]], path: Path) -> list[Example]:
    """Give an id to the examples that have none: a hash of question and answer, numbered where it repeats.

    Args:
        placed: (place in the file, example).

    Raises:
        BadInput: an id of the file stands twice, or there is no example.
    """
    examples: dict[str, Example] = {}
    seen: Counter[str] = Counter()
    for place, example in placed:
        example_id = example.id
        if not example_id:
            digest = hashlib.sha256(msgspec.json.encode((example.question, example.answer))).hexdigest()[:16]
            seen[digest] += 1
            example_id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
            example = msgspec.structs.replace(example, id=example_id)
        if example_id in examples:
            raise BadInput(f"{path}, {place}: id {example_id!r} stands twice in this file")
        examples[example_id] = example
    if not examples:
        raise BadInput(f"{path}: holds no example")
    return list(examples.values())
