"""Texts -> unit vectors, by a sentence-transformers model from a local folder.

The default, `OpenVinoEmbedder`, runs the model's own weights as an OpenVINO graph, in bf16 where the CPU has it: about
four times as many texts per second as sentence-transformers, and as good a ranking (decision 0007). Its vectors differ
in the last digits, so its name carries the precision. `open_embedder` chooses; other models run as they are.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.encoder import Precision, compile_graph, find_precision, pad_rows, prepare_graph
from retrieval.recipe import Unsupported, open_tokenizer, read_recipe

logger = logging.getLogger(__name__)

BATCH_TOKENS = 1024
"""Tokens of one inference. Larger ones are hardly faster, and a question waits for the one that is running."""
LENGTH_STEP = 16
"""Texts are padded to a multiple of this, whatever else is in the call: so a text has one vector, bit for bit."""
SENTENCE_TRANSFORMERS_BATCH = 32

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


def open_embedder(model_dir: Path, name: str, cache_dir: Path) -> Embedder:
    """Open the fastest embedder that gives this model's ranking.

    The first time, the model is converted, which takes some ten seconds; later it takes the time to hash its files.

    Args:
        model_dir: sentence-transformers folder.
        name: of the model; the fast path appends the precision it computes in.
        cache_dir: holds the converted models.

    Returns:
        an `OpenVinoEmbedder`, or, logged as a warning with the reason, a `SentenceTransformerEmbedder`.
    """
    try:
        return OpenVinoEmbedder(model_dir, name, cache_dir)
    except Unsupported as error:
        logger.warning("%s is embedded by sentence-transformers, several times slower: %s", name, error)
        return SentenceTransformerEmbedder(model_dir, name)


class OpenVinoEmbedder:
    """Converts the model if need be; compiles it on the first text. Thread-safe.

    Raises:
        Unsupported: the model is of a kind that cannot be converted, or the conversion failed.
    """

    def __init__(self, model_dir: Path, name: str, cache_dir: Path) -> None:
        self._model_name = name
        self._recipe = read_recipe(model_dir)
        self._graph = prepare_graph(model_dir, self._recipe, cache_dir)
        self._lock = threading.Lock()
        self._compiled: Any = None

    @property
    def name(self) -> str:
        """Name of the model and the precision it computes in, as in all-minilm-l6-v2/bf16."""
        return f"{self._model_name}/{self._precision}"

    @property
    def max_tokens(self) -> int:
        """Longest text it reads whole, in tokens, special tokens included."""
        return self._recipe.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special tokens included."""
        return [len(encoding.ids) for encoding in self._counter.encode_batch_fast(list(texts))]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) float32, unit length, in the order of the texts."""
        vectors: Vectors = np.empty((len(texts), self._recipe.dim), np.float32)
        if not texts:
            return vectors
        rows = [encoding.ids for encoding in self._reader.encode_batch_fast(list(texts))]
        request = self._compile().create_infer_request()
        for length, positions in _plan_batches([len(row) for row in rows], self._recipe.max_tokens):
            batch = pad_rows([rows[position] for position in positions], length, self._recipe.pad_id)
            vectors[positions] = request.infer(batch)[0]
        return vectors

    @cached_property
    def _precision(self) -> Precision:
        return find_precision()

    @cached_property
    def _counter(self) -> Any:
        return open_tokenizer(self._recipe, truncates=False)

    @cached_property
    def _reader(self) -> Any:
        return open_tokenizer(self._recipe, truncates=True)

    def _compile(self) -> Any:
        with self._lock:
            if self._compiled is None:
                self._compiled = compile_graph(self._graph, self._precision)
            return self._compiled


class SentenceTransformerEmbedder:
    """Any sentence-transformers model, as it is. Loaded on the first text. Thread-safe."""

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
                list(texts), batch_size=SENTENCE_TRANSFORMERS_BATCH, normalize_embeddings=True, show_progress_bar=False
            )
        return vectors.astype(np.float32)


def _plan_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[tuple[int, list[int]]]:
    """Yield (padded length, positions of texts); the padded length of a text follows from the text alone."""
    by_length: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        padded = min(-(-length // LENGTH_STEP) * LENGTH_STEP, max_tokens)
        by_length.setdefault(padded, []).append(position)
    for padded, positions in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // padded)
        for start in range(0, len(positions), size):
            yield padded, positions[start : start + size]
