"""Rules, the penalty for a missing end, and pairs of thumbs."""

from collections.abc import Callable
from typing import Any

import pytest

from bakeoff.cli.preferences import preferences_command
from bakeoff.settings import CHECKOUT
from training.preferences.encoding import Answer, ThumbRow
from training.preferences.material import cross_pairs
from training.preferences.recipe import PreferenceRecipe
from training.preferences.rewards import RULES, dock_unfinished, rule_reward

MakeRecipe = Callable[..., PreferenceRecipe]


def answer_of(tokenizer: Any, text: str, *, ends: bool = True) -> Answer:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Answer((1, 2), (*ids, tokenizer.eos_token_id) if ends else tuple(ids))


@pytest.mark.parametrize(
    ("rule", "text", "paid"),
    [
        ("one-sentence", "Breakfast is at 7.30 sharp.", 1.0),
        ("one-sentence", "Yes. It is.", 0.0),
        ("one-sentence", "Yes, it", 0.0),
        ("one-sentence", "", 0.0),
        ("cites", "At seven [2].", 1.0),
        ("cites", "At seven [two].", 0.0),
    ],
)
def test_rules_pay_what_they_say(rule: str, text: str, paid: float, tokenizer: Any, quick_recipe: MakeRecipe) -> None:
    assert rule_reward(rule, tokenizer, quick_recipe("rloo"))([answer_of(tokenizer, text)]) == [paid]


def test_short_pays_for_the_room_that_is_left(tokenizer: Any, quick_recipe: MakeRecipe) -> None:
    reward = rule_reward("short", tokenizer, quick_recipe("rloo", max_completion_tokens=10))
    assert reward([Answer((1,), (5, 6, 7)), Answer((1,), (5,) * 10)]) == pytest.approx([0.7, 0.0])


def test_a_completion_without_an_end_is_docked() -> None:
    reward = dock_unfinished(lambda answers: [1.0] * len(answers), [2, 3], 0.25)
    assert reward([Answer((1,), (5, 2)), Answer((1,), (5, 3)), Answer((1,), (2, 5))]) == [1.0, 1.0, 0.75]


def test_the_command_and_the_guide_name_every_rule() -> None:
    (option,) = [option for option in preferences_command.params if option.name == "rule"]
    guide = (CHECKOUT / "docs" / "guide" / "preferences.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert rule in (option.help or "")
        assert f"`{rule}`" in guide


def test_thumbs_are_paired_with_those_of_their_question_first() -> None:
    def row(token: int, question: str, *, is_up: bool) -> ThumbRow:
        return ThumbRow(Answer((1,), (token,)), is_up, question)

    rows = [
        row(10, "a", is_up=True),
        row(11, "b", is_up=True),
        row(20, "b", is_up=False),
        row(21, "b", is_up=False),
        row(22, "c", is_up=False),
    ]
    pairs = [(pair.chosen.completion[0], pair.rejected.completion[0]) for pair in cross_pairs(rows, 5)]
    assert pairs == [(10, 20), (11, 20), (11, 21)]
    assert not cross_pairs(rows[:2], 5)
