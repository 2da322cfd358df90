import random
import re
import statistics
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakeoff.records import Chunk, Document
from retrieval.borders import split_evenly
from retrieval.chunking import cut_chunks, cut_documents, text_to_embed
from retrieval.embedder import SentenceTransformerEmbedder
from retrieval.sections import Section, split_sections

TABLE = "| room | price |\n| --- | --- |\n"


def count_words(texts: list[str]) -> list[int]:
    """An embedder with a token a word and two special ones."""
    return [len(text.split()) + 2 for text in texts]


def cut(text: str, max_tokens: int = 32, title: str = "") -> list[Chunk]:
    return cut_chunks(Document("d", title, text), count_words, max_tokens)


def story(seed: int, num_sentences: int) -> list[str]:
    words = ("pool", "garden", "breakfast", "room", "station", "guest", "morning", "ticket", "river", "door")
    draw = random.Random(seed)  # noqa: S311
    return [
        f"The {draw.randrange(10000)} {' '.join(draw.choices(words, k=draw.randrange(4, 14)))}."
        for _ in range(num_sentences)
    ]


def test_a_short_document_is_one_chunk() -> None:
    [chunk] = cut("One sentence. Another one.\n\nAnd a paragraph.", title="Title")
    assert (chunk.document_id, chunk.title) == ("d", "Title")
    assert (chunk.text, chunk.heading, chunk.page) == ("One sentence. Another one.\n\nAnd a paragraph.", "", None)


def test_chunks_end_where_sentences_end() -> None:
    chunks = cut(" ".join(f"Sentence number {number} has six words." for number in range(100)))
    assert len(chunks) > 15
    assert all(chunk.text.endswith(".") and chunk.text.startswith("Sentence") for chunk in chunks)


def test_a_chunk_has_the_headings_above_it() -> None:
    text = (
        "Before.\n\n# Guide\n\n## Install #\n\nRun it.\n\n#### Deep\n\nStays.\n\n"
        "## Use\n\nAsk.\n\nOther\n=====\n\nEnd.\n"
    )
    assert [(chunk.heading, chunk.text) for chunk in cut(text)] == [
        ("", "Before."),
        ("Guide > Install", "Run it.\n\n#### Deep\n\nStays."),
        ("Guide > Use", "Ask."),
        ("Other", "End."),
    ]


def test_what_only_looks_like_a_heading_is_text() -> None:
    text = f"#tag\n\n- item\n---\n\n# {'long ' * 50}\n\n```\n# comment\n```"
    assert [section.heading for section in split_sections(text)] == [""]


def test_a_heading_without_text_is_not_lost() -> None:
    assert [(chunk.heading, chunk.text) for chunk in cut("# A\n\n## B\n\n## C\n\n# D")] == [
        ("A", "B"),
        ("A", "C"),
        ("", "D"),
    ]


@pytest.mark.parametrize("text", ["\fFirst.\f\f# Third\n\nText.", "First.\f\f# Third\n\nText."])
def test_a_chunk_has_its_page(text: str) -> None:
    assert [(chunk.page, chunk.heading, chunk.text) for chunk in cut(text)] == [
        (1, "", "First."),
        (3, "Third", "Text."),
    ]


def test_a_single_page_is_page_one() -> None:
    assert [chunk.page for chunk in cut("\fOnly page.")] == [1]


def test_a_sentence_over_the_end_of_a_page_stays_whole() -> None:
    assert split_sections("\fIt runs\f\nover the page. Next one.\fLast.") == [
        Section("", 1, "It runs over the page."),
        Section("", 2, "Next one."),
        Section("", 3, "Last."),
    ]


def test_a_long_table_is_cut_between_rows_and_repeats_its_header() -> None:
    rows = [f"| room {number} | {number} pounds |" for number in range(40)]
    chunks = cut("Prices:\n\n" + TABLE + "\n".join(rows) + "\n\nThat is all.", max_tokens=64)
    tables = [chunk.text for chunk in chunks if "|" in chunk.text]
    assert len(tables) > 4
    assert all(TABLE in text for text in tables)
    assert all(line in rows for text in tables for line in text.partition(TABLE)[2].split("\n\n")[0].split("\n"))
    assert [row for row in rows if any(row in text for text in tables)] == rows


def test_a_row_longer_than_a_chunk_is_cut_at_cells() -> None:
    cells = [f"cell {number} holds five words" for number in range(12)]
    chunks = cut(TABLE + f"| {' | '.join(cells)} |\n")
    assert all(count_words([text_to_embed(chunk)])[0] <= 32 for chunk in chunks)
    assert all(any(cell in chunk.text for chunk in chunks) for cell in cells)


def test_a_code_fence_stays_whole_where_it_fits() -> None:
    fence = "```sh\n" + "\n".join(f"run it {number}. Then more." for number in range(4)) + "\n\n# no heading\n```"
    chunks = cut(" ".join(story(1, 3)) + "\n\n" + fence + "\n\n" + " ".join(story(2, 3)))
    assert len(chunks) > 2
    assert any(fence in chunk.text for chunk in chunks)


def test_list_items_are_not_cut_while_there_are_borders_between_them() -> None:
    items = [f"- item {number} with words. And a second sentence" for number in range(20)]
    assert {line for chunk in cut("\n".join(items)) for line in chunk.text.split("\n")} == set(items)


def test_a_heading_deeper_than_three_stays_with_its_text() -> None:
    text = "\n\n".join(f"#### Part {number}\n\n{' '.join(story(number, 2))}" for number in range(12))
    chunks = cut(text, max_tokens=48)
    assert len(chunks) > 6
    assert not any(re.search(r"#### Part \d+$", chunk.text) for chunk in chunks)


