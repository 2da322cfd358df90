"""Each format, with small files made here by other libraries than those that read them."""

from collections.abc import Iterator
from datetime import date, datetime
from io import BytesIO
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
from reportlab.lib import colors
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table

from bakeoff.errors import BadInput
from retrieval.chunking import cut_chunks
from retrieval.documents import read_documents
from retrieval.formats.converter import Converter
from retrieval.formats.tables import read_csv, show_cell, write_table


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    with Converter() as converter:
        yield converter


def test_word(converter: Converter) -> None:
    document = docx.Document()
    document.add_heading("Guest guide", 0)
    document.add_heading("Parking", 1)
    document.add_paragraph("It costs ").add_run("10 pounds").bold = True
    document.add_paragraph("one", style="List Bullet")
    document.add_paragraph("two", style="List Bullet")
    document.add_heading("Prices", 2)
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["room", "price", "double | twin", "99"], strict=True):
        cell.text = text
    assert converter.convert(".docx", saved(document)).text == (
        "# Guest guide\n\n# Parking\n\nIt costs **10 pounds**\n\n- one\n- two\n\n## Prices\n\n"
        "| room | price |\n| --- | --- |\n| double \\| twin | 99 |"
    )


def test_slides(converter: Converter) -> None:
    slides = pptx.Presentation()
    first = slides.slides.add_slide(slides.slide_layouts[1])
    first.shapes.title.text = "Breakfast"
    first.placeholders[1].text = "From seven\nUntil ten"
    first.notes_slide.notes_text_frame.text = "Mention the garden."
    second = slides.slides.add_slide(slides.slide_layouts[5])
    second.shapes.title.text = "Rooms"
    cells = second.shapes.add_table(2, 2, 0, 3_000_000, 5_000_000, 800_000).table.iter_cells()
    for cell, text in zip(cells, ["room", "price", "double", "99"], strict=True):
        cell.text = text
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(0, 2_000_000, 100, 100).text_frame.text = "In a group."
    text = converter.convert(".pptx", saved(slides)).text
    assert text.startswith("\f# Breakfast\n\n- From seven\n- Until ten\n\nMention the garden.\f# Rooms\n\n")
    assert "In a group." in text
    assert "| room | price |\n| --- | --- |\n| double | 99 |" in text


def test_workbook(converter: Converter) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Prices"
    for row in (["room", "price", "since", "pets"], ["double", 99.5, date(2024, 5, 1), True], [], ["single", 80]):
        sheet.append(row)
    book.create_sheet("Empty")
    book.create_sheet("More").append(["a|b", None, "c\nd"])
    converted = converter.convert(".xlsx", saved(book))
    assert converted.text == (
        "# Prices\n\n| room | price | since | pets |\n| --- | --- | --- | --- |\n"
        "| double | 99.5 | 2024-05-01 | yes |\n| single | 80 |  |  |\n\n"
        "# More\n\n| a\\|b |  | c d |\n| --- | --- | --- |"
    )
    assert converted.note == ""


def test_page(converter: Converter) -> None:
    page = (
        "<!doctype html><title>The\n page</title><style>p{}</style><h1>Head</h1><p>Some <b>bold</b> snake_case "
        "<a href='/x'>link</a>.<ul><li>one<li>two</ul><table><tr><td>a<td>b|c<tr><td>1<td>2</table>"
        "<pre>code\n  more</pre><script>evil()</script>"
    )
    converted = converter.convert(".html", page.encode())
    assert converted.title == "The page"
    assert converted.text == (
        "# Head\n\nSome **bold** snake_case link.\n\n- one\n- two\n\n| a | b\\|c |\n| --- | --- |\n| 1 | 2 |\n\n"
        "```\ncode\n  more\n```"
    )


def test_a_page_may_say_its_encoding(converter: Converter) -> None:
    page = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1"><p>Grüße'
    assert converter.convert(".htm", page.encode("latin-1")).text == "Grüße"
    with pytest.raises(BadInput, match="says it is ascii but is not"):
        converter.convert(".htm", page.replace("iso-8859-1", "ascii").encode("latin-1"))
    with pytest.raises(BadInput, match="line 1: byte 0xfc is not UTF-8"):
        converter.convert(".htm", "<p>Grüße".encode("latin-1"))


