from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder, ignore, write_texts
from sqlalchemy import Engine, select

from bakeoff.domains import find_domain
from bakeoff.errors import BadInput, Mismatch, NotFound
from bakeoff.records import Document
from retrieval.catalogue import document_ids, find_document, list_documents
from retrieval.embedder import Vectors
from retrieval.history import purge_documents
from retrieval.permissions import change_grants
from retrieval.retriever import Retriever
from retrieval.store import BATCH_DOCUMENTS, add_documents, reindex_documents, remove_documents
from retrieval.tables import ALIVE, EVERYONE, chunks_table

THREE_SECTIONS = "# One\nfirst words\n\n# Two\nsecond words\n\n# Three\nthird words"


def groups_of(engine: Engine, document_id: str) -> tuple[str, ...]:
    with engine.connect() as connection:
        return next(row.groups for row in list_documents(connection, "d") if row.id == document_id)


def test_adding_again_passes_over_what_has_not_changed(engine: Engine, corpus: list[Document]) -> None:
    embedder = HashEmbedder()
    first = add_documents(engine, "d", corpus, embedder, ignore)
    assert (first.added, first.replaced, first.unchanged, first.chunks) == (6, 0, 0, 6)
    changed = [*corpus[:5], Document("taxi", "Taxi", "There is no taxi.")]
    second = add_documents(engine, "d", changed, embedder, ignore)
    assert (second.added, second.replaced, second.unchanged) == (0, 1, 5)
    assert embedder.num_texts == 7
    assert second.epoch == first.epoch + 1
    assert add_documents(engine, "d", changed, embedder, ignore).epoch == second.epoch


def test_an_edit_embeds_only_the_section_that_it_changed(engine: Engine) -> None:
    embedder = HashEmbedder()
    assert write_texts(engine, "d", {"a": THREE_SECTIONS}, embedder=embedder).embedded == 3
    edited = THREE_SECTIONS.replace("second", "other")
    assert write_texts(engine, "d", {"a": edited}, embedder=embedder).embedded == 1
    moved = "# New\nnew words\n\n" + edited
    assert write_texts(engine, "d", {"a": moved}, embedder=embedder).embedded == 1
    assert write_texts(engine, "d", {"a": THREE_SECTIONS}, embedder=embedder).embedded == 0  # known from before
    assert embedder.num_texts == 5
    with engine.connect() as connection:
        _, chunks = find_document(connection, "d", "a", {EVERYONE})
    assert [chunk.text for chunk in chunks] == ["first words", "second words", "third words"]


def test_a_section_that_stays_where_it_is_is_not_written_again(engine: Engine) -> None:
    write_texts(engine, "d", {"a": THREE_SECTIONS})
    write_texts(engine, "d", {"a": THREE_SECTIONS.replace("third", "last")})
    table = chunks_table.c
    with engine.connect() as connection:
        rows = connection.execute(select(table.text, table.born, table.died).order_by(table.key)).all()
    assert [tuple(row) for row in rows] == [
        ("first words", 1, ALIVE),
        ("second words", 1, ALIVE),
        ("third words", 1, 2),
        ("last words", 2, ALIVE),
    ]


def test_an_interrupted_run_goes_on_where_it_stopped(engine: Engine) -> None:
    documents = [Document(f"d{number}", "", f"Text number {number}.") for number in range(2 * BATCH_DOCUMENTS)]
    with pytest.raises(OSError, match="stopped"):
        add_documents(engine, "d", documents, HashEmbedder(limit=BATCH_DOCUMENTS), ignore)
    embedder = HashEmbedder()
    counts = add_documents(engine, "d", documents, embedder, ignore)
    assert (counts.added, counts.unchanged) == (BATCH_DOCUMENTS, BATCH_DOCUMENTS)
    assert embedder.num_texts == BATCH_DOCUMENTS


