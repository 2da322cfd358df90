import msgspec
import pytest
from hash_embedder import HashEmbedder
from sqlalchemy import Engine

from bakeoff.records import Chunk, Document, Example
from retrieval.embedder import Embedder
from retrieval.permissions import caller_groups
from retrieval.store import add_documents
from training.data.augment import ask_question, augment, draw_sources, find_sentences
from training.data.drafts import Draft, Source, is_supported, judge_drafts, read_reply

TEXT = (
    "# Alder Hotel\n\nBreakfast at the Alder Hotel is served from 7:00 to 10:00. Dogs are welcome in the garden "
    "rooms for 12 pounds a night! See https://example.org for more details. Is it nice? Yes."
)
CHUNK = Chunk("c1", "doc1", "Alder Hotel (hotel, Cambridge)", TEXT)
BREAKFAST, DOGS = (Source(CHUNK, sentence) for sentence in find_sentences(TEXT))


def test_only_plain_sentences_are_asked_about() -> None:
    assert (BREAKFAST.sentence, DOGS.sentence) == (
        "Breakfast at the Alder Hotel is served from 7:00 to 10:00.",
        "Dogs are welcome in the garden rooms for 12 pounds a night!",
    )


def test_the_answer_is_the_sentence_unless_the_models_own_is_supported() -> None:
    question = "Question: When is breakfast at the Alder Hotel?"
    assert read_reply(BREAKFAST, question) == ("When is breakfast at the Alder Hotel?", BREAKFAST.sentence)
    assert read_reply(BREAKFAST, f"{question}\nAnswer: From 7:00 to 10:00.")[1] == "From 7:00 to 10:00."
    assert read_reply(BREAKFAST, f"{question}\nAnswer: From 6:00 to 10:00.")[1] == BREAKFAST.sentence
    assert read_reply(DOGS, "Can I bring my dog?")[0] == "Alder Hotel: Can I bring my dog?"


def test_support_means_every_word_and_number() -> None:
    assert is_supported("Dogs, for 12 pounds", DOGS.sentence)
    assert not is_supported("Dogs, for 13 pounds", DOGS.sentence)
    assert not is_supported("Cats, for 12 pounds", DOGS.sentence)
    assert not is_supported("...", DOGS.sentence)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("When is breakfast served at the Alder Hotel?", "kept"),
        ("Breakfast is nice.", "no question"),
        ("Why?", "no question"),
        ("What does the passage say about the Alder Hotel breakfast?", "about the text"),
        ("Breakfast at the Alder Hotel is served from 7:00 to 10:00?", "copies the sentence"),
        ("When is breakfast served at the Birch Hotel?", "not in the passage"),
        ("Is breakfast at the Alder Hotel served until 11:00?", "not in the passage"),
        ("Are dogs welcome at the Alder Hotel?", "off the point"),
        ("Is the hotel Alder a garden hotel?", "off the point"),
    ],
)
def test_a_reply_is_kept_or_falls_for_a_reason(embedder: Embedder, reply: str, reason: str) -> None:
    [draft] = judge_drafts([(BREAKFAST, reply)], "m", [], [], embedder.embed)
    assert draft.reason == reason
    if draft.example is not None:
        assert draft.example.document_ids == ("doc1",)
        assert draft.example.tags == {"synthetic": {"model": "m", "chunk_id": "c1", "document_id": "doc1"}}


def test_known_questions_and_leaks_fall(embedder: Embedder) -> None:
    reply = "When is breakfast served at the Alder Hotel?"
    other = Example("x", "At the Alder Hotel, when is breakfast served?", "From 7:00 to 10:00.")
    assert judge_drafts([(BREAKFAST, reply)], "m", [other], [], embedder.embed)[0].reason == "known question"
    assert judge_drafts([(BREAKFAST, reply)], "m", [], [other], embedder.embed)[0].reason == "leak"
    twice = judge_drafts([(BREAKFAST, reply), (BREAKFAST, reply + " ")], "m", [], [], embedder.embed)
    assert [draft.reason for draft in twice] == ["kept", "known question"]


def test_shots_look_like_the_last_request() -> None:
    shot = Example("x", "Is there a pool?", "No pool.")
    contents = [message.content for message in ask_question(DOGS, [shot], str.upper)]
    assert contents == [
        "WHICH QUESTION DOES THIS SENTENCE ANSWER? NO POOL.",
        "Is there a pool?",
        f"Which question does this sentence answer? {DOGS.sentence}",
    ]


def test_it_stops_when_enough_are_kept(embedder: Embedder) -> None:
    asked: list[Source] = []
    sizes: list[int] = []

    def ask(sources: list[Source]) -> list[str]:
        asked.extend(sources)
        return [f"Question number {len(asked)}?" for _ in sources]

    def judge(replies: list[tuple[Source, str]], kept: list[Example]) -> list[Draft]:
        sizes.append(len(kept))
        return [
            msgspec.structs.replace(draft, example=Example(str(len(asked)), "q", "a"))
            for draft in unused[: len(replies)]
        ]

    unused = judge_drafts([(BREAKFAST, "Why?")] * 2, "m", [], [], embedder.embed)
    drafts = augment([BREAKFAST, DOGS] * 5, 3, ask, judge, 2, lambda drafts: None)
    assert (len(asked), len(drafts), sizes) == (4, 4, [0, 2])


def test_sentences_of_documents_that_the_caller_may_not_see_are_never_drawn(engine: Engine) -> None:
    documents = [
        Document("open", "Pool", "The pool of the hotel is open from 9:00 to 21:00."),
        Document("staff", "Safe", "The safe of the hotel stands behind the mirror in room 4."),
    ]
    add_documents(engine, "d", documents, HashEmbedder(), lambda *_: None, {"staff": ["staff"]})
    with engine.connect() as connection:
        for groups, expected in ((caller_groups(), {"open"}), (caller_groups(["staff"]), {"open", "staff"})):
            assert {found.chunk.document_id for found in draw_sources(connection, "d", 0, groups)} == expected
