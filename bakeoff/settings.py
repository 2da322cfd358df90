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
    max_body_mib: int = 4
    """Largest body of a request, in MiB, where the route has no limit of its own."""
    max_file_mib: int = 512
    """Largest file that clients may upload, in MiB."""
    max_messages: int = 512
    """Most messages of one conversation."""
    max_message_chars: int = 200_000
    """Longest text of one message, in characters."""
    answer_timeout_s: float = 600
    """Longest that one answer may take, in seconds; 0 for no limit."""
    max_running: int = 0
    """Questions answered at once; 0 takes what suits the engine. Others wait in line."""
    max_waiting: int = 256
    """Questions that may wait; beyond, 429 with Retry-After."""
    open_metrics: bool = False
    """Whether /metrics and the OpenAPI document are shown without a key where others need one that manages."""
    api_key: str = ""
    """Sent to a service by the commands that ask one (`bakeoff ask --url`, `eval --url`)."""
    engine_precision: Literal["float32", "int8"] = "float32"
    """Of the embedded engine: float32 answers as PEFT does, token by token; int8 is twice as fast, and only close."""
    engine_threads: int = 0
    """CPU threads of the embedded engine; 0 takes every core."""
    engine_cache_mib: int = 512
    """Key/value cache of each set of weights the embedded engine serves, in MiB."""
    engine_adapters: int = 4
    """Adapters the embedded engine keeps in memory; the least recently used one makes room."""
    vllm_urls: str = ""
    """Addresses of vLLM servers, comma separated: they serve instead of the embedded engine. Private networks only."""
    vllm_api_key: str = ""
    """Key of the vLLM servers, where they ask for one."""
    vllm_adapters: str = ""
    """The home's folder of adapters as the vLLM servers see it; empty: at the same path as here."""
    vllm_start_s: float = 300.0
    """Longest wait for the first vLLM server when the service starts, seconds."""
    vllm_connect_s: float = 2.0
    """Longest wait for a connection to a vLLM server, seconds."""
    vllm_read_s: float = 120.0
    """Longest that a vLLM server may say nothing while it answers, seconds."""
    vllm_failures: int = 3
    """Failures in a row after which a vLLM server is left alone for a while."""
    vllm_pause_s: float = 5.0
    """How long it is left alone before it is tried again, seconds."""
    vllm_tolerance: float = 0.15
    """Mean difference of log-probabilities from PEFT in float32 that a vLLM server may have, nats a token: 0.15 suits
    bfloat16, 0.01 float32."""
    heavy_jobs: int = 1
    """Trainings and evaluations that run at a time on a machine; the others wait."""
    model_aliases: str = ""
    """Other names for models: `gpt-4o-mini=concierge/hybrid,text-embedding-3-small=all-minilm-l6-v2`."""
    keepalive_s: float = 10.0
    """A stream that says nothing for so long sends a comment, so that no proxy cuts it; seconds."""

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
