from collections.abc import Sequence

import numpy as np
import pytest
from sqlalchemy import Engine

from bakeoff.domains import find_domain
from bakeoff.errors import Mismatch, NotFound
from bakeoff.records import Document
from retrieval.embedder import SentenceTransformerEmbedder, Vectors
from retrieval.retriever import Retriever
from retrieval.store import BATCH_DOCUMENTS, add_documents, document_ids, list_documents, load_vectors, remove_documents


class HashEmbedder:
    """Eight dimensions from the words; counts what it embeds, and breaks after `limit` texts."""

    name = "hash"

    def __init__(self, limit: int = 10**9) -> None:
        self.num_texts = 0
        self.limit = limit

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.num_texts += len(texts)
        if self.num_texts > self.limit:
            raise OSError("stopped")
        vectors = np.array([[sum(map(ord, text)) % (7 + i) + 1.0 for i in range(8)] for text in texts], np.float32)
        normed: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return normed


def ignore(_done: int, _total: int, _note: str) -> None:
    return None


def test_adding_again_passes_over_what_has_not_changed(engine: Engine, corpus: list[Document]) -> None:
    embedder = HashEmbedder()
    first = add_documents(engine, "d", corpus, embedder, ignore)
    assert (first.added, first.replaced, first.unchanged, first.chunks) == (6, 0, 0, 6)
    changed = [*corpus[:5], Document("taxi", "Taxi", "There is no taxi.")]
    second = add_documents(engine, "d", changed, embedder, ignore)
    assert (second.added, second.replaced, second.unchanged) == (0, 1, 5)
    assert embedder.num_texts == 7
    assert second.epoch == first.epoch + 1


def test_an_interrupted_run_goes_on_where_it_stopped(engine: Engine) -> None:
    documents = [Document(f"d{number}", "", f"Text number {number}.") for number in range(2 * BATCH_DOCUMENTS)]
    with pytest.raises(OSError, match="stopped"):
        add_documents(engine, "d", documents, HashEmbedder(limit=BATCH_DOCUMENTS), ignore)
    embedder = HashEmbedder()
    counts = add_documents(engine, "d", documents, embedder, ignore)
    assert (counts.added, counts.unchanged) == (BATCH_DOCUMENTS, BATCH_DOCUMENTS)
    assert embedder.num_texts == BATCH_DOCUMENTS


def test_another_embedder_embeds_everything_anew(engine: Engine, corpus: list[Document]) -> None:
    add_documents(engine, "d", corpus, HashEmbedder(), ignore)
    other = HashEmbedder()
    other.name = "other"
    assert add_documents(engine, "d", corpus, other, ignore).replaced == 6
    with engine.connect() as connection:
        assert load_vectors(connection, "d", "hash")[0] == []
        assert load_vectors(connection, "d", "other")[1].shape == (6, 8)
    with pytest.raises(Mismatch, match="embedded by other, not by hash"):
        Retriever(engine, HashEmbedder()).search("d", "Anything?", 5)


def test_removing_is_all_or_none(engine: Engine, corpus: list[Document]) -> None:
    add_documents(engine, "d", corpus, HashEmbedder(), ignore)
    with pytest.raises(NotFound, match="no document gone; nothing was removed"):
        remove_documents(engine, "d", ["taxi", "gone"])
    with engine.connect() as connection:
        assert "taxi" in document_ids(connection, "d")
    remove_documents(engine, "d", ["taxi"])
    with engine.connect() as connection:
        assert [row.id for row in list_documents(connection, "d")] == ["breakfast", "parking", "pets", "pool", "wifi"]


def test_passages_are_ordered_by_score_and_follow_every_change(
    engine: Engine, corpus: list[Document], embedder: SentenceTransformerEmbedder
) -> None:
    add_documents(engine, "d", corpus, embedder, ignore)
    retriever = Retriever(engine, embedder)
    result = retriever.search("d", "May I bring my dog?", top_k=4)
    assert result.passages[0].document_id == "pets"
    assert [passage.rank for passage in result.passages] == [1, 2, 3, 4]
    scores = [passage.score for passage in result.passages]
    assert scores == sorted(scores, reverse=True)
    remove_documents(engine, "d", ["pets"])
    after = retriever.search("d", "May I bring my dog?", top_k=10)
    assert "pets" not in {passage.document_id for passage in after.passages}
    assert len(after.passages) == 5
    with engine.connect() as connection:
        assert after.epoch == find_domain(connection, "d").epoch == result.epoch + 1


def test_an_empty_domain_has_no_passages_and_a_missing_one_is_named(
    engine: Engine, corpus: list[Document], embedder: SentenceTransformerEmbedder
) -> None:
    add_documents(engine, "d", corpus, embedder, ignore)
    remove_documents(engine, "d", [document.id for document in corpus])
    retriever = Retriever(engine, embedder)
    assert retriever.search("d", "Anything?", top_k=5).passages == ()
    with pytest.raises(NotFound, match="bakeoff documents add"):
        retriever.search("other", "Anything?", top_k=5)
