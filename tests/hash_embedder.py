"""A fast embedder without a model, and a short way to fill a domain with it.

Vectors are hashed bags of words whose numbers are multiples of 1/512: sums of their products are exact in float32 (and
the numbers themselves in float16), so that two ways to compute a cosine agree to the last bit and ties are real ties.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from sqlalchemy import Engine

from bakeoff.records import Document
from retrieval.embedder import Vectors
from retrieval.store import AddCounts, add_documents

_WORD = re.compile(r"\w+")


class HashEmbedder:
    """Implements `Embedder`; counts the texts it embeds, and breaks after `limit` of them."""

    def __init__(self, name: str = "hash", *, dim: int = 16, max_tokens: int = 64, limit: int = 10**9) -> None:
        self.name = name
        self.max_tokens = max_tokens
        self.num_texts = 0
        self._dim = dim
        self._limit = limit

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.num_texts += len(texts)
        if self.num_texts > self._limit:
            raise OSError("stopped")
        vectors = np.zeros((len(texts), self._dim), np.float32)
        for row, text in enumerate(texts):
            words = _WORD.findall(text.lower()) or ["nothing"]
            total = np.sum([_draw(word, self._dim) for word in words], axis=0)
            vectors[row] = np.round(512 * total / np.linalg.norm(total)) / 512
        return vectors


@cache
def _draw(word: str, dim: int) -> Vectors:
    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(dim).astype(np.float32)


def ignore(_done: int, _total: int, _note: str) -> None:
    """Progress that nobody reads."""


def write_texts(
    engine: Engine,
    domain: str,
    texts: Mapping[str, str],
    groups: Mapping[str, Sequence[str]] | None = None,
    embedder: HashEmbedder | None = None,
) -> AddCounts:
    """Add documents by id and text."""
    documents = [Document(name, "", text) for name, text in texts.items()]
    return add_documents(engine, domain, documents, embedder or HashEmbedder(), ignore, groups)