def test_an_id_is_the_content() -> None:
    first, other = (cut(text, title="T")[0].chunk_id for text in ("One.", "Two."))
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first != other
    assert cut("One.", title="T")[0].chunk_id == first
    assert cut("One.", title="U")[0].chunk_id != first
    assert cut("# H\n\nOne.", title="T")[0].chunk_id != first
    assert cut_chunks(Document("e", "T", "One."), count_words, 32)[0].chunk_id != first


def test_a_text_that_repeats_itself_is_kept_once() -> None:
    assert len(cut("# A\n\nSame.\n\n# B\n\nSame.\n\n# A\n\nSame.")) == 2


def test_the_embedder_reads_the_title_once() -> None:
    assert text_to_embed(Chunk("c", "d", "Pool", "It is closed.")) == "Pool\nIt is closed."
    assert text_to_embed(Chunk("c", "d", "Pool", "Pool: closed.")) == "Pool: closed."
    assert text_to_embed(Chunk("c", "d", "Pool", "Closed.", "Times")) == "Pool\nTimes\nClosed."
    assert text_to_embed(Chunk("c", "d", "Pool", "Closed.", "Pool > Times")) == "Pool > Times\nClosed."
    assert text_to_embed(Chunk("c", "d", "", "Closed.")) == "Closed."


@pytest.mark.parametrize("separator", [" ", "\n\n"])
def test_an_edit_keeps_the_other_ids(embedder: SentenceTransformerEmbedder, separator: str) -> None:
    changed = []
    for seed in range(10):
        parts = [" ".join(story(seed * 1000 + number, 5)) for number in range(60)]
        before, inserted, edited = (
            {chunk.chunk_id for chunk in cut_chunks(Document("d", "T", text), embedder.count_tokens, 256)}
            for text in (
                separator.join(parts),
                separator.join(["A new paragraph at the top. It says little.", *parts]),
                separator.join([*parts[:30], "This was edited. " + parts[30], *parts[31:]]),
            )
        )
        assert len(before) >= 18
        changed += [len(inserted - before), len(edited - before)]
    assert statistics.median(changed) <= 2
    assert sum(changed) / len(changed) <= 2.5
    assert max(changed) <= 12  # of about twenty: a rare long way back to the same cuts


MARKDOWN = st.lists(
    st.one_of(
        st.text(alphabet="abc déфд漢字😀.!?\u0301|-#*>`~\t ", min_size=1, max_size=60),
        st.lists(st.from_regex(r"[A-Za-z0-9]{1,12}[.!?,]?", fullmatch=True), min_size=1, max_size=60).map(" ".join),
        st.sampled_from(["# One", "## Two words", "### Three", "#### Four", "```", "- item one", "1. first", "\f"]),
        st.lists(st.sampled_from(["x", "some words", "12.50"]), min_size=1, max_size=9).map(
            lambda cells: f"| {' | '.join(cells)} |\n|{' --- |' * len(cells)}\n" + f"| {' | '.join(cells)} |\n" * 9
        ),
        st.text(alphabet="xy漢", min_size=100, max_size=400),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    MARKDOWN,
    st.sampled_from(["\n", "\n\n"]),
    st.sampled_from([16, 32, 256]),
    st.sampled_from(["", "Title", "A title of many words that goes on and on " * 4]),
)
def test_no_chunk_is_too_long_and_no_word_is_lost(
    embedder: SentenceTransformerEmbedder, blocks: list[str], joint: str, max_tokens: int, title: str
) -> None:
    text = joint.join(blocks)
    chunks = cut_chunks(Document("d", title, text), embedder.count_tokens, max_tokens)
    assert all(count <= max_tokens for count in embedder.count_tokens([text_to_embed(chunk) for chunk in chunks]))
    held = " ".join(f"{chunk.heading} {chunk.text}" for chunk in chunks)
    there = set(held.split())
    in_one_piece = re.sub(r"\s", "", held)
    for word in text.split():
        if re.search(r"\w", word) and word not in there:  # a word is split only where it alone is too long
            assert embedder.count_tokens([word])[0] > max_tokens // 3
            assert word in in_one_piece or embedder.count_tokens([word])[0] > max_tokens // 2


def test_many_documents_are_cut_like_each_alone() -> None:
    documents = [Document(f"d{n}", "T", " ".join(story(n, 1 + 3 * n))) for n in range(12)]
    alone = [cut_chunks(document, count_words, 32) for document in documents]
    assert cut_documents(documents, count_words, 32) == alone


def test_a_window_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16: 8"):
        cut("Text.", max_tokens=8)


def test_a_thousand_short_documents_take_a_second(embedder: SentenceTransformerEmbedder) -> None:
    documents = [Document(f"d{n}", f"Title {n}", " ".join(story(n, 9))) for n in range(1000)]
    embedder.count_tokens(["warm"])
    start = time.perf_counter()
    chunks = cut_documents(documents, embedder.count_tokens, 256)
    assert time.perf_counter() - start < 1
    assert sum(map(len, chunks)) == 1000


@pytest.mark.parametrize("text", ["漢字ab" * 250_000, "word " * 200_000, "a\n" * 300_000, "| a " * 200_000])
def test_a_text_without_structure_is_cut_in_seconds(embedder: SentenceTransformerEmbedder, text: str) -> None:
    start = time.perf_counter()
    assert cut_chunks(Document("d", "", text), embedder.count_tokens, 256)
    assert time.perf_counter() - start < 10


def test_even_parts_are_cut_between_words() -> None:
    text = "one two three four five six"
    cuts = split_evenly(text, 0, len(text), 3)
    assert [text[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)] == [
        "one two ",
        "three ",
        "four five six",
    ]
    assert split_evenly("abcdef", 0, 6, 3) == [2, 4]
