import json
import os
from pathlib import Path

import pytest

from bakeoff.errors import BadInput
from bakeoff.records import Document
from retrieval.documents import FileReport, UnsupportedKind, read_changed, read_documents, read_upload
from retrieval.formats.converter import Converter


def test_a_folder_is_read_in_a_stable_order_and_other_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "guide.md").write_text("# The guide\n\nText.")
    (tmp_path / "a.txt").write_text("\ufeffPlain\u200b text.", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "x", "title": "T", "text": "Body", "source": "s", "more": 1}))
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.md").write_text("No.")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "info.txt").write_text("No.")
    reading = read_documents([tmp_path])
    assert reading.documents == [
        Document("a.txt", "a", "Plain text.", "a.txt", str(tmp_path / "a.txt")),
        Document("b/guide.md", "The guide", "# The guide\n\nText.", "b/guide.md", str(tmp_path / "b" / "guide.md")),
        Document("x", "T", "Body", "s", str(tmp_path / "c.jsonl")),
    ]
    assert [(report.path.name, report.documents) for report in reading.reports] == [
        ("a.txt", 1),
        ("guide.md", 1),
        ("c.jsonl", 1),
    ]
    assert (reading.passed_over, reading.skipped) == (1, [])


def test_a_line_says_who_may_see_it(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "text": "x", "groups": ["staff", "night"]},
        {"id": "b", "text": "x", "groups": []},
        {"id": "c", "text": "x"},
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [read.groups for read in read_documents([path]).reads] == [("staff", "night"), (), None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"id": "a", "text": "x"}\n{"id": "b"', r"d\.jsonl, line 2"),
        (b'{"id": "a", "text": 5}', r"line 1.*\$\.text"),
        (b'{"id": "a", "text": "x", "groups": "staff"}', r"line 1.*\$\.groups"),
        (b'{"text": "x"}', "line 1.*`id`"),
        (b'{"id": "a", "text": "  "}', "line 1: document 'a' is empty"),
        (b'{"id": "", "text": "x"}', "line 1: field `id`"),
        (b'{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}', "line 2: document id 'a' stands twice"),
        (b'{"id": "a", "text": "\xff"}', "line 1: byte 0xff is not UTF-8"),
    ],
)
def test_a_bad_file_is_named_by_line_and_field_and_the_others_go_in(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        read_documents([path])
    (tmp_path / "good.txt").write_text("Text.")
    reading = read_documents([tmp_path])
    assert [document.id for document in reading.documents] == ["good.txt"]
    assert [report.path for report in reading.skipped] == [path]


def test_of_two_documents_with_one_id_the_second_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "x", "text": "first"}')
    (tmp_path / "b.jsonl").write_text('{"id": "y", "text": "other"}\n{"id": "x", "text": "second"}')
    reading = read_documents([tmp_path])
    assert [document.text for document in reading.documents] == ["first"]
    [report] = reading.skipped
    assert str(report) == f"{tmp_path / 'b.jsonl'}, line 2: document id 'x' stands twice in what was given"


def test_a_path_that_cannot_be_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.exe").write_text("")
    with pytest.raises(BadInput, match="does not exist"):
        read_documents([tmp_path / "gone"])
    with pytest.raises(BadInput, match=r"\.exe is not one of"):
        read_documents([tmp_path / "x.exe"])
    with pytest.raises(BadInput, match="holds no"):
        read_documents([tmp_path])
    assert read_documents([tmp_path], allow_nothing=True).passed_over == 1


