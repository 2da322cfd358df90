"""OpenAI's preference lines are votes; what a vote has no place for is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import BadInput
from training.preferences.judgements import read_preferences

LINE: dict[str, Any] = {
    "input": {"messages": [{"role": "user", "content": "Is the pool open?"}], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": "No."}],
    "non_preferred_output": [{"role": "assistant", "content": [{"type": "text", "text": "Maybe."}]}],
}
USER = {"role": "user", "content": "x"}


def read(tmp_path: Path, *lines: dict[str, Any]) -> Any:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return read_preferences(path)


def test_a_pair_is_a_vote(tmp_path: Path) -> None:
    [first, second] = read(tmp_path, LINE, {"question": "a", "chosen": "b", "rejected": "c"}).rankings
    assert (first.context.question, first.levels) == ("Is the pool open?", (("No.",), ("Maybe.",)))
    assert second.levels == (("b",), ("c",))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"input": None}, "`input`"),
        ({"input": {"messages": []}}, "`input.messages`"),
        ({"input": {"messages": [{"role": "system", "content": "x"}, USER]}}, "system, user"),
        ({"input": {"messages": [USER], "tools": [{"type": "function"}]}}, "`input.tools`"),
        ({"preferred_output": []}, "`preferred_output`"),
        ({"preferred_output": [USER]}, "`preferred_output`"),
        ({"non_preferred_output": [{"role": "assistant", "content": None}]}, "`non_preferred_output[0]`"),
        ({"non_preferred_output": [{"role": "assistant", "content": " "}]}, "`rejected` is empty"),
        ({"preferred_output": "No."}, "`preferred_output`"),
        ({"weight": 2}, "`weight`"),
    ],
)
def test_what_cannot_be_learned_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match="line 2") as refused:
        read(tmp_path, LINE, LINE | changes)
    assert named in str(refused.value)
