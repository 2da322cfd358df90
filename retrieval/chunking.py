"""Document -> chunks of whole sentences that fit the embedder's window, with ids that are hashes of their content."""

import hashlib
import re
from collections.abc import Iterator

from bakeoff.records import Chunk, Document

MAX_WORDS = 160
"""About 210 tokens of English, under the 256 that all-MiniLM-L6-v2 was trained to read."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[]?[A-Z0-9])|\n\s*\n")


def cut_chunks(document: Document, max_words: int = MAX_WORDS) -> list[Chunk]:
    """Cut a document into chunks of at most `max_words` words, at sentence ends where there are any.

    Returns:
        Chunks in the document's order; together they hold every word of it. A text that repeats itself within the
        document is kept once.
    """
    texts: list[list[str]] = [[]]
    for sentence in _sentences(document.text, max_words):
        if texts[-1] and sum(len(part.split()) for part in texts[-1]) + len(sentence.split()) > max_words:
            texts.append([])
        texts[-1].append(sentence)
    chunks = [_make_chunk(document, " ".join(parts)) for parts in texts if parts]
    return list({chunk.chunk_id: chunk for chunk in chunks}.values())


def text_to_embed(chunk: Chunk) -> str:
    """What the embedder reads: the title, unless the text begins with it, and the text."""
    if not chunk.title or chunk.text.startswith(chunk.title):
        return chunk.text
    return f"{chunk.title}\n{chunk.text}"


def _sentences(text: str, max_words: int) -> Iterator[str]:
    for sentence in _SENTENCE_END.split(text):
        words = sentence.split()
        for start in range(0, len(words), max_words):
            yield " ".join(words[start : start + max_words])


def _make_chunk(document: Document, text: str) -> Chunk:
    digest = hashlib.sha256("\0".join((document.id, document.title, text)).encode()).hexdigest()[:16]
    return Chunk(digest, document.id, document.title, text)
