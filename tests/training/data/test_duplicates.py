import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.records import Example
from training.data.duplicates import find_conflicts, find_exact, find_near, similar_pairs
from training.data.matching import NEAR_SHINGLES, find_shingles, jaccard

WORDS = st.sampled_from(("parking", "breakfast", "garden", "window", "dinner", "museum", "station", "library"))
TEXTS = st.lists(st.lists(WORDS, min_size=3, max_size=8).map(" ".join), min_size=2, max_size=12)
HOTELS = ("Alder", "Birch", "Cedar", "Damson", "Elder", "Fir", "Ginkgo", "Hazel", "Ivy", "Juniper")


def make(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(f"e{number}", question, answer, (answer,)) for number, (question, answer) in enumerate(pairs)]


def hotels() -> list[Example]:
    """One template, ten hotels, two services."""
    return make(
        *((f"Is there parking at the {name} Hotel?", f"Yes, {name} Hotel has parking.") for name in HOTELS),
        *((f"Is there a pool at the {name} Hotel?", f"No, {name} Hotel has no pool.") for name in HOTELS),
    )


def test_exact_repeats_ignore_case_punctuation_and_how_numbers_are_written() -> None:
    examples = make(("Open at 10,000 feet?", "Yes."), ("open at 10000 feet", "yes"), ("Open at 10000 feet", "No"))
    assert [(repeat.kept_id, repeat.repeated_id) for repeat in find_exact(examples)] == [("e0", "e1")]


def test_one_question_with_two_answers_is_a_conflict_unless_one_accepts_the_other() -> None:
    examples = make(("Open?", "Yes"), ("open", "No"), ("Late?", "Yes"), ("late?", "Sure"))
    examples[3] = Example("e3", "late?", "Sure", ("Sure", "yes"))
    [conflict] = find_conflicts(examples)
    assert (conflict.ids, conflict.answers) == (("e0", "e1"), ("Yes", "No"))


def test_questions_of_one_template_are_no_near_duplicates() -> None:
    assert find_near(hotels()) == ()


@pytest.mark.parametrize(
    "copy",
    [
        "Is there paarking at the Alder Hotel?",
        "At the Alder Hotel, is there parking?",
        "Hello, could you please tell me: is there parking at the Alder Hotel? Thanks!",
    ],
)
def test_a_slip_another_order_and_politeness_are_near_duplicates(copy: str) -> None:
    examples = [*hotels(), Example("copy", copy, "Yes, Alder Hotel has parking.")]
    assert [(near.kept_id, near.repeated_id) for near in find_near(examples)] == [("e0", "copy")]


def test_another_number_is_another_question() -> None:
    examples = make(("Who won season 4 of the show?", "Anna"), ("Who won season 5 of the show?", "Anna"))
    assert find_near(examples) == ()


def test_under_one_label_only_literal_copies_are_near_duplicates() -> None:
    texts = [
        "How can I change my address?",
        "My address has changed.",
        "Hi, how can I chnage my address",
        "Card lost",
        "PIN?",
    ]
    examples = [Example(f"e{n}", text, "edit details", ("edit details",)) for n, text in enumerate(texts * 2)]
    examples = [*examples[:5], *(Example(f"x{n}", f"Other {n} text", "edit details") for n in range(9))]
    assert [(near.kept_id, near.repeated_id) for near in find_near(examples)] == [("e0", "e2")]


@given(TEXTS)
def test_pairs_are_verified_and_equal_texts_are_never_missed(texts: list[str]) -> None:
    found = {(first, second): similarity for first, second, similarity in similar_pairs(texts)}
    for (first, second), similarity in found.items():
        assert first < second
        assert similarity == jaccard(find_shingles(texts[first]), find_shingles(texts[second])) >= NEAR_SHINGLES
    for first in range(len(texts)):
        for second in range(first + 1, len(texts)):
            if find_shingles(texts[first]) == find_shingles(texts[second]):
                assert found[first, second] == 1


@given(TEXTS, TEXTS)
def test_comparing_with_others_finds_what_stands_in_both(texts: list[str], others: list[str]) -> None:
    found = {(first, second) for first, second, _ in similar_pairs(texts, others)}
    for second, other in enumerate(others):
        for first, text in enumerate(texts):
            if text == other:
                assert (first, second) in found
