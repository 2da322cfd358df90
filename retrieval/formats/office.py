"""DOCX, PPTX and XLSX -> Markdown, after the ZIP has been checked for bombs.

What a ZIP says about sizes is not believed: every part is unpacked once, in pieces, against a limit, before mammoth,
python-pptx or calamine get it.
"""

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from bakeoff.errors import BadInput
from retrieval.formats.html import convert_html
from retrieval.formats.tables import write_table

MAX_PARTS = 10_000
MAX_UNPACKED_BYTES = 256 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_FOLDERS = {".docx": "word/", ".pptx": "ppt/", ".xlsx": "xl/"}
_DECLARATIONS = (b"<!DOCTYPE", b"<!ENTITY")
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,  # a part has a password
    ValueError,
    OSError,
)


def check_zip(suffix: str, data: bytes, max_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Check that an Office file is whole, is what its suffix says and unpacks to a bounded size.

    Raises:
        BadInput: says what is wrong with it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            if len(parts) > MAX_PARTS:
                raise BadInput(f"holds {len(parts)} parts, more than the {MAX_PARTS} that are read")
            if not any(part.filename.startswith(_FOLDERS[suffix]) for part in parts):
                raise BadInput(f"is named {suffix} but is another kind of ZIP archive")
            left = max_bytes
            for part in parts:
                left -= _unpack(archive, part, left, max_bytes)
    except _DAMAGE as error:
        raise BadInput(f"is damaged or has a password: {error}") from error


def read_docx(data: bytes) -> str:
    """Read a Word document: headings, lists, tables, notes."""
    import mammoth

    drop: Any = mammoth.images.img_element(lambda _image: {})
    style_map = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"
    html: str = mammoth.convert_to_html(
        io.BytesIO(data), style_map=style_map, convert_image=drop, external_file_access=False
    ).value
    return convert_html(html)[1]


def read_pptx(data: bytes) -> str:
    """Read slides: each is a page with its title as heading, then texts and tables from top to bottom, then notes."""
    from pptx import Presentation

    slides: list[str] = []
    for slide in Presentation(io.BytesIO(data)).slides:
        title = slide.shapes.title
        parts = [f"# {' '.join(title.text_frame.text.split())}"] if title is not None and title.text_frame.text else []
        shapes = [shape for shape in slide.shapes if title is None or shape.shape_id != title.shape_id]
        parts += [part for shape in sorted(shapes, key=_place) for part in _shape_texts(shape)]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            parts.append(_paragraphs(slide.notes_slide.notes_text_frame))
        slides.append("\f" + "\n\n".join(part for part in parts if part.strip()))
    return "".join(slides)


def read_xlsx(data: bytes) -> tuple[str, str]:
    """Read a workbook: each sheet is a heading and a table.

    Returns:
        (Markdown, what was left out in words or "").
    """
    from python_calamine import CalamineWorkbook

    workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
    parts: list[str] = []
    notes: list[str] = []
    for name in workbook.sheet_names:
        table, left_out = write_table(workbook.get_sheet_by_name(name).iter_rows())
        if table:
            parts.append(f"# {name}\n\n{table}")
        if left_out:
            notes.append(f"sheet {name!r}: {left_out}")
    return "\n\n".join(parts), "; ".join(notes)


def _unpack(archive: zipfile.ZipFile, part: zipfile.ZipInfo, left: int, max_bytes: int) -> int:
    """Bytes of a part, read to its end."""
    size, tail = 0, b""
    with archive.open(part) as file:
        while piece := file.read(_PIECE_BYTES):
            size += len(piece)
            if size > left:
                raise BadInput(f"unpacks to more than {max_bytes // 1024**2} MB: it may be a ZIP bomb")
            text = tail + piece.replace(b"\0", b"")  # UTF-16 has a zero in every letter
            if part.filename.endswith((".xml", ".rels")) and any(mark in text for mark in _DECLARATIONS):
                raise BadInput("declares XML entities, which no Office program writes")
            tail = text[-16:]
    return size


def _place(shape: Any) -> tuple[int, int]:
    return shape.top or 0, shape.left or 0


def _shape_texts(shape: Any) -> Iterator[str]:
    if hasattr(shape, "shapes"):
        for inner in sorted(shape.shapes, key=_place):
            yield from _shape_texts(inner)
    elif getattr(shape, "has_table", False):
        yield write_table([[cell.text for cell in row.cells] for row in shape.table.rows])[0]
    elif shape.has_text_frame:
        yield _paragraphs(shape.text_frame, listed=shape.is_placeholder)


def _paragraphs(frame: Any, *, listed: bool = False) -> str:
    texts = [(paragraph.level, " ".join(paragraph.text.split())) for paragraph in frame.paragraphs]
    texts = [(level, text) for level, text in texts if text]
    if listed and len(texts) > 1:
        return "\n".join(f"{'  ' * level}- {text}" for level, text in texts)
    return "\n\n".join(text for _, text in texts)
