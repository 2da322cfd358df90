"""Text -> terms: lower-case words, stemmed, each as a 32-bit hash with its count, packed into a few hundred bytes.

The packed terms are stored with each chunk, so that a lexical index is rebuilt by sorting numbers, without reading the
texts again. Two different words share a hash once in four billion pairs, which moves no ranking anyone could notice.
"""

import re
import threading
import zlib
from collections import Counter

import numpy as np
import Stemmer
from numpy.typing import NDArray

TERMS_VERSION = 1
"""Raise it when the same text gives other terms: the chunks are then indexed anew."""
_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by can could do does for from had has have how i if in into is it its me my of on "
        "or our please so some than that the their them then there these they this to was we were what when where "
        "which who why will with would you your"
    )
)
_MAX_COUNT = 2**16 - 1
_per_thread = threading.local()


def extract_terms(text: str) -> dict[str, int]:
    """Return the terms of a text with their counts; stop words are left out unless nothing else is there."""
    words = _WORD.findall(text.lower())
    kept = [word for word in words if word not in _STOP_WORDS] or words
    stemmer = getattr(_per_thread, "stemmer", None)
    if stemmer is None:
        stemmer = _per_thread.stemmer = Stemmer.Stemmer("english")  # Porter 2; not thread-safe
    return Counter(stemmer.stemWords(kept))


def hash_term(term: str) -> int:
    """Hash of a term, 32 bits."""
    return zlib.crc32(term.encode())


def pack_terms(text: str) -> bytes:
    """Pack the terms of a text: their hashes, ascending, as uint32, then their counts as uint16."""
    counts: dict[int, int] = {}
    for term, count in extract_terms(text).items():
        key = hash_term(term)
        counts[key] = min(counts.get(key, 0) + count, _MAX_COUNT)
    keys = sorted(counts)
    return np.array(keys, "<u4").tobytes() + np.array([counts[key] for key in keys], "<u2").tobytes()


def unpack_terms(blob: bytes) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Reverse `pack_terms`: (n,) hashes and (n,) counts."""
    num_terms = len(blob) // 6
    return np.frombuffer(blob, "<u4", num_terms), np.frombuffer(blob, "<u2", num_terms, 4 * num_terms)
