"""Rankings become pairs that weigh what they should, and no question stands on both sides."""

from collections import Counter

import pytest

from training.preferences.judgements import Context, Preferences, Ranking, Thumb
from training.preferences.pairs import cut_held_out, draw_epochs, draw_thumbs, make_pairs, thumbs_of

RANKING = Ranking("r", Context("Q?"), (("a",), ("b", "c"), ("d",)))
VOTE = Ranking("v", Context("R?"), (("x",), ("y",)))


def test_a_ranking_makes_every_pair_of_answers_of_different_levels() -> None:
    pairs = make_pairs(RANKING)
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {
        ("a", "b"),
        ("a", "c"),
        ("a", "d"),
        ("b", "d"),
        ("c", "d"),
    }


def test_the_pairs_of_a_ranking_weigh_as_much_as_its_borders() -> None:
    assert sum(pair.weight for pair in make_pairs(RANKING)) == pytest.approx(2.0)
    assert [pair.weight for pair in make_pairs(VOTE)] == [1.0]


def test_an_epoch_takes_as_many_pairs_as_borders_and_five_epochs_take_all() -> None:
    drawn = draw_epochs([RANKING, VOTE], 5, seed=0)
    assert Counter(pair.source for pair in drawn[:3]) == {"r": 2, "v": 1}
    counted = Counter((pair.chosen, pair.rejected) for pair in drawn if pair.source == "r")
    assert counted == dict.fromkeys(((pair.chosen, pair.rejected) for pair in make_pairs(RANKING)), 2)


def test_the_same_seed_draws_the_same_and_another_one_differs() -> None:
    rankings = [Ranking(f"r{number}", Context("Q?"), RANKING.levels) for number in range(6)]
    assert draw_epochs(rankings, 2, seed=1) == draw_epochs(rankings, 2, seed=1)
    assert draw_epochs(rankings, 2, seed=1) != draw_epochs(rankings, 2, seed=2)


def test_thumbs_come_once_an_epoch() -> None:
    thumbs = [Thumb(str(number), Context("Q?"), "a", is_up=True) for number in range(5)]
    drawn = draw_thumbs(thumbs, 2, seed=0)
    assert sorted(thumb.id for thumb in drawn[:5]) == sorted(thumb.id for thumb in drawn[5:]) == list("01234")


def test_best_answers_are_thumbs_up_and_worst_ones_thumbs_down() -> None:
    assert [(thumb.completion, thumb.is_up) for thumb in thumbs_of([RANKING])] == [("a", True), ("d", False)]


def test_no_question_stands_on_both_sides_however_it_is_written() -> None:
    rankings = tuple(Ranking(f"r{number}", Context(f"Question {number}?"), VOTE.levels) for number in range(20))
    thumbs = tuple(Thumb(f"t{number}", Context(f"question  {number}?"), "a", is_up=True) for number in range(20))
    sides = cut_held_out(Preferences(rankings, thumbs), 0.25, seed=3)
    held_out = {ranking.id[1:] for ranking in sides.held_out.rankings}
    assert len(held_out) == 5
    assert held_out == {thumb.id[1:] for thumb in sides.held_out.thumbs}
    assert len(sides.learned.rankings) == len(sides.learned.thumbs) == 15


def test_one_question_is_never_held_out() -> None:
    sides = cut_held_out(Preferences((VOTE,), ()), 0.2, seed=0)
    assert sides.learned.rankings == (VOTE,)
    assert not sides.held_out.rankings
