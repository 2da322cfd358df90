"""Documents -> chunks that fit the embedder's window, with ids that are hashes of their content.

A section (one heading, one page) that fits is one chunk. A longer one is cut at its blocks, items, table rows and
sentences. Sections are never mixed, however small: the heading a chunk is shown with is then always right, an edit
stays within its section, and chunks that stand together come back together in a passage anyway.

Within a section the cuts are found from the text around them, not by counting from the top: of the places that leave
a chunk between half full and full, the best kind is taken, and of those the one whose following words have the
smallest checksum. Two versions of a section so agree again on where to cut soon after the place where they differ.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from bakeoff.records import Chunk, Document
from retrieval.borders import INSIDE, Border, find_borders, split_evenly
from retrieval.sections import PATH_SEPARATOR, Section, split_sections

CHUNKER_VERSION = 2
"""Goes up whenever the same document comes to be cut otherwise."""
MIN_TOKENS = 16
_MAX_CHARACTERS_PER_TOKEN = 16
_CHARACTERS_PER_CALL = 1_000_000

CountTokens = Callable[[Sequence[str]], list[int]]


def cut_chunks(document: Document, count_tokens: CountTokens, max_tokens: int) -> list[Chunk]:
    """Cut one document; see `cut_documents`."""
    return cut_documents([document], count_tokens, max_tokens)[0]


def cut_documents(documents: Sequence[Document], count_tokens: CountTokens, max_tokens: int) -> list[list[Chunk]]:
    """Cut documents into chunks of which `text_to_embed` has at most `max_tokens` tokens.

    A long table is cut between rows and each piece repeats the header, unless the header alone takes half the room; a
    single row that is too long is the one exception: it is split at cell borders, then between words. A code fence
    stays whole where it fits. A word is split only where it alone is too long. A title or heading that takes more than
    a quarter of the room is shortened in its chunks.

    Args:
        count_tokens: of the embedder, special tokens included; called once for all sections that are short, and a few
            times for each that is long.
        max_tokens: at least 16.

    Returns:
        The chunks of each document, in its order; together they hold every word of it. A text that repeats itself
        under the same heading is kept once.
    """
    if max_tokens < MIN_TOKENS:
        raise ValueError(f"max_tokens has to be at least {MIN_TOKENS}: {max_tokens}")
    whole = [[_make_chunk(document, section) for section in split_sections(document.text)] for document in documents]
    short = _count_short([chunk for chunks in whole for chunk in chunks], count_tokens, max_tokens)
    cut: list[list[Chunk]] = []
    for document, chunks in zip(documents, whole, strict=True):
        kept: dict[str, Chunk] = {}
        for chunk in chunks:
            pieces = [chunk] if next(short) <= max_tokens else _cut_long(document, chunk, count_tokens, max_tokens)
            for piece in pieces:
                kept.setdefault(piece.chunk_id, piece)
        cut.append(list(kept.values()))
    return cut


def text_to_embed(chunk: Chunk) -> str:
    """What the embedder reads: the title, the headings and the text, without saying the same thing twice."""
    title, heading = chunk.title, chunk.heading
    repeats = heading == title or heading.startswith(title + PATH_SEPARATOR) or chunk.text.startswith(title)
    return "\n".join(part for part in ("" if repeats else title, heading, chunk.text) if part)


def _count_short(chunks: Sequence[Chunk], count_tokens: CountTokens, max_tokens: int) -> Iterator[int]:
    """Tokens of each chunk; one that is surely too long is not counted but said to have one more than fit."""
    limit = max_tokens * _MAX_CHARACTERS_PER_TOKEN
    texts = [text_to_embed(chunk) for chunk in chunks]
    counts = iter(_count([text for text in texts if len(text) <= limit], count_tokens))
    return iter([next(counts) if len(text) <= limit else max_tokens + 1 for text in texts])


def _cut_long(document: Document, whole: Chunk, count_tokens: CountTokens, max_tokens: int) -> list[Chunk]:
    title = _shorten(whole.title, count_tokens, max_tokens // 4)
    heading = _shorten(whole.heading, count_tokens, max_tokens // 4)
    # the words that the heading lost still have to be found
    text = whole.text if heading == whole.heading else f"{whole.heading}\n\n{whole.text}"
    special, before = _count(["", f"{title}\n{heading}"], count_tokens)
    room = max_tokens - before
    while True:
        section = Section(heading, whole.page, text)
        chunks = [_make_chunk(document, section, title, part) for part in _cut_text(text, count_tokens, room, special)]
        longest = max(_count([text_to_embed(chunk) for chunk in chunks], count_tokens))
        if longest <= max_tokens or room <= 1:
            return chunks
        room = max(1, room - (longest - max_tokens))  # joined pieces can have more tokens than the pieces


def _cut_text(text: str, count_tokens: CountTokens, room: int, special: int) -> list[str]:
    """Cut a text into parts of about half `room` to `room` tokens, special tokens not counted."""
    borders, sizes = _fit_pieces(text, find_borders(text), count_tokens, room, special)
    leads = list({border.lead for border in borders if border.lead})
    lead_sizes = {"": 0} | dict(zip(leads, (n - special for n in _count(leads, count_tokens)), strict=True))
    parts: list[str] = []
    start = 0
    while start < len(borders):
        lead = borders[start].lead
        if lead_sizes[lead] > room // 2 or lead_sizes[lead] + sizes[start] > room:
            lead = ""
        after = _next_start(text, borders, sizes, start, room - lead_sizes[lead])
        stop = borders[after].start if after < len(borders) else len(text)
        if part := text[borders[start].start : stop].strip():
            parts.append(lead + part)
        start = after
    return parts


def _fit_pieces(
    text: str, borders: list[Border], count_tokens: CountTokens, room: int, special: int
) -> tuple[list[Border], list[int]]:
    """Add borders until what lies between two of them fits; return them with the tokens that follow each."""
    known: dict[str, int] = {}
    limit = (room + special) * _MAX_CHARACTERS_PER_TOKEN
    while True:
        spans = list(pairwise([*(border.start for border in borders), len(text)]))
        pieces = [text[start:end] for start, end in spans]
        new = list({piece for piece in pieces if piece not in known and len(piece) <= limit})
        known.update(zip(new, _count(new, count_tokens), strict=True))
        sizes = [known[piece] - special if len(piece) <= limit else len(piece) // 4 for piece in pieces]
        finer: list[Border] = []
        for border, (start, end), size in zip(borders, spans, sizes, strict=True):
            if size <= room and end - start <= limit:
                finer.append(border)
                continue
            cuts = split_evenly(text, start, end, 1 + int(size / (0.8 * room)))
            finer.append(Border(start, border.rank))
            finer.extend(Border(cut, INSIDE) for cut in cuts)
        if len(finer) == len(borders):
            return borders, sizes
        borders = finer


def _next_start(text: str, borders: list[Border], sizes: list[int], start: int, room: int) -> int:
    """Which border the chunk that begins at border `start` ends before."""
    used = sizes[start]
    after = start + 1
    candidates: list[int] = []
    while after < len(borders) and used + sizes[after] <= room:
        if used * 2 >= room:
            candidates.append(after)
        used += sizes[after]
        after += 1
    if after == len(borders):
        return after
    candidates.append(after)

    def prefer(candidate: int) -> tuple[int, int, int]:
        place = borders[candidate].start
        return -borders[candidate].rank, zlib.crc32(text[place : place + 40].encode()), -candidate

    return min(candidates, key=prefer)


def _shorten(words: str, count_tokens: CountTokens, max_tokens: int) -> str:
    while words and _count([words], count_tokens)[0] > max_tokens:
        inner = words.partition(PATH_SEPARATOR)[2]  # of a heading path the innermost says most
        words = inner or words[: len(words) * 3 // 4].rstrip()
    return words


def _count(texts: Sequence[str], count_tokens: CountTokens) -> list[int]:
    """Count in calls of bounded size: a tokenizer takes a hundred bytes and more for each token."""
    counts: list[int] = []
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size > _CHARACTERS_PER_CALL:
            counts += count_tokens(batch)
            batch, size = [], 0
    return counts + count_tokens(batch) if batch else counts


def _make_chunk(document: Document, section: Section, title: str | None = None, text: str | None = None) -> Chunk:
    text = section.text if text is None else text
    named = document.title if title is None else title
    digest = hashlib.sha256("\0".join((document.id, document.title, section.heading, text)).encode()).hexdigest()[:16]
    return Chunk(digest, document.id, named, text, section.heading, section.page)
