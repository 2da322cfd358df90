"""The record of a run: one line for each mode and example in `answers.jsonl`, written as the answers come.

The file is the run's memory: what it holds is not asked again. A line that a crash tore is dropped when the file is
opened, a failed answer is asked again, and the last line for a mode and example counts.
"""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bakeoff.errors import Mismatch


class Answer(Struct, frozen=True):
    """What one mode answered to one example."""

    mode: str
    example_id: str
    question: str
    targets: tuple[str, ...]
    completion: str
    passage_ids: tuple[str, ...]
    """Chunk ids of the passages, best first."""
    citations: tuple[dict[str, Any], ...]
    """`url`, `title`, `start_index`, `end_index` of each passage; 0 to 0 where the completion has no marker for it."""
    scores: dict[str, float | None]
    """By metric; None where the metric does not apply. Empty for a failed answer."""
    latency_ms: float | None
    """From the request to the end of the stream, at the client."""
    first_token_ms: float | None
    """From the request to the first text, at the client."""
    prompt_tokens: int | None
    completion_tokens: int | None
    document_ids: tuple[str, ...] | None = None
    """Documents of the passages, best first; None in modes without retrieval."""
    evidence: float | None = None
    """How likely a passage holds the answer, as the service says; None in modes without retrieval."""
    abstained: bool = False
    """Whether the service declined by itself, asking no model."""
    error: str | None = None
    """Why there is no completion."""


Key = tuple[str, str]
"""Mode and example id."""


def read_answers(path: Path) -> dict[Key, Answer]:
    """Read the answers there are; a torn last line is cut off the file.

    Raises:
        Mismatch: a line other than the last does not parse.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    answers: dict[Key, Answer] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except msgspec.MsgspecError as error:
            raise Mismatch(f"{path}, line {number} is damaged ({error}): measure anew with --fresh") from error
        answers[answer.mode, answer.example_id] = answer
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return answers


def append_answer(path: Path, answer: Answer) -> None:
    """Add a line, on disk before this returns."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(answer) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Replace the file by these lines, whole or not at all."""
    write_atomically(path, b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