def test_documents_of_another_embedder_are_refused_until_they_are_indexed_anew(
    engine: Engine, corpus: list[Document], tmp_path: Path
) -> None:
    add_documents(engine, "d", corpus, HashEmbedder(), ignore)
    other = HashEmbedder("other", dim=8)
    retriever = Retriever(engine, other, tmp_path)
    with pytest.raises(Mismatch, match="embedded by hash, not by other"):
        retriever.search("d", "taxi")
    assert reindex_documents(engine, "d", other, ignore).replaced == 6
    assert retriever.search("d", "taxi").passages[0].document_id == "taxi"
    with pytest.raises(Mismatch, match="embedded by other, not by hash"):
        Retriever(engine, HashEmbedder(), tmp_path).search("d", "taxi")
    assert reindex_documents(engine, "d", other, ignore).replaced == 0


class Interrupting(HashEmbedder):
    """Something else happens while it embeds."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__("other")
        self._action = action

    def embed(self, texts: Sequence[str]) -> Vectors:
        self._action()
        return super().embed(texts)


def test_what_changes_while_documents_are_indexed_anew_stays_changed(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {name: f"text of {name}" for name in ("edited", "removed", "purged", "kept")})

    def change() -> None:
        write_texts(engine, "d", {"edited": "new words"})
        remove_documents(engine, "d", ["removed"])
        purge_documents(engine, "d", ["purged"], tmp_path / "none")

    counts = reindex_documents(engine, "d", Interrupting(change), ignore)
    assert counts.replaced == 1
    with engine.connect() as connection:
        assert document_ids(connection, "d") == {"edited", "kept"}
        assert find_document(connection, "d", "edited", {EVERYONE})[0].text == "new words"


def test_removing_is_all_or_none(engine: Engine, corpus: list[Document]) -> None:
    add_documents(engine, "d", corpus, HashEmbedder(), ignore)
    with pytest.raises(NotFound, match="no document gone; nothing was removed"):
        remove_documents(engine, "d", ["taxi", "gone"])
    with engine.connect() as connection:
        assert "taxi" in document_ids(connection, "d")
    remove_documents(engine, "d", ["taxi"])
    with engine.connect() as connection:
        assert [row.id for row in list_documents(connection, "d")] == ["breakfast", "parking", "pets", "pool", "wifi"]
    with pytest.raises(NotFound, match="nothing was removed"):
        remove_documents(engine, "d", ["taxi"])


def test_a_document_keeps_its_groups_when_it_is_edited_or_removed_and_added_again(engine: Engine) -> None:
    write_texts(engine, "d", {"a": "one", "b": "two"}, groups={"a": ["board"]})
    write_texts(engine, "d", {"a": "edited"})
    assert (groups_of(engine, "a"), groups_of(engine, "b")) == (("board",), (EVERYONE,))
    remove_documents(engine, "d", ["a"])
    write_texts(engine, "d", {"a": "again"})
    assert groups_of(engine, "a") == ("board",)
    change_grants(engine, "d", ["a"], revoke=["board"])
    remove_documents(engine, "d", ["a"])
    write_texts(engine, "d", {"a": "once more"})
    assert groups_of(engine, "a") == ()
    write_texts(engine, "d", {"a": "once more"}, groups={"a": ["staff"]})
    assert groups_of(engine, "a") == ("staff",)


def test_a_document_added_for_nobody_stays_so_when_it_is_edited(engine: Engine) -> None:
    write_texts(engine, "d", {"a": "one"}, groups={"a": []})
    write_texts(engine, "d", {"a": "edited"})
    assert groups_of(engine, "a") == ()


def test_a_group_that_cannot_be_stops_before_anything_is_written(engine: Engine) -> None:
    with pytest.raises(BadInput, match="is not a name"):
        write_texts(engine, "d", {"a": "one"}, groups={"a": ["no spaces"]})
    with engine.connect() as connection, pytest.raises(NotFound):
        find_domain(connection, "d")
