import msgspec
import numpy as np
import pytest

from bakeoff.records import Example
from retrieval.embedder import Embedder
from training.data.leaks import NEAREST, Leak, are_refused, count_same_document, find_leaks, nearest_pairs

HOTELS = ("Alder", "Birch", "Cedar", "Damson", "Elder", "Fir", "Ginkgo", "Hazel", "Ivy", "Juniper", "Larch", "Maple")
ASKS = (
    ("Is there parking at the {} Hotel?", "Yes, parking at the {} Hotel costs {} pounds."),
    ("When is breakfast served at the {} Hotel?", "Breakfast at the {} Hotel is served from {}:00."),
    ("May I bring a dog to the {} Hotel?", "No, dogs are not allowed at the {} Hotel, for {} reasons."),
    ("How far is the {} Hotel from the station?", "The {} Hotel is {} minutes from the station."),
)


def hotel_examples(asks: tuple[tuple[str, str], ...]) -> list[Example]:
    return [
        Example(f"{name}-{place}", ask.format(name), answer.format(name, place + 3 * number), (), (f"doc-{name}",))
        for place, name in enumerate(HOTELS)
        for number, (ask, answer) in enumerate(asks, start=1)
        for place in [place * 10 + number]
    ]


def test_questions_of_one_template_about_one_document_are_no_leak(embedder: Embedder) -> None:
    train, held_out = hotel_examples(ASKS[:2]), hotel_examples(ASKS[2:])
    assert find_leaks(train, held_out, embedder.embed) == ()
    assert count_same_document(train, held_out) == len(held_out)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("how far is the larch hotel from THE station", "exact"),
        ("Hello, how far is the Larch Hotle from the station? Thanks", "near"),
        ("From the station, how far is the Larch Hotel?", "near"),
        ("What is the distance between the Larch Hotel and the railway station?", "paraphrase"),
    ],
)
def test_a_planted_leak_is_found_with_its_kind(embedder: Embedder, question: str, kind: str) -> None:
    train, held_out = hotel_examples(ASKS[:2]), hotel_examples(ASKS[2:])
    source = next(example for example in held_out if "How far is the Larch" in example.question)
    planted = msgspec.structs.replace(source, id="planted", question=question)
    [leak] = find_leaks([*train, planted], held_out, embedder.embed)
    assert (leak.train_id, leak.held_out_id, leak.kind) == ("planted", source.id, kind)
    assert 0.4 < leak.similarity <= 1


def test_the_same_question_about_another_hotel_is_no_leak(embedder: Embedder) -> None:
    held_out = hotel_examples(ASKS)
    train = [
        msgspec.structs.replace(example, id=f"t{example.id}") for example in held_out if "Larch" not in example.question
    ]
    held_out = [example for example in held_out if "Larch" in example.question]
    assert find_leaks(train, held_out, embedder.embed) == ()


def test_messages_of_one_label_are_no_leaks_but_copies_are(embedder: Embedder) -> None:
    texts = ["How can I change my address?", "My address is new", "Where do I update my address?", "I moved house"]
    train = [Example(f"t{n}", text, "edit details") for n, text in enumerate([*texts, "Card lost", "PIN lost", "Fee?"])]
    held_out = [
        Example("h0", "I want to change my address", "edit details"),
        Example("h1", "Someone stole my purse", "edit details"),
    ]
    found = find_leaks(train, held_out, embedder.embed)
    assert [(leak.train_id, leak.held_out_id) for leak in found] == []
    copy = Example("copy", "Hi! I want to chagne my address please", "edit details")
    assert [(leak.train_id, leak.kind) for leak in find_leaks([*train, copy], held_out, embedder.embed)] == [
        ("copy", "near")
    ]


def test_nothing_leaks_into_nothing(embedder: Embedder) -> None:
    assert find_leaks([], hotel_examples(ASKS), embedder.embed) == ()
    assert find_leaks(hotel_examples(ASKS), [], embedder.embed) == ()


def test_the_nearest_are_those_of_a_full_sort() -> None:
    noise = np.random.default_rng(0)
    train, held_out = (noise.normal(1, 1, (size, 8)).astype(np.float32) for size in (100, 700))
    train, held_out = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (train, held_out))
    cosines = held_out @ train.T
    best = {(int(column), row) for row in range(700) for column in np.argsort(-cosines[row])[:NEAREST]}
    assert {(ours, theirs) for ours, theirs, _ in nearest_pairs(train, held_out)} == {
        (ours, theirs) for ours, theirs in best if cosines[theirs, ours] >= 0.6
    }


def test_a_copy_is_refused_and_a_few_paraphrases_are_not() -> None:
    paraphrases = [Leak(f"train-{at}", f"test-{at}", "paraphrase", 0.9) for at in range(4)]
    assert not are_refused([], 100)
    assert not are_refused(paraphrases, 400)
    assert are_refused(paraphrases, 399)
    assert are_refused([Leak("train", "test", "near", 0.8)], 10_000)
