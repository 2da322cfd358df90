"""Lines of all kinds, and every line that cannot be used by file, number and field."""

import json
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import BadInput
from training.preferences.judgements import read_preferences

VOTE = {"question": "Is there parking?", "chosen": "Yes.", "rejected": "It depends."}
PASSAGE = {"rank": 1, "score": 0.5, "document_id": "d1", "chunk_id": "c1", "title": "Parking", "text": "Ten places."}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_votes_rankings_and_thumbs_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "said.jsonl",
        {**VOTE, "id": "v1", "example_id": "e1", "document_ids": ["d2"], "tags": {"by": "somebody"}},
        {"question": "When?", "ranking": ["At 7.", ["At 8.", "Later."], "No."]},
        {"question": "Dogs?", "completion": "No dogs [1].", "thumb": "down", "mode": "hybrid", "passages": [PASSAGE]},
    )
    said = read_preferences(path)
    vote, ranking = said.rankings
    (thumb,) = said.thumbs
    assert (vote.id, vote.levels, vote.example_id, vote.document_ids) == (
        "v1",
        (("Yes.",), ("It depends.",)),
        "e1",
        ("d2",),
    )
    assert (ranking.id, ranking.levels) == ("line-2", (("At 7.",), ("At 8.", "Later."), ("No.",)))
    assert not thumb.is_up
    assert (thumb.context.mode, thumb.context.passages[0].text) == ("hybrid", "Ten places.")


def test_lines_of_other_domains_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "said.jsonl", {**VOTE, "domain": "a"}, {**VOTE, "domain": "b"}, VOTE)
    said = read_preferences(path, "a")
    assert (len(said.rankings), said.num_elsewhere) == (2, 1)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ({"question": "Q?", "chosen": "A"}, "rejected"),
        ({"question": "Q?"}, "none of them"),
        ({**VOTE, "ranking": ["a", "b"]}, "`chosen`, `ranking`"),
        ({**VOTE, "question": " "}, "`question` is empty"),
        ({**VOTE, "rejected": ""}, "`rejected` is empty"),
        ({**VOTE, "rejected": "Yes."}, "same answer twice"),
        ({**VOTE, "chosen": 3}, "$.chosen"),
        ({**VOTE, "mode": "rag"}, "$.mode"),
        ({**VOTE, "passages": [PASSAGE]}, '`mode` "hybrid"'),
        ({**VOTE, "mode": "hybrid", "passages": [{"text": "x"}]}, "$.passages[0]"),
        ({**VOTE, "chosn": "x"}, "chosn"),
        ({"question": "Q?", "ranking": ["only one"]}, "at least two places"),
        ({"question": "Q?", "ranking": ["a", []]}, "at least two places"),
        ({"question": "Q?", "ranking": ["a", ["b", "a"]]}, "same answer twice"),
        ({"question": "Q?", "completion": "A", "thumb": "sideways"}, "$.thumb"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], named: str) -> None:
    path = write(tmp_path / "said.jsonl", VOTE, line)
    with pytest.raises(BadInput) as caught:
        read_preferences(path)
    assert "said.jsonl, line 2: " in str(caught.value)
    assert named in str(caught.value)


def test_an_id_that_stands_twice_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "said.jsonl", {**VOTE, "id": "x"}, {**VOTE, "id": "x"})
    with pytest.raises(BadInput, match="line 2: id 'x' stands twice"):
        read_preferences(path)


def test_a_file_without_a_line_of_the_domain_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "said.jsonl", {**VOTE, "domain": "b"})
    with pytest.raises(BadInput, match=r"no vote, ranking or thumb of domain 'a' \(1 lines belong to others\)"):
        read_preferences(path, "a")
