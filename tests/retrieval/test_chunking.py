from hypothesis import given
from hypothesis import strategies as st

from bakeoff.records import Chunk, Document
from retrieval.chunking import cut_chunks, text_to_embed


def test_a_short_document_is_one_chunk() -> None:
    [chunk] = cut_chunks(Document("d", "Title", "One sentence. Another one."))
    assert (chunk.document_id, chunk.title, chunk.text) == ("d", "Title", "One sentence. Another one.")


def test_chunks_end_where_sentences_end() -> None:
    text = " ".join(f"Sentence number {number} has six words." for number in range(100))
    chunks = cut_chunks(Document("d", "", text), max_words=20)
    assert all(chunk.text.endswith(".") and len(chunk.text.split()) <= 20 for chunk in chunks)


@given(st.lists(st.from_regex(r"[A-Za-z0-9]{1,8}[.!?]?", fullmatch=True), min_size=1, max_size=300, unique=True))
def test_no_word_is_lost_and_no_chunk_is_too_long(words: list[str]) -> None:
    chunks = cut_chunks(Document("d", "", " ".join(words)), max_words=12)
    assert [word for chunk in chunks for word in chunk.text.split()] == words
    assert all(len(chunk.text.split()) <= 12 for chunk in chunks)


def test_an_id_is_the_content() -> None:
    first, other = (cut_chunks(Document("d", "T", text))[0].chunk_id for text in ("One.", "Two."))
    assert first != other
    assert cut_chunks(Document("d", "T", "One."))[0].chunk_id == first
    assert cut_chunks(Document("e", "T", "One."))[0].chunk_id != first


def test_the_embedder_reads_the_title_once() -> None:
    assert text_to_embed(Chunk("c", "d", "Pool", "It is closed.")) == "Pool\nIt is closed."
    assert text_to_embed(Chunk("c", "d", "Pool", "Pool: closed.")) == "Pool: closed."
