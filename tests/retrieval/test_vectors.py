import threading
from collections.abc import Iterator

import numpy as np
import pytest

import retrieval.index.vectors as vectors
from retrieval.embedder import Vectors
from retrieval.index.vectors import VectorIndex, build_exact, build_vectors

DIM = 32
NUM_ROWS = 6_000


def unit(rows: Vectors) -> Vectors:
    normed: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return normed


def draw_rows(num: int, seed: int) -> Vectors:
    """Points around 150 centres, as texts lie around topics; another seed draws other points around the same."""
    centres = np.random.default_rng(0).standard_normal((150, DIM))
    draw = np.random.default_rng(seed)
    return unit(centres[draw.integers(0, 150, num)] + 0.7 * draw.standard_normal((num, DIM)))


@pytest.fixture(scope="module")
def rows() -> Vectors:
    return draw_rows(NUM_ROWS, 1)


@pytest.fixture(scope="module")
def exact(rows: Vectors) -> VectorIndex:
    return build_exact(rows)


@pytest.fixture(scope="module")
def lists(rows: Vectors) -> VectorIndex:
    """Inverted lists, at a size that would do without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "EXACT_ROWS", 1_000)
        return build_vectors(lambda: batches(rows), len(rows), DIM, draw_rows(200, 2))


def batches(rows: Vectors) -> Iterator[Vectors]:
    yield from np.array_split(rows, 7)


def recall(lists: VectorIndex, exact: VectorIndex, visible: object = None) -> float:
    shares = []
    for query in draw_rows(200, 3):
        wanted, _ = exact.search(query, visible, 10)  # type: ignore[arg-type]
        found, cosines = lists.search(query, visible, 10)  # type: ignore[arg-type]
        assert len(found) == len(wanted)
        assert np.all(np.diff(cosines) <= 0)
        shares.append(len(np.intersect1d(found, wanted)) / len(wanted))
    return float(np.mean(shares))


def test_lists_find_nearly_all_that_exact_search_finds_for_questions_held_out(
    lists: VectorIndex, exact: VectorIndex
) -> None:
    assert lists.built.kind.startswith("IVF")
    assert (lists.built.num_rows, lists.built.num_questions) == (NUM_ROWS, 200)
    assert lists.built.recall >= vectors.RECALL
    assert recall(lists, exact) >= 0.98


def test_lists_without_questions_are_tuned_on_their_rows(
    rows: Vectors, exact: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "EXACT_ROWS", 1_000)
    built = build_vectors(lambda: batches(rows), len(rows), DIM, np.zeros((0, DIM), np.float32))
    assert recall(built, exact) >= 0.98


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.02])
def test_a_filter_costs_no_recall(lists: VectorIndex, exact: VectorIndex, share: float) -> None:
    visible = np.random.default_rng(4).random(NUM_ROWS) < share
    assert recall(lists, exact, visible) >= 0.98


@pytest.mark.parametrize("num_visible", [1, 9, 40])
def test_a_filter_that_leaves_few_rows_is_exact(rows: Vectors, lists: VectorIndex, num_visible: int) -> None:
    visible = np.zeros(NUM_ROWS, np.bool_)
    visible[np.random.default_rng(5).permutation(NUM_ROWS)[:num_visible]] = True
    for query in draw_rows(50, 3):
        found, cosines = lists.search(query, visible, 20)
        truth = rows[found] @ query
        candidates = np.sort(rows[visible] @ query)[::-1][:20]
        assert len(found) == min(20, num_visible)
        assert np.all(visible[found])
        assert cosines == pytest.approx(truth, abs=2e-3)  # float16
        assert truth == pytest.approx(candidates, abs=2e-3)


def test_a_filter_that_lets_only_far_rows_through_still_fills_the_list(rows: Vectors, lists: VectorIndex) -> None:
    query = draw_rows(1, 3)[0]
    cosines = rows @ query
    visible = cosines < np.sort(cosines)[NUM_ROWS // 10]
    found, _ = lists.search(query, visible, 60)
    assert len(found) == 60
    assert np.all(visible[found])


@pytest.mark.parametrize("kind", ["exact", "lists"])
def test_where_nothing_is_visible_nothing_is_found(request: pytest.FixtureRequest, kind: str) -> None:
    index: VectorIndex = request.getfixturevalue(kind)
    found, cosines = index.search(draw_rows(1, 3)[0], np.zeros(NUM_ROWS, np.bool_), 10)
    assert (found.tolist(), cosines.tolist()) == ([], [])


def test_exact_search_is_exact_under_any_filter(rows: Vectors, exact: VectorIndex) -> None:
    draw = np.random.default_rng(6)
    for query in draw_rows(30, 3):
        visible = draw.random(NUM_ROWS) < draw.choice((0.001, 0.1, 1.0))
        cosines = np.where(visible, rows @ query, -2)
        found, _ = exact.search(query, visible, 10)
        assert found.tolist() == np.argsort(-cosines, kind="stable")[: min(10, int(visible.sum()))].tolist()


def test_threads_with_different_filters_do_not_disturb_each_other(lists: VectorIndex) -> None:
    queries = draw_rows(40, 3)
    masks = [np.random.default_rng(seed).random(NUM_ROWS) < 0.3 for seed in range(4)]
    expected = [[lists.search(query, mask, 10)[0].tolist() for query in queries] for mask in masks]
    found: dict[int, list[list[int]]] = {}

    def search(place: int) -> None:
        found[place] = [lists.search(query, masks[place], 10)[0].tolist() for _ in range(5) for query in queries]

    threads = [threading.Thread(target=search, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in range(4)] == [5 * answers for answers in expected]


def test_the_same_rows_give_the_same_index(rows: Vectors, lists: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "EXACT_ROWS", 1_000)
    again = build_vectors(lambda: batches(rows), len(rows), DIM, draw_rows(200, 2))
    assert again.built == lists.built
    assert again.index.reconstruct_n(0, 50).tolist() == lists.index.reconstruct_n(0, 50).tolist()
