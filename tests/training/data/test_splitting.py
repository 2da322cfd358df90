import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakeoff.errors import BadInput
from bakeoff.records import Example, Split
from training.data.splitting import assign_splits, group_examples

SHARES: dict[Split, float] = {"validation": 0.1, "test": 0.2}
DOCUMENTS = st.lists(st.lists(st.integers(0, 30), max_size=2), min_size=30, max_size=60)


def draw_words(number: int) -> list[str]:
    """Five words of noise."""
    digits = hashlib.sha256(str(number).encode()).hexdigest().translate(str.maketrans("0123456789", "ghijklmnop"))
    return [digits[start : start + 6] for start in range(0, 30, 6)]


def make(documents: list[list[int]]) -> list[Example]:
    """One example each, of words that no other has."""
    return [
        Example(
            f"e{n}",
            " ".join(draw_words(n)),
            f"delta{n}",
            (),
            tuple(f"d{one}" for one in found),
            {"label": f"l{n % 3}"},
        )
        for n, found in enumerate(documents)
    ]


@settings(max_examples=25, deadline=None)
@given(DOCUMENTS, st.integers(0, 5))
def test_no_document_stands_in_two_splits_and_the_seed_decides_alone(documents: list[list[int]], seed: int) -> None:
    examples = make(documents)
    try:
        assigned = assign_splits(examples, SHARES, seed)
    except BadInput:
        return  # nearly everything hangs together
    assert assigned.keys() == {example.id for example in examples}
    splits: dict[str, set[str]] = {}
    for example in examples:
        for document_id in example.document_ids:
            splits.setdefault(document_id, set()).add(assigned[example.id])
    assert all(len(found) == 1 for found in splits.values())
    assert assign_splits(list(reversed(examples)), SHARES, seed) == assigned


def test_shares_and_labels_come_out_as_asked() -> None:
    examples = make([[n // 2 + 100] for n in range(600)])
    assigned = assign_splits(examples, SHARES, seed=3)
    sizes = Counter(assigned.values())
    assert abs(sizes["validation"] - 60) <= 6
    assert abs(sizes["test"] - 120) <= 6
    for split in ("train", "validation", "test"):
        labels = Counter(example.tags["label"] for example in examples if assigned[example.id] == split)
        assert max(labels.values()) - min(labels.values()) <= 6
    assert assign_splits(examples, SHARES, seed=4) != assigned


def test_repeats_stay_together_whatever_their_documents() -> None:
    pairs = [
        Example("a", "Is there parking at Alder?", "Yes."),
        Example("b", "is there PARKING at alder", "Yes.", (), ("d",)),
    ]
    assert group_examples(pairs, "example") == [["a", "b"]]


def test_one_document_for_all_is_refused_with_the_way_out() -> None:
    with pytest.raises(BadInput, match=r"the largest has 40\); divide example by example instead: --by example"):
        assign_splits(make([[1]] * 40), SHARES, seed=0)


def test_a_label_that_would_leave_train_is_refused() -> None:
    examples = make([[n % 3] for n in range(60)])
    with pytest.raises(BadInput, match="--by example"):
        assign_splits(examples, {"test": 0.3}, seed=0)
    assert Counter(assign_splits(examples, {"test": 0.3}, seed=0, by="example").values()) == {"train": 42, "test": 18}


def test_shares_that_leave_nothing_for_train_are_refused() -> None:
    with pytest.raises(BadInput, match="leave nothing for train"):
        assign_splits(make([[]] * 9), {"validation": 0.5, "test": 0.5}, seed=0)
