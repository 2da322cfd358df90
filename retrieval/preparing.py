"""Documents -> chunks with vectors and terms, ready to be written; known chunks are not embedded again."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Engine, select

from bakeoff.database import in_parts
from bakeoff.records import Chunk, Document
from retrieval.chunking import CHUNKER_VERSION, cut_documents, text_to_embed
from retrieval.embedder import Embedder
from retrieval.index.terms import TERMS_VERSION, pack_terms
from retrieval.normalise import fold_text
from retrieval.tables import chunks_table


class PreparedChunk(Struct, frozen=True):
    """A chunk as it is written, but for its place in the domain."""

    chunk: Chunk
    vector: bytes
    terms: bytes


def recipe_of(embedder: Embedder) -> str:
    """What the chunks of a document depend on beside its text."""
    return f"{embedder.name}, chunker {CHUNKER_VERSION}, terms {TERMS_VERSION}"


def prepare_chunks(
    engine: Engine, domain: str, documents: Sequence[Document], embedder: Embedder
) -> tuple[list[list[PreparedChunk]], int]:
    """Cut documents, and embed the chunks that no vector is known of.

    Returns:
        The chunks of each document, and how many had to be embedded.
    """
    if not documents:
        return [], 0
    cut = cut_documents(documents, embedder.count_tokens, embedder.max_tokens)
    chunks = {chunk.chunk_id: chunk for of_document in cut for chunk in of_document}
    vectors: dict[str, bytes] = {}
    table = chunks_table.c
    with engine.connect() as connection:
        for part in in_parts(list(chunks)):
            query = select(table.chunk_id, table.vector).where(
                table.domain == domain, table.chunk_id.in_(part), table.embedder == embedder.name
            )
            vectors.update((chunk_id, vector) for chunk_id, vector in connection.execute(query))
    missing = [chunk for chunk_id, chunk in chunks.items() if chunk_id not in vectors]
    texts = {chunk_id: fold_text(text_to_embed(chunk)) for chunk_id, chunk in chunks.items()}
    if missing:
        embedded = embedder.embed([texts[chunk.chunk_id] for chunk in missing])
        vectors |= {chunk.chunk_id: vector.tobytes() for chunk, vector in zip(missing, embedded, strict=True)}
    ready = {
        chunk_id: PreparedChunk(chunk, vectors[chunk_id], pack_terms(texts[chunk_id]))
        for chunk_id, chunk in chunks.items()
    }
    return [[ready[chunk.chunk_id] for chunk in of_document] for of_document in cut], len(missing)