def test_pdf(converter: Converter) -> None:
    styles = getSampleStyleSheet()
    grid = [("GRID", (0, 0), (-1, -1), 1, colors.black)]
    sentence = "Rooms are cleaned every day at ten. "
    data = pdf(
        Paragraph("House rules", styles["Heading1"]),
        Paragraph(sentence * 8, styles["Normal"]),
        Table([["room", "price"], ["double", "99"]], style=grid),
        Paragraph("After the table.", styles["Normal"]),
        PageBreak(),
        Paragraph("Pets", styles["Heading2"]),
        Paragraph("Dogs may stay.", styles["Normal"]),
    )
    assert converter.convert(".pdf", data).text == (
        f"\f# House rules\n\n{(sentence * 8).strip()}\n\n| room | price |\n| --- | --- |\n| double | 99 |\n\n"
        "After the table.\f## Pets\n\nDogs may stay."
    )


def test_pages_reach_the_chunks(tmp_path: Path, converter: Converter) -> None:
    styles = getSampleStyleSheet()
    (tmp_path / "one.pdf").write_bytes(pdf(Paragraph("Only one.", styles["Normal"])))
    two = pdf(Paragraph("First.", styles["Normal"]), PageBreak(), Paragraph("Second.", styles["Normal"]))
    (tmp_path / "two.PDF").write_bytes(two)
    one, other = read_documents([tmp_path], converter).documents
    count = lambda texts: [len(text.split()) for text in texts]
    assert [(chunk.page, chunk.text) for chunk in cut_chunks(one, count, 16)] == [(1, "Only one.")]
    assert [(chunk.page, chunk.text) for chunk in cut_chunks(other, count, 16)] == [(1, "First."), (2, "Second.")]
    assert (one.title, other.id) == ("one", "two.PDF")


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("name,price\nroom,1\n", "| name | price |\n| --- | --- |\n| room | 1 |"),
        (
            'name;price\nroom;1,50\n"two\nlines";3',
            "| name | price |\n| --- | --- |\n| room | 1,50 |\n| two lines | 3 |",
        ),
        ("a\tb, c\n1\t2\n", "| a | b, c |\n| --- | --- |\n| 1 | 2 |"),
        ("only\none\n", "| only |\n| --- |\n| one |"),
        ("a,b\n\n1\n", "| a | b |\n| --- | --- |\n| 1 |  |"),
    ],
)
def test_csv(text: str, table: str) -> None:
    assert read_csv(text) == (table, "")


def test_large_tables_stay_bounded() -> None:
    table, left_out = write_table([["x"] * 300, ["y"] * 300])
    assert (table.count("x"), left_out) == (200, "only the first 200 columns were read")
    table, left_out = write_table([number] for number in range(60_000))
    assert (len(table.split("\n")), left_out) == (50_002, "only the first 50000 rows were read")
    table, left_out = write_table(["z" * 4000] * 200 for _ in range(30))
    assert len(table) < 17_000_000
    assert left_out == "only the first 19 rows were read"


def test_cells_are_written_as_people_do() -> None:
    values = [
        None,
        True,
        3.0,
        0.1 + 0.2,
        date(2024, 5, 1),
        datetime(2024, 5, 1),  # noqa: DTZ001
        datetime(2024, 5, 1, 9, 30),  # noqa: DTZ001
        " a\n|b ",
    ]
    assert [show_cell(value) for value in values] == [
        "", "yes", "3", "0.3", "2024-05-01", "2024-05-01", "2024-05-01 09:30:00", "a \\|b"
    ]  # fmt: skip


def test_titles_come_from_the_content_or_the_name(tmp_path: Path, converter: Converter) -> None:
    (tmp_path / "a.html").write_text("<title>From title</title><h1>Head</h1>x")
    (tmp_path / "b.html").write_text("<h1>From heading</h1>x")
    (tmp_path / "c.csv").write_text("# name,price\n1,2")
    (tmp_path / "d.md").write_text(f"# {'long ' * 100}\n\nText")
    titles = [document.title for document in read_documents([tmp_path], converter).documents]
    assert titles[:3] == ["From title", "From heading", "c"]
    assert len(titles[3]) == 300


def saved(document: object) -> bytes:
    file = BytesIO()
    document.save(file)  # type: ignore[attr-defined]
    return file.getvalue()


def pdf(*parts: object) -> bytes:
    file = BytesIO()
    SimpleDocTemplate(file).build(list(parts))
    return file.getvalue()
