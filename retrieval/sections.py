"""A document's text -> its sections: what stands beneath one heading on one page.

Markdown headings of level 1 to 3 begin a section, and so does a page, because a passage is shown with its heading and
page and has to lie where they say. Deeper headings stay in the text. A sentence that runs over the end of a page stays
whole, on the page where it begins.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

MAX_HEADING_LENGTH = 160
"""A longer line is a paragraph, whatever it begins with."""
PATH_SEPARATOR = " > "
_WIDE_STOPS = "\u3002\uff01\uff1f\u0964\u061f"  # of Chinese and Japanese, Hindi, Arabic
SENTENCE_END = re.compile(rf"[.!?…][\"'”’)\]]*\s+(?=\S)|[{_WIDE_STOPS}]\s*(?=\S)")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,3})[ \t]+(\S.*)")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_NOT_A_HEADING = re.compile(r"\s*(?:[-*+>|#]|\d+[.)]\s)")


class Section(Struct, frozen=True):
    """Text with one heading path, on one page."""

    heading: str
    """Outermost first, joined by " > "."""
    page: int | None
    text: str


def split_sections(text: str) -> list[Section]:
    """Split a text at its headings and pages.

    Returns:
        In order; together they hold every word. A heading without text of its own stands in the path of the headings
        below it; where there are none, it is a section whose text is the heading.
    """
    paged = "\f" in text
    pages = text.removeprefix("\f").split("\f")
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    bare: int | None = None  # page of the innermost heading while nothing has followed it
    for number, page in enumerate(_finish_sentences(pages) if paged else pages, start=1):
        for level, words in _split_at_headings(page):
            if not level:
                sections.append(Section(_join(path), number if paged else None, words))
                bare = None
                continue
            if bare is not None and level <= path[-1][0]:
                sections.append(Section(_join(path[:-1]), bare if paged else None, path[-1][1]))
            path = [*(above for above in path if above[0] < level), (level, words)]
            bare = number
    if bare is not None:
        sections.append(Section(_join(path[:-1]), bare if paged else None, path[-1][1]))
    return sections


def _split_at_headings(page: str) -> Iterator[tuple[int, str]]:
    """Yield (1 to 3, heading) and (0, the text up to the next heading)."""
    if "#" not in page and "\n=" not in page and "\n-" not in page:
        if page.strip():
            yield 0, page.strip()
        return
    lines: list[str] = []
    fence = ""
    for line in page.split("\n"):
        mark = FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        heading = None if fence else _heading(line, lines)
        if heading is None:
            lines.append(line)
            continue
        if words := "\n".join(lines).strip():
            yield 0, words
        lines = []
        yield heading
    if words := "\n".join(lines).strip():
        yield 0, words


def _heading(line: str, before: list[str]) -> tuple[int, str] | None:
    """Level and words of a heading; of an underlined one, `before` loses the line that was underlined."""
    if match := _HEADING.match(line):
        words = re.sub(r"(^|[ \t])#+$", "", match[2].strip()).strip()
        return (len(match[1]), words) if 0 < len(words) <= MAX_HEADING_LENGTH else None
    if not before or not _UNDERLINE.match(line):
        return None
    words = before[-1].strip()
    alone = len(before) == 1 or not before[-2].strip()
    if not alone or not 0 < len(words) <= MAX_HEADING_LENGTH or _NOT_A_HEADING.match(words):
        return None
    before.pop()
    return (1 if "=" in line else 2), words


def _finish_sentences(pages: list[str]) -> list[str]:
    """Move the end of a sentence to the page where the sentence begins."""
    finished = pages[:1]
    for page in pages[1:]:
        before, after = finished[-1].rstrip(), page.lstrip()
        if before and before[-1] not in f".!?…:|`{_WIDE_STOPS}" and after[:1].islower():
            end = SENTENCE_END.search(after)
            paragraph = after.find("\n\n")
            ends = [place for place in (end.end() if end else -1, paragraph) if place >= 0]
            cut = min(ends, default=len(after))
            finished[-1] = f"{before} {after[:cut].rstrip()}"
            page = after[cut:]
        finished.append(page)
    return finished


def _join(path: list[tuple[int, str]]) -> str:
    return PATH_SEPARATOR.join(words for _, words in path)
