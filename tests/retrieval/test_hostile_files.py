"""Files made to break a reader: each becomes one clear sentence, in bounded memory and time, and the others go in."""

import json
import os
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import docx
import openpyxl
import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from bakeoff.errors import BadInput
from retrieval.documents import read_documents
from retrieval.formats.converter import Converter

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
MEGABYTE = 1024 * 1024
BILLION_LAUGHS = (
    '<?xml version="1.0"?>{padding}<!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1 or str()};" * 10}">' for n in range(1, 10))
    + "]><document>&lol9;</document>"
)


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    with Converter() as converter:
        yield converter


def word(**replaced: bytes) -> bytes:
    """A Word file with some parts replaced, or added."""
    plain, changed = BytesIO(), BytesIO()
    document = docx.Document()
    document.add_paragraph("Text.")
    document.save(plain)
    parts = {name.replace("__", "/").replace("_xml", ".xml"): data for name, data in replaced.items()}
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, parts.pop(name, None) or old.read(name))
        for name, data in parts.items():
            new.writestr(name, data)
    return changed.getvalue()


def lie_about_sizes(data: bytes, real: int) -> bytes:
    """Make every header of the archive say that the part of `real` bytes has 100."""
    return data.replace(real.to_bytes(4, "little"), (100).to_bytes(4, "little"))


def pdf(text: str = "", password: str = "", pages: int = 1) -> bytes:
    file = BytesIO()
    canvas = Canvas(file, encrypt=StandardEncryption(password) if password else None)
    for _ in range(pages):
        if text:
            canvas.drawString(100, 700, text)
        else:
            canvas.rect(100, 100, 200, 200, fill=1)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def sheet(rows: int) -> bytes:
    """A workbook with one cell in use, and rows that are empty."""
    file, changed = BytesIO(), BytesIO()
    book = openpyxl.Workbook()
    book.active.append(["only"])
    book.save(file)
    empty = "".join(f'<row r="{row}" ht="15" customHeight="1"/>' for row in range(2, rows + 1))
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, text.replace(b"</sheetData>", empty.encode() + b"</sheetData>"))
    return changed.getvalue()


def archive(parts: dict[str, bytes]) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in parts.items():
            new.writestr(name, data)
    return file.getvalue()


BOMB = word(word__media__bomb_xml=bytes(300 * MEGABYTE))

