"""PDF -> Markdown, page by page: paragraphs in reading order, ruled tables, headings where the letters are larger."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from bakeoff.errors import BadInput
from retrieval.formats.tables import write_table

_HEADING_RATIO = 1.15
_MAX_HEADING_CHARACTERS = 120


class _Block(Struct):
    text: str
    size: float
    """Of its letters, in points; 0 for a table."""
    left: float
    top: float
    """From the top of the page."""
    right: float


def read_pdf(data: bytes) -> str:
    """Read a PDF.

    Returns:
        Markdown; a form feed begins each page.

    Raises:
        BadInput: it has a password, no text, or is damaged.
    """
    import pdfplumber
    from pdfminer.pdfdocument import PDFPasswordIncorrect
    from pdfplumber.utils.exceptions import PdfminerException

    pages: list[list[_Block]] = []
    try:
        with pdfplumber.open(io.BytesIO(data), laparams={}) as pdf:
            for page in pdf.pages:
                pages.append(_read_page(page))
                page.close()
    except PdfminerException as error:
        if error.args and isinstance(error.args[0], PDFPasswordIncorrect):
            raise BadInput("has a password; save a copy without it") from error
        raise BadInput(f"is a damaged PDF: {error}") from error
    if not any(pages):
        raise BadInput("has no text: it looks like a scan; recognise its text (OCR) first")
    levels = _heading_levels(pages)
    return "".join("\f" + "\n\n".join(_write(block, levels) for block in page) for page in pages)


def _read_page(page: Any) -> list[_Block]:
    """Blocks in reading order; a table comes after the last text above it."""
    tables = [
        table
        for table in (page.find_tables() if _has_rules(page.layout) else [])  # finding them doubles the time of a page
        if len(table.rows) > 1 and len(table.rows[0].cells) > 1
    ]
    blocks: list[_Block] = []
    for box in _text_boxes(page.layout):
        lines = [
            _Block(" ".join(line.get_text().split()), _letter_size(line), line.x0, page.height - line.y1, line.x1)
            for line in box
        ]
        blocks += _join_lines(line for line in lines if not any(_holds(table.bbox, line) for table in tables))
    for table in sorted(tables, key=lambda table: float(table.bbox[1])):
        left, top, right, _ = table.bbox
        above = [place for place, block in enumerate(blocks) if block.top < top and _overlap(block, left, right)]
        below = [place for place, block in enumerate(blocks) if block.top >= top and _overlap(block, left, right)]
        place = above[-1] + 1 if above else below[0] if below else len(blocks)
        blocks.insert(place, _Block(write_table(table.extract())[0], 0, left, top, right))
    return [block for block in blocks if block.text]


def _text_boxes(layout: Any) -> Iterator[Any]:
    from pdfminer.layout import LTFigure, LTTextBox

    for element in layout:
        if isinstance(element, LTTextBox):
            yield element
        elif isinstance(element, LTFigure):
            yield from _text_boxes(element)


def _has_rules(layout: Any) -> bool:
    """Whether there are lines enough for a table."""
    from pdfminer.layout import LTCurve

    return sum(isinstance(element, LTCurve) for element in layout) > 3


def _holds(bbox: tuple[float, float, float, float], line: _Block) -> bool:
    left, top, right, bottom = bbox
    return left <= (line.left + line.right) / 2 <= right and top <= line.top + line.size / 2 <= bottom


def _overlap(block: _Block, left: float, right: float) -> bool:
    return block.left < right and left < block.right


def _letter_size(line: Any) -> float:
    sizes = [round(letter.size * 2) / 2 for letter in line if hasattr(letter, "size")]
    return max(set(sizes), key=sizes.count) if sizes else 0


def _join_lines(lines: Iterable[_Block]) -> Iterator[_Block]:
    """Paragraphs of lines with letters of one size; a word parted at the line's end is joined again."""
    block = _Block("", 0, 0, 0, 0)
    for line in lines:
        if not line.text:
            continue
        if block.text and abs(line.size - block.size) < 0.6:
            parted = re.search(r"[^\W\d_]-$", block.text) and line.text[0].islower()
            block.text = block.text[:-1] + line.text if parted else f"{block.text} {line.text}"
            block.right = max(block.right, line.right)
            continue
        if block.text:
            yield block
        block = line
    if block.text:
        yield block


def _heading_levels(pages: list[list[_Block]]) -> dict[float, int]:
    """Sizes clearly larger than most text, the largest three of them, as heading levels."""
    letters: Counter[float] = Counter()
    for page in pages:
        for block in page:
            letters[block.size] += len(block.text)
    letters.pop(0, None)
    if not letters:
        return {}
    body = letters.most_common(1)[0][0]
    larger = sorted((size for size in letters if size >= body * _HEADING_RATIO), reverse=True)
    return {size: min(level, 3) for level, size in enumerate(larger, start=1)}


def _write(block: _Block, levels: dict[float, int]) -> str:
    if block.size in levels and len(block.text) <= _MAX_HEADING_CHARACTERS:
        return f"{'#' * levels[block.size]} {block.text}"
    return block.text
