"""Settings from the environment, read once at the edge; inner functions take plain values.

Every variable is `BAKEOFF_<FIELD>`. An unknown one, or a value that does not parse, stops at start-up and is named.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from bakeoff.errors import BadInput

CHECKOUT = Path(__file__).resolve().parent.parent


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where things live and how the service behaves."""

    home: Path = Path(".bakeoff")
    """State: database, adapters, indexes, runs."""
    models: Path = CHECKOUT / "models"
    """Prepared models (`bakeoff models prepare`)."""
    model: str = "smollm2-135m-instruct"
    """Base model: the shipped one by this name, or a local path, or a Hugging Face id."""
    embedder: str = "all-minilm-l6-v2"
    """Embedder: the shipped one by this name, or a local path, or a Hugging Face id."""
    database_url: str = ""
    """Any SQLAlchemy URL. Empty: SQLite in `home`."""
    top_k: int = 5
    """Passages put before the model in `rag` and `hybrid`."""
    passage_tokens: int = 1500
    """Longest that the passages of one question may be together, in the embedder's tokens; 0 for no limit."""
    reranker: str = ""
    """A sentence-transformers CrossEncoder that orders the best passages anew: a local path or a Hugging Face id."""
    abstention: str = "I don't know: the documents I may read do not say."
    """What `rag` and `hybrid` answer where the evidence is too weak, in a domain that was tuned."""
    num_shots: int = 5
    """Training examples put before the question in `few-shot`."""
    max_tokens: int = 256
    """Longest completion where the request names none."""
    engine_precision: Literal["float32", "int8"] = "float32"
    """Of the embedded engine: float32 answers as PEFT does, token by token; int8 is twice as fast, and only close."""
    engine_threads: int = 0
    """CPU threads of the embedded engine; 0 takes every core."""
    engine_cache_mib: int = 512
    """Key/value cache of each set of weights the embedded engine serves, in MiB."""
    engine_adapters: int = 4
    """Adapters the embedded engine keeps in memory; the least recently used one makes room."""

    @property
    def url(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'bakeoff.db'}"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Parse the `BAKEOFF_*` variables.

    Raises:
        BadInput: unknown variable or bad value, by name.
    """
    given = {key[8:].lower(): value for key, value in environ.items() if key.startswith("BAKEOFF_")}
    known = {field.name for field in msgspec.structs.fields(Settings)}
    for key in sorted(given.keys() - known):
        names = ", ".join(f"BAKEOFF_{name.upper()}" for name in sorted(known))
        raise BadInput(f"BAKEOFF_{key.upper()} is not a setting. Known: {names}")
    try:
        return msgspec.convert(given, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise BadInput(f"a BAKEOFF_* setting does not parse: {error}") from error


def _decode(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value)).expanduser()
    raise TypeError(f"no setting is of type {kind}")