REFUSED = [
    (".txt", lambda: b"", "is empty"),
    (".txt", lambda: b" \n\t ", "is empty"),
    (".txt", lambda: PNG, "is not text; it looks like a PNG image"),
    (".md", lambda: b"text\0more", "is not text; it looks like another kind of file"),
    (".csv", lambda: pdf("x"), "is not text; it looks like a PDF"),
    (".jsonl", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + PNG, "looks like an Office file of before 2007"),
    (".txt", lambda: "Grüße".encode("latin-1"), "line 1: byte 0xfc is not UTF-8; save the file as UTF-8"),
    (".txt", lambda: b"\xff\xfea\0b", "line 1: byte 0x62 is not UTF-16"),
    (".pdf", lambda: PNG, "is named .pdf but looks like a PNG image"),
    (".docx", lambda: pdf("x"), "is named .docx but looks like a PDF"),
    (
        ".docx",
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + PNG,
        "an Office file of before 2007 or one with a password",
    ),
    (".pptx", lambda: word(), "is named .pptx but is another kind of ZIP archive"),
    (".xlsx", lambda: b"PK\x03\x04" + PNG, "is damaged or has a password: File is not a zip file"),
    (".docx", lambda: word()[:-400], "is damaged or has a password: File is not a zip file"),
    (".docx", lambda: archive({"word/document.xml": b"<broken"}), "is damaged: "),
    (".pdf", lambda: b"%PDF-1.7 and then nothing", "damaged PDF"),
    (".pdf", lambda: pdf("secret", "x"), "has a password; save a copy without it"),
    (".pdf", lambda: pdf(), "has no text: it looks like a scan; recognise its text (OCR) first"),
    (".docx", lambda: BOMB, "unpacks to more than 256 MB: it may be a ZIP bomb"),
    (".docx", lambda: lie_about_sizes(BOMB, 300 * MEGABYTE), "is damaged or has a password: "),
    (".docx", lambda: archive({f"word/{number}": b"" for number in range(10_001)}), "holds 10001 parts"),
    (".docx", lambda: word(word__document_xml=BILLION_LAUGHS.format(padding="").encode()), "declares XML entities"),
    (
        ".docx",
        lambda: word(word__document_xml=BILLION_LAUGHS.format(padding=" " * (MEGABYTE - 30)).encode()),
        "declares XML entities",
    ),
    (
        ".docx",
        lambda: word(word__document_xml=BILLION_LAUGHS.format(padding="").encode("utf-16")),
        "declares XML entities",
    ),
    (".html", lambda: b"<!doctype html><p>\nGr\xfc\xdfe", "line 2: byte 0xfc is not UTF-8; save the file as UTF-8"),
    (".pdf", lambda: b"%PDF-1.4\n1 0 obj<</Root 2 0 R/\x07" + b"x" * 5000 + b">>", "is a damaged PDF: "),
    (".html", lambda: b"<p>" + PNG, "is not text; it looks like another kind of file"),
    (".html", lambda: b"<script>only()</script>", "holds no text"),
    (".jsonl", lambda: b'{"id": "a", "text": "' + b"[" * 100 + b'"', "line 1: Input data was truncated"),
    (".csv", lambda: b'a,b\n"' + b"x" * 200_000, "line 2: field larger than field limit"),
    (".txt", lambda: b"x" * (65 * MEGABYTE), "has 65 MB, more than the 64 that are read; split it"),
]


@pytest.mark.parametrize(("suffix", "make", "said"), REFUSED, ids=[f"{suffix} {said}" for suffix, _, said in REFUSED])
def test_a_hostile_file_is_refused_with_a_sentence(
    tmp_path: Path, converter: Converter, suffix: str, make: Callable[[], bytes], said: str
) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(make())
    (tmp_path / "good.txt").write_text("Text.")
    start = time.monotonic()
    reading = read_documents([tmp_path], converter)
    assert time.monotonic() - start < 8
    assert [document.id for document in reading.documents] == ["good.txt"]
    [report] = reading.skipped
    assert report.path == path
    assert said in str(report.skipped)
    assert len(str(report.skipped)) <= 300
    assert str(report.skipped).isprintable()


def test_a_pipe_and_a_device_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(BadInput, match=r"pipe\.txt: is a pipe, not a file"):
        read_documents([tmp_path])
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    with pytest.raises(BadInput, match=r"zero\.txt: is a device, not a file"):
        read_documents([tmp_path / "zero.txt"])


def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("Text.")
    (tmp_path / "two\nlines.txt").write_text("Text.")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt"))).write_text("Text.")
    long = tmp_path / ("a" * 150) / ("b" * 150)
    long.mkdir(parents=True)
    (long / "c.txt").write_text("Text.")
    reading = read_documents([tmp_path])
    assert [document.id for document in reading.documents] == ["good.txt"]
    unshown = "has a name with characters that cannot be shown; rename it"
    assert [report.skipped for report in reading.skipped] == [
        "has a path below the folder of 307 characters, more than 200; rename it or a folder",
        unshown,
        unshown,
    ]
    assert all(str(report).isprintable() for report in reading.skipped)


def test_a_pdf_that_unpacks_to_gigabytes_is_refused(converter: Converter) -> None:
    packed = zlib.compress(b"0 0 m " * 50_000_000, 9)
    packed = zlib.compress(packed, 9)
    head = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    page = b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>endobj\n"
    filters = b"/Filter[/FlateDecode/FlateDecode]"
    stream = b"4 0 obj<</Length %d%s>>stream\n%s\nendstream endobj\n" % (len(packed), filters, packed)
    with Converter(time_limit_s=5, memory_limit_bytes=600 * MEGABYTE) as small:
        start = time.monotonic()
        with pytest.raises(BadInput, match=r"more than 600 MB of memory|more than 5 s|damaged|no text"):
            small.convert(".pdf", head + page + stream + b"trailer<</Root 1 0 R>>")
        assert time.monotonic() - start < 8
    assert "Text." in converter.convert(".docx", word()).text


