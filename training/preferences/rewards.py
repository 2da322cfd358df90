"""What an online method is paid by: a reward model's score, or a named rule.

A reward sees the token ids of prompt and completion and the completion's text. A completion that was cut off before it
ended is docked by the recipe's `missing_end_penalty` (Huang et al. 2024, section "EOS trick"), because a reward model
has only read finished answers and cannot tell.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from bakeoff.prompts import find_markers
from training.preferences.encoding import Answer
from training.preferences.recipe import PreferenceRecipe

Reward = Callable[[Sequence[Answer]], list[float]]
"""Answers -> a score for each, higher is better."""
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def _short(answer: Answer, _text: str, recipe: PreferenceRecipe) -> float:
    return 1.0 - len(answer.completion) / recipe.max_completion_tokens


def _one_sentence(_answer: Answer, text: str, _recipe: PreferenceRecipe) -> float:
    return float(len(_SENTENCE_END.findall(text.strip())) == 1 and text.strip()[-1] in ".!?")


def _cites(_answer: Answer, text: str, _recipe: PreferenceRecipe) -> float:
    return float(bool(find_markers(text, 99)))


RULES: dict[str, Callable[[Answer, str, PreferenceRecipe], float]] = {
    "short": _short,
    "one-sentence": _one_sentence,
    "cites": _cites,
}
"""`short`: 1 for an empty completion, 0 for the longest; `one-sentence` and `cites` (a marker like [1]): 1 or 0."""


def rule_reward(name: str, tokenizer: Any, recipe: PreferenceRecipe) -> Reward:
    """The reward of a rule, by a name of `RULES`."""
    rule = RULES[name]

    def score(answers: Sequence[Answer]) -> list[float]:
        texts = [tokenizer.decode(answer.completion, skip_special_tokens=True) for answer in answers]
        return [rule(answer, text, recipe) for answer, text in zip(answers, texts, strict=True)]

    return score


def dock_unfinished(reward: Reward, ends: Sequence[int], penalty: float) -> Reward:
    """The reward, less the penalty where a completion does not end with an end token."""

    def score(answers: Sequence[Answer]) -> list[float]:
        return [
            found - (0.0 if answer.completion and answer.completion[-1] in ends else penalty)
            for found, answer in zip(reward(answers), answers, strict=True)
        ]

    return score