def test_where_nothing_can_be_read_the_first_reasons_are_said(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        read_documents([tmp_path])
    assert f"{tmp_path / '0.txt'}: is empty" in str(caught.value)
    assert "3.txt" not in str(caught.value)
    assert str(caught.value).endswith("... and 2 more")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_say_what_they_are_are_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("Grüße\nZeile", encoding=encoding)
    assert read_documents([tmp_path]).documents[0].text == "Grüße\nZeile"


def test_links_are_reported_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    inside = tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (inside / "own.txt").write_text("own")
    (inside / "out.txt").symlink_to(outside / "secret.txt")
    (inside / "dir").symlink_to(outside)
    (inside / "in.txt").symlink_to("own.txt")
    (inside / "up").symlink_to("..")
    (inside / "same").symlink_to(".")
    (inside / "loop.txt").symlink_to("loop.txt")
    (inside / "gone.txt").symlink_to("nothing.txt")
    reading = read_documents([inside])
    assert [document.text for document in reading.documents] == ["own"]
    out = "is a symbolic link that leads out of the folder; copy the file into it"
    own = "is a symbolic link; what it leads to is read at its own place"
    assert {report.path.name: report.skipped for report in reading.skipped} == {
        "out.txt": out,
        "dir": out,
        "up": out,
        "in.txt": own,
        "same": own,
        "loop.txt": "is a symbolic link that leads back to itself",
        "gone.txt": "is a symbolic link that leads nowhere",
    }
    assert read_documents([inside / "in.txt"]).documents[0].text == "own"  # asked for by name


def test_only_changed_files_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.txt", "b/c.txt", "b/d.txt", "e.png", ".f.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("b")
    changed = [tmp_path / name for name in ("a.txt", "gone.txt", "e.png", ".f.txt", "link/c.txt")]
    reading = read_changed(tmp_path, changed)
    assert [document.id for document in reading.documents] == ["a.txt"]
    assert [report.path.name for report in reading.skipped] == ["link"]
    assert [document.id for document in read_changed(tmp_path, [tmp_path / "b"]).documents] == ["b/c.txt", "b/d.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "c").mkdir()
    (tmp_path / "b.txt").chmod(0)
    (tmp_path / "c").chmod(0)
    reading = read_documents([tmp_path])
    (tmp_path / "c").chmod(0o700)
    assert [report.skipped for report in reading.skipped] == [
        "cannot be read: Permission denied",
        "cannot be listed: Permission denied",
    ]


def test_a_report_is_a_line_for_people() -> None:
    assert str(FileReport(Path("a.txt"), 1)) == "a.txt: 1 document"
    assert str(FileReport(Path("a.xlsx"), 2, note="only the first 5 rows were read")) == (
        "a.xlsx: 2 documents; only the first 5 rows were read"
    )
    assert str(FileReport(Path("a.txt"), 0, "is empty")) == "a.txt: is empty"


def test_an_upload_is_read_as_the_kind_of_file_its_owner_says_it_is(tmp_path: Path) -> None:
    path = tmp_path / "4f0c"
    with Converter() as converter:
        path.write_text("# The guide\n\nText.")
        [read] = read_upload(path, "house rules.md", "file-1", converter)
        assert read.document == Document("file-1", "The guide", "# The guide\n\nText.", "house rules.md")
        [read] = read_upload(path, "house rules.txt", "file-1", converter)
        assert (read.document.title, read.groups) == ("The guide", None)
        for name in ("rules", "rules.exe", ""):
            with pytest.raises(UnsupportedKind, match="is not one of"):
                read_upload(path, name, "file-1", converter)
        path.write_text('{"id": "x", "text": "a", "groups": ["hr"]}\n{"id": "y", "text": "b", "source": "s"}\n')
        reads = read_upload(path, "lines.JSONL", "file-1", converter)
        assert [read.document for read in reads] == [
            Document("file-1#1", "", "a"),
            Document("file-1#2", "", "b", "s"),
        ]
        assert [read.groups for read in reads] == [("hr",), None]
        for content, reason in (("{}", "line 1"), ("\u3000\n", "is empty")):
            path.write_text(content)
            with pytest.raises(BadInput, match=reason):
                read_upload(path, "lines.jsonl", "file-1", converter)
        path.write_text("\u200b")
        with pytest.raises(BadInput, match="holds no text"):
            read_upload(path, "a.txt", "file-1", converter)
        path.write_text("no pdf")
        with pytest.raises(BadInput):
            read_upload(path, "a.pdf", "file-1", converter)
