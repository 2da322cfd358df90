"""What a file for training has to look like: JSONL of conversations, or of pairs of a better and a worse answer.

Looked at once, when it is uploaded, so that a client hears of the first bad line now and not from a failed job.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

MAX_LINE_BYTES = 8 * 2**20


class _Turn(Struct):
    role: str
    content: Any = None


class _Input(Struct):
    messages: list[_Turn]


class _Line(Struct):
    messages: list[_Turn] | None = None
    input: _Input | None = None
    preferred_output: list[_Turn] | None = None
    non_preferred_output: list[_Turn] | None = None


def find_problem(path: Path) -> str | None:
    """What is wrong with a file for training: the first bad line, in words; None where every line can be used."""
    decoder = msgspec.json.Decoder(_Line)
    num_examples = 0
    with path.open("rb") as file:
        number = 0
        while content := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(content) > MAX_LINE_BYTES:
                return f"line {number} is longer than {MAX_LINE_BYTES // 2**20} MiB"
            if not content.strip():
                continue
            try:
                problem = _check(decoder.decode(content))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                problem = str(error)
            if problem:
                return f"line {number}: {problem}"
            num_examples += 1
    return None if num_examples else "it holds no example: one JSON object a line is wanted"


def _check(line: _Line) -> str:
    if line.messages is not None:
        if not line.messages or line.messages[-1].role != "assistant":
            return "`messages` has to end with a message of role assistant"
        return "" if len(line.messages) > 1 else "`messages` has to hold what the assistant answers"
    if line.input is None or line.preferred_output is None or line.non_preferred_output is None:
        return "has neither `messages` nor all of `input`, `preferred_output` and `non_preferred_output`"
    empty = not line.input.messages or not line.preferred_output or not line.non_preferred_output
    return "`input.messages`, `preferred_output` and `non_preferred_output` must not be empty" if empty else ""
