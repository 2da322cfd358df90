"""Batches: budget, coverage, padding, order."""

from hypothesis import given
from hypothesis import strategies as st

from training.batches import fill_of, make_batches


@given(st.lists(st.integers(1, 500), min_size=1, max_size=200), st.integers(500, 2000), st.integers())
def test_every_row_stands_in_one_batch_and_no_batch_passes_the_budget(
    lengths: list[int], batch_tokens: int, seed: int
) -> None:
    batches = make_batches(lengths, batch_tokens, seed)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[position] for position in batch) <= batch_tokens


@given(st.lists(st.integers(1, 500), min_size=1, max_size=200), st.integers(500, 2000), st.integers())
def test_packed_batches_hold_every_row_once_within_the_budget(lengths: list[int], batch_tokens: int, seed: int) -> None:
    batches = make_batches(lengths, batch_tokens, seed, "packed")
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    assert all(sum(lengths[position] for position in batch) <= batch_tokens for batch in batches)


def test_packing_leaves_little_room_unused() -> None:
    lengths = [40 + 7 * position % 460 for position in range(400)]
    batches = make_batches(lengths, 1024, seed=3, batching="packed")
    assert sum(lengths) / (1024 * len(batches)) > 0.93


def test_a_row_longer_than_the_budget_gets_a_batch_of_its_own() -> None:
    assert sorted(make_batches([300, 10, 10], 100, seed=0)) in ([(0,), (1, 2)], [(0,), (2, 1)])


def test_fill_is_the_share_that_is_not_padding() -> None:
    assert fill_of([(0, 1), (2,)], [10, 5, 7]) == 22 / 27


def test_rows_of_like_length_meet_so_that_little_is_padded() -> None:
    lengths = [60 + position % 30 for position in range(300)] + [350 + position % 60 for position in range(60)]
    assert fill_of(make_batches(lengths, 1024, seed=1), lengths) > 0.97


def test_order_is_drawn_by_the_seed() -> None:
    lengths = [10] * 50
    assert make_batches(lengths, 40, seed=1) == make_batches(lengths, 40, seed=1) != make_batches(lengths, 40, seed=2)
