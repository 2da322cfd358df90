"""A domain of any size, written straight into the tables: real sentences in a new order, real vectors with noise.

Embedding a hundred thousand chunks would take most of the run and change nothing about the time a search takes.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, insert

from bakeoff.artefacts import digest_of
from bakeoff.database import open_database, writing
from bakeoff.domains import ensure_domain
from benchmarks.retrieval.index import NOISE
from benchmarks.retrieval.sets import DOMAIN, Set, grow, load_vectors
from retrieval.history import begin_epoch
from retrieval.index.terms import pack_terms
from retrieval.permissions import write_groups
from retrieval.tables import ALIVE, EVERYONE, chunks_table, documents_table

CHUNKS_A_DOCUMENT = 5
FEW = "few"
"""A group that sees one document in a hundred."""
_PART = 500


def make_domain(sets: Sequence[Set], num_chunks: int, home: Path, embedder: str, seed: int) -> Engine:
    """Write a domain of so many chunks into a new database."""
    engine = open_database(f"sqlite:///{home}/bakeoff.db", home)
    with writing(engine) as connection:
        if ensure_domain(connection, DOMAIN).epoch:
            return engine
    random = np.random.default_rng(seed)
    texts = [document.text for each in sets for document in each.documents]
    vectors = grow(np.concatenate([load_vectors(each) for each in sets]), num_chunks, NOISE, seed)
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=[.!?])\s+", text) if sentence]
    num_documents = -(-num_chunks // CHUNKS_A_DOCUMENT)
    names = [f"made-{number:07d}" for number in range(num_documents)]
    with writing(engine) as connection:
        epoch = begin_epoch(connection, DOMAIN, "add", num_documents)
        life = {"domain": DOMAIN, "born": epoch, "died": ALIVE}
        for part in _parts(range(num_documents)):
            documents = [
                {"id": names[number], "title": names[number], "text": "made", "source": "", "origin": "", "recipe": ""}
                for number in part
            ]
            connection.execute(insert(documents_table), [life | document for document in documents])
            chunks = [
                _make_chunk(names[number], position, sentences, random) | {"vector": vectors[row].tobytes()}
                for number in part
                for position in range(CHUNKS_A_DOCUMENT)
                if (row := number * CHUNKS_A_DOCUMENT + position) < num_chunks
            ]
            connection.execute(insert(chunks_table), [life | {"embedder": embedder} | chunk for chunk in chunks])
            groups = {names[number]: (EVERYONE, FEW) if number % 100 == 0 else (EVERYONE,) for number in part}
            write_groups(connection, DOMAIN, groups)
    return engine


def _make_chunk(name: str, position: int, sentences: list[str], random: np.random.Generator) -> dict[str, Any]:
    text = " ".join(sentences[at] for at in random.integers(0, len(sentences), 6).tolist())[:900]
    digest = digest_of([name, position])
    return {
        "chunk_id": digest,
        "document_id": name,
        "position": position,
        "title": name,
        "heading": "",
        "page": None,
        "text": text,
        "terms": pack_terms(text),
    }


def _parts(numbers: range) -> Iterator[range]:
    return (numbers[start : start + _PART] for start in range(0, len(numbers), _PART))
