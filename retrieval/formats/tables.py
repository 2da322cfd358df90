"""Rows of cells -> a Markdown table of bounded size; CSV text -> one.

The first row that is not empty is the header. Empty rows and empty columns at the end are left out.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time

from bakeoff.errors import BadInput

MAX_ROWS = 50_000
MAX_COLUMNS = 200
MAX_CELL_CHARACTERS = 4_000
MAX_TABLE_CHARACTERS = 16_000_000
_DELIMITERS = ",;\t|"
_SNIFFED_ROWS = 20


def write_table(rows: Iterable[Sequence[object]]) -> tuple[str, str]:
    """Write rows as a Markdown table.

    Returns:
        (table, what was left out in words or ""); the table is "" where every cell is empty.
    """
    kept: list[list[str]] = []
    left_out = ""
    size = 0
    for row in rows:
        cells = [show_cell(value) for value in row[:MAX_COLUMNS]]
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            continue
        size += sum(map(len, cells))
        if len(kept) > MAX_ROWS or size > MAX_TABLE_CHARACTERS:
            left_out = f"only the first {len(kept) - 1} rows were read"
            break
        if len(row) > MAX_COLUMNS:
            left_out = f"only the first {MAX_COLUMNS} columns were read"
        kept.append(cells)
    width = max(map(len, kept), default=0)
    lines = [f"| {' | '.join(cells + [''] * (width - len(cells)))} |" for cells in kept]
    lines[1:1] = [f"|{' --- |' * width}"] * bool(lines)
    return "\n".join(lines), left_out


def show_cell(value: object) -> str:
    """A cell as a person would write it, on one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.12g}"
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if isinstance(value, date):
        return value.isoformat().replace("T", " ")
    return " ".join(str(value)[:MAX_CELL_CHARACTERS].split()).replace("|", "\\|")


def read_csv(text: str) -> tuple[str, str]:
    """Read CSV text whose cells are parted by comma, semicolon, tab or bar.

    Returns:
        As `write_table`.

    Raises:
        BadInput: it is not CSV; names the line.
    """
    delimiter = max(_DELIMITERS, key=lambda mark: (_num_columns(text, mark), -_DELIMITERS.index(mark)))
    return write_table(_rows(text, delimiter))


def _num_columns(text: str, delimiter: str) -> int:
    """Columns of the first rows; 1 where the rows do not agree."""
    widths: set[int] = set()
    try:
        for number, row in enumerate(_rows(text[:65536], delimiter)):
            if number >= _SNIFFED_ROWS:
                break
            if row:
                widths.add(len(row))
    except BadInput:
        return 1
    return widths.pop() if len(widths) == 1 else 1 + (min(widths, default=1) > 1)


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        yield from reader
    except csv.Error as error:
        raise BadInput(f"line {reader.line_num}: {error}") from error
