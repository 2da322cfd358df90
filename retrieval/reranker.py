"""An optional second look: a cross-encoder reads question and passage together and orders the best candidates anew."""

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

BATCH_SIZE = 16


class Reranker(Protocol):
    """Anything that scores passages for a question."""

    name: str
    """What tells it from others."""

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """One score a text, higher is better."""
        ...


def open_reranker(model_dir: Path | None) -> "CrossEncoderReranker | None":
    """The reranker of a folder, or none."""
    return None if model_dir is None else CrossEncoderReranker(model_dir)


class CrossEncoderReranker:
    """Any sentence-transformers CrossEncoder folder. Loaded on the first question; thread-safe."""

    def __init__(self, model_dir: Path) -> None:
        self._model_dir = model_dir
        self.name = model_dir.name
        self._lock = threading.Lock()

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import CrossEncoder

        return CrossEncoder(str(self._model_dir), device="cpu", local_files_only=True)

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """One score a text, higher is better; in the order of the texts."""
        pairs = [(question, text) for text in texts]
        with self._lock:
            scores = self._model.predict(pairs, batch_size=BATCH_SIZE, show_progress_bar=False)
        return [float(score) for score in scores]
