"""Where a section's Markdown may be cut: before blocks best, then list items and table rows, then sentences.

A table is cut only between rows, a code fence not at all; what is then still too long for the embedder is split by
`split_evenly`, at line ends, cell borders or words.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from retrieval.sections import FENCE, SENTENCE_END

INSIDE, SENTENCE, ITEM, BLOCK = range(4)
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s+\S")
_DEEP_HEADING = re.compile(r" {0,3}#{4,6}[ \t]+\S")
_TABLE_RULE = re.compile(r"\s*\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-*:?[ \t]*)*$")


class Border(Struct, frozen=True):
    """A place where a chunk may begin."""

    start: int
    """Characters from the beginning of the section."""
    rank: int
    lead: str = ""
    """What a chunk that begins here repeats: the header of the table."""


def find_borders(text: str) -> list[Border]:
    """Every place where a chunk may begin; the first is the beginning of the text."""
    borders = [Border(0, BLOCK)]
    for border in _scan(text):
        if border.start > borders[-1].start:
            borders.append(border)
    return borders


def split_evenly(text: str, start: int, end: int, parts: int) -> list[int]:
    """Places that split text[start:end] in about so many equal parts, at least in two.

    Returns:
        Ascending, strictly between start and end: after line ends where there are any near, else at cell borders, else
        between words; inside a word only where the whole slice is one word.
    """
    parts = max(2, parts)
    targets = [start + (end - start) * part // parts for part in range(1, parts)]
    space = re.compile(r"\s(?=\S)").search(text, start + 1, end)
    if space is None or space.end() >= end:
        return [target for target in dict.fromkeys(targets) if target > start]
    cuts: list[int] = []
    for target in targets:
        last = cuts[-1] if cuts else start
        if (cut := _separator(text, last, target)) > last:
            cuts.append(cut)
    return cuts or [space.end()]


def _separator(text: str, last: int, target: int) -> int:
    """The best place to cut in (last, target], or `last`."""
    middle = (last + target) // 2
    for mark in ("\n", " |"):
        if (place := text.rfind(mark, middle, target)) > last:
            return place + 1
    return next((place for place in range(target, last, -1) if text[place - 1].isspace()), last)


def _scan(text: str) -> Iterator[Border]:
    lines = text.split("\n")
    place, number = 0, 0
    fresh, glued = True, False  # after a blank line; after a heading, which stays with what follows
    while number < len(lines):
        line = lines[number]
        size = len(line) + 1
        if not line.strip():
            fresh = True
        elif mark := FENCE.match(line):
            yield Border(place, INSIDE if glued else BLOCK)
            size, number = _skip_fence(lines, number, mark[1])
            fresh, glued = True, False
        elif _begins_table(lines, number):
            lead = f"{line}\n{lines[number + 1]}\n"
            yield Border(place, INSIDE if glued else BLOCK)
            size, number = len(lead), number + 1
            row = True  # the first row stays with the header
            while number + 1 < len(lines) and "|" in lines[number + 1]:
                number += 1
                if not row:
                    yield Border(place + size, ITEM, lead)
                size, row = size + len(lines[number]) + 1, False
            fresh, glued = True, False
        elif _DEEP_HEADING.match(line):
            yield Border(place, BLOCK)
            glued = True
        else:
            rank = ITEM if _ITEM.match(line) else BLOCK if fresh else None
            if rank is not None:
                yield Border(place, INSIDE if glued else rank)
            for match in SENTENCE_END.finditer(line):
                if not line[match.end()].islower():
                    yield Border(place + match.end(), SENTENCE)
            if re.search(r"[.!?…][\"'”’)\]]*\s*$", line):  # the next line begins a sentence
                yield Border(place + size, SENTENCE)
            fresh, glued = False, False
        place, number = place + size, number + 1


def _skip_fence(lines: list[str], number: int, mark: str) -> tuple[int, int]:
    """Characters from a fence to the line after it, and the number of its last line."""
    size = len(lines[number]) + 1
    for last in range(number + 1, len(lines)):
        size += len(lines[last]) + 1
        closing = FENCE.match(lines[last])
        if closing and closing[1].startswith(mark):
            return size, last
    return size, len(lines) - 1


def _begins_table(lines: list[str], number: int) -> bool:
    return (
        "|" in lines[number]
        and number + 1 < len(lines)
        and "|" in lines[number + 1]
        and _TABLE_RULE.match(lines[number + 1]) is not None
    )
