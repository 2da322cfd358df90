import json
from pathlib import Path

import pytest

from bakeoff.errors import BadInput
from bakeoff.records import Document
from retrieval.documents import read_documents


def test_a_folder_is_read_in_a_stable_order_and_other_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "guide.md").write_text("# The guide\n\nText.")
    (tmp_path / "a.txt").write_text("\ufeffPlain text.", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "x", "title": "T", "text": "Body", "source": "s", "more": 1}))
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    assert read_documents([tmp_path]) == [
        Document("a.txt", "a", "Plain text.", "a.txt"),
        Document("b/guide.md", "The guide", "# The guide\n\nText.", "b/guide.md"),
        Document("x", "T", "Body", "s"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"id": "a", "text": "x"}\n{"id": "b"', r"d\.jsonl, line 2"),
        (b'{"id": "a", "text": 5}', r"line 1.*\$\.text"),
        (b'{"text": "x"}', "line 1.*`id`"),
        (b'{"id": "a", "text": "  "}', "line 1: document 'a' is empty"),
        (b'{"id": "", "text": "x"}', "line 1: field `id`"),
        (b'{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}', "line 2: document id 'a' stands twice"),
        (b'{"id": "a", "text": "\xff"}', "line 1: byte 0xff is not UTF-8"),
    ],
)
def test_a_bad_file_is_named_by_line_and_field(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        read_documents([path])


def test_a_path_that_cannot_be_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.exe").write_text("")
    with pytest.raises(BadInput, match="does not exist"):
        read_documents([tmp_path / "gone"])
    with pytest.raises(BadInput, match=r"\.exe is not one of"):
        read_documents([tmp_path / "x.exe"])
    with pytest.raises(BadInput, match="holds no"):
        read_documents([tmp_path])
