"""Texts -> unit vectors, with a sentence-transformers model from a local folder."""

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BATCH_SIZE = 32

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Anything that turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """Recorded with every vector: vectors of another embedder are never compared with these."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest text it reads whole, in tokens, special tokens included."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has for this embedder, special tokens included."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) float32, unit length, in the order of the texts."""
        ...


class SentenceTransformerEmbedder:
    """The model is loaded on the first text, so that commands which embed nothing stay quick. Thread-safe."""

    def __init__(self, model_dir: Path, name: str) -> None:
        self._model_dir = model_dir
        self.name = name
        self._lock = threading.Lock()

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(self._model_dir), device="cpu", local_files_only=True)

    @property
    def max_tokens(self) -> int:
        """Longest text it reads whole, in tokens, special tokens included."""
        return int(self._model.max_seq_length)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special tokens included."""
        if not texts:
            return []
        ids = self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return [len(row) for row in ids]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) float32, unit length, in the order of the texts."""
        with self._lock:
            vectors: Vectors = self._model.encode(
                list(texts), batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False
            )
        return vectors.astype(np.float32)