def test_a_million_empty_rows_are_left_out(converter: Converter) -> None:
    data = sheet(1_000_000)
    with zipfile.ZipFile(BytesIO(data)) as parts:
        assert parts.getinfo("xl/worksheets/sheet1.xml").file_size > 30 * MEGABYTE
    start = time.monotonic()
    assert converter.convert(".xlsx", data).text == "# Sheet\n\n| only |\n| --- |"
    assert time.monotonic() - start < 8


def test_a_cell_in_the_last_corner_costs_a_sentence_at_most(converter: Converter) -> None:
    file = BytesIO()
    book = openpyxl.Workbook()
    book.active["A1"] = "first"
    book.active["XFD1048576"] = "last"
    book.save(file)
    with pytest.raises(BadInput, match=r"more than 2048 MB of memory|is damaged"):
        converter.convert(".xlsx", file.getvalue())
    assert "Text." in converter.convert(".docx", word()).text


def test_deep_nesting_ends_in_a_sentence_or_a_text(converter: Converter) -> None:
    page = b"<div>" * 100_000 + b"deep"
    try:
        outcome = converter.convert(".html", page).text
    except BadInput as error:
        outcome = str(error)
    assert outcome in ("deep", "is nested too deeply")


def test_a_slow_file_is_given_up_and_the_next_is_read() -> None:
    slow = pdf("A page. " * 10, pages=4000)
    with Converter(time_limit_s=2) as converter:
        start = time.monotonic()
        with pytest.raises(BadInput, match="takes more than 2 s to read"):
            converter.convert(".pdf", slow)
        assert time.monotonic() - start < 4
        assert "Text." in converter.convert(".docx", word()).text


def test_a_file_that_takes_too_much_memory_is_given_up_and_the_next_is_read() -> None:
    large = word(word__document_xml=b"<a>" + b"<b></b>" * 6_000_000 + b"</a>")
    with Converter(memory_limit_bytes=400 * MEGABYTE) as converter:
        with pytest.raises(BadInput, match="more than 400 MB of memory"):
            converter.convert(".docx", large)
        assert "Text." in converter.convert(".docx", word()).text


def test_a_process_that_breaks_costs_one_file() -> None:
    with Converter() as converter:
        assert "Text." in converter.convert(".docx", word()).text
        process = converter._process
        assert process is not None
        process.kill()
        process.wait()
        assert "Text." in converter.convert(".docx", word()).text
        assert converter._process is not process
    assert converter._process is None


def test_memory_stays_bounded_over_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "bomb.docx").write_bytes(BOMB)
    (tmp_path / "rows.xlsx").write_bytes(sheet(1_000_000))
    (tmp_path / "good.txt").write_text("Text.")
    for suffix in (".txt", ".csv", ".jsonl", ".md", ".html"):
        with (tmp_path / f"line{suffix}").open("wb") as file:
            file.truncate(200 * MEGABYTE)  # one line of 200 MB
    program = (
        "import json, resource, sys; from pathlib import Path; from retrieval.documents import read_documents\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "reading = read_documents([Path(sys.argv[1])])\n"
        "print(json.dumps([len(reading.reads), sorted(report.path.name for report in reading.skipped),\n"
        "    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,\n"
        "    resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True)
    assert time.monotonic() - start < 20
    num_read, skipped, own_kilobytes, worker_kilobytes = json.loads(done.stdout)
    assert num_read == 2
    assert skipped == ["bomb.docx", "line.csv", "line.html", "line.jsonl", "line.md", "line.txt"]
    assert own_kilobytes < 40 * 1024
    assert worker_kilobytes < 150 * 1024
