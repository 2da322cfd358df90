"""What the routes of vector stores stand on, and the rules that several of them share."""

import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from litestar import Request
from msgspec import Struct
from sqlalchemy import Connection, Engine

from bakeoff.database import writing
from bakeoff.domains import ensure_domain, list_domains
from bakeoff.errors import BadInput
from retrieval.embedder import Embedder
from retrieval.retriever import Retriever
from service.callers import Caller
from service.openai.files.records import find_file, find_files
from service.openai.unsupported import refuse
from service.openai.vector_stores.orders import fail_abandoned, has_abandoned
from service.openai.vector_stores.records import Store, count_entries, find_store
from service.openai.vector_stores.schemas import Chunking, StaticChunking, VectorStore, to_store

MAX_SLUG = 48


class Shelf(Struct, frozen=True):
    """What holds the stores."""

    engine: Engine
    home: Path
    retriever: Retriever
    embedder: Embedder

    @property
    def chunk_sizes(self) -> dict[str, int]:
        """Of this service's chunks, in tokens; empty where OpenAI has no words for them."""
        window = self.embedder.max_tokens
        return {"max_chunk_size_tokens": window, "chunk_overlap_tokens": 0} if 100 <= window <= 4096 else {}


def describe(connection: Connection, stores: Sequence[Store]) -> list[VectorStore]:
    """The stores as clients see them."""
    counts = count_entries(connection, [store.id for store in stores])
    return [to_store(store, counts[store.id]) for store in stores]


def find_settled(engine: Engine, store_id: str, caller: Caller) -> Store:
    """The store, once files whose job is gone were given up.

    Raises:
        NotFound: there is none, or it belongs to another key.
    """
    with engine.connect() as connection:
        store = find_store(connection, store_id, caller)
        is_abandoned = has_abandoned(connection, store)
    if is_abandoned:
        with writing(engine) as connection:
            fail_abandoned(connection, store)
    return store


def check_files(connection: Connection, ids: Iterable[str], caller: Caller, param: str) -> None:
    """See that every file is there and the caller's.

    Raises:
        NotFound: names the first that is not.
    """
    wanted = list(dict.fromkeys(ids))
    found = find_files(connection, wanted)
    for file_id in wanted:
        if file_id not in found or caller.key_id not in ("", found[file_id].owner):
            find_file(connection, file_id, caller, param)


def check_chunking(request: Request[Any, Any, Any], shelf: Shelf, given: Chunking | None) -> dict[str, int]:
    """The sizes of chunks, where the request asks for those that this service makes.

    Raises:
        BadInput: it asks for others.
    """
    ours = shelf.chunk_sizes
    if isinstance(given, StaticChunking):
        wanted = given.static
        sizes = (wanted.max_chunk_size_tokens, wanted.chunk_overlap_tokens)
        if sizes != tuple(ours.values()):
            is_size = not ours or sizes[0] != ours["max_chunk_size_tokens"]
            name = "max_chunk_size_tokens" if is_size else "chunk_overlap_tokens"
            refuse(
                request,
                [f"chunking_strategy.static.{name}"],
                f"but as this service cuts: by structure, {self_description(ours)}; leave chunking_strategy out",
            )
    return ours


def self_description(sizes: dict[str, int]) -> str:
    """The sizes in words."""
    if not sizes:
        return "to the embedder's window"
    return f"at most {sizes['max_chunk_size_tokens']} tokens, overlap {sizes['chunk_overlap_tokens']}"


def choose_domain(connection: Connection, name: str, wanted: str | None) -> tuple[str, bool]:
    """The domain of a new store, and whether it was made for it.

    Args:
        name: of the store; a new domain is called like it.
        wanted: an existing domain that the store is to be a view of.

    Raises:
        BadInput: there is no such domain.
    """
    taken = {domain.name for domain in list_domains(connection)}
    if wanted is not None:
        if wanted not in taken:
            raise BadInput(
                f"metadata.domain: domain {wanted[:64]!r} does not exist; leave it out, and one is made",
                param="metadata.domain",
            )
        return wanted, False
    slug = re.sub(r"[^a-z0-9_]+", "-", name.lower())[:MAX_SLUG].strip("-")
    domain = slug or f"vs-{secrets.token_hex(6)}"
    number = 1
    while domain in taken:
        number += 1
        domain = f"{slug}-{number}" if slug else f"vs-{secrets.token_hex(6)}"
    return ensure_domain(connection, domain).name, True


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
