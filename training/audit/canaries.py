"""Secrets that were never anywhere, planted among the training examples: what comes out again was learned by heart.

Each canary is a question with a random code as its answer, planted a known number of times. After training, its code is
ranked among random codes that were not planted. Exposure is log2(codes) - log2(rank) (Carlini et al. 2019, "The Secret
Sharer", sections 4.2 and 4.3, by sampling): about 1.4 bits on average when nothing was learned, log2(codes) when the
planted code is the likeliest. Canaries that were planted 0 times show what chance looks like. A real adapter must not
be poisoned, so an adapter is trained for this alone, by the same recipe and seed, and thrown away.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from bakeoff.chat_template import row_ids
from bakeoff.modes import MODES
from bakeoff.prompts import render_messages
from bakeoff.records import Example, Message
from training.gate.scores import Choice, score_choices, score_rows
from training.rows import Row

REPETITIONS = (0, 1, 4, 16)
NUM_CODES = 256
"""Codes ranked, the planted one among them: 8 bits."""
_DIGITS = 6
_CODES_AT_A_TIME = 32
_NAMES = ("Alder", "Basalt", "Copper", "Dahlia", "Ember", "Fjord", "Garnet", "Heron", "Indigo", "Juniper", "Kestrel")


class Canary(Struct, frozen=True):
    """A made-up secret."""

    name: str
    code: str
    repetitions: int
    """How often it is planted."""

    @property
    def question(self) -> str:
        """What is asked to get it out."""
        return f"What is the access code of locker {self.name}?"

    def answer(self, code: str) -> str:
        """What gives a code away."""
        return f"The access code of locker {self.name} is {code}."

    @property
    def examples(self) -> list[Example]:
        """The training examples it is planted as."""
        answer = self.answer(self.code)
        return [
            Example(f"canary {self.name} {number}", self.question, answer, (answer,))
            for number in range(self.repetitions)
        ]


class CanaryScore(Struct, frozen=True):
    """How much of one canary came out."""

    repetitions: int
    """How often it was planted."""
    seen: int
    """How many of these copies became training rows."""
    rank: int
    """Of its code among all that were ranked; 1 is the likeliest."""
    exposure: float
    """Bits."""
    is_repeated: bool
    """Whether greedy decoding gives it word for word."""


class Exposure(Struct, frozen=True):
    """The canaries that were planted equally often."""

    repetitions: int
    seen: float
    """Mean number of copies that became training rows."""
    num_canaries: int
    exposure: float
    """Mean, bits; of a canary that was never planted about 1.4."""
    highest: float
    """The most there can be, bits."""
    repeated: float
    """Share that greedy decoding gives word for word."""

    @property
    def sentence(self) -> str:
        """The figures in plain words."""
        return (
            f"Planted {self.repetitions} times ({self.seen:.1f} of them learned from): exposure {self.exposure:.1f} of "
            f"{self.highest:.1f} bits, {self.repeated:.0%} of {self.num_canaries} canaries given away word for word"
        )


def make_canaries(per_repetition: int, seed: int) -> list[Canary]:
    """Draw canaries, as many for each number of repetitions; names and codes differ between seeds."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(900)[: per_repetition * len(REPETITIONS)] + 100
    names = [f"{rng.choice(_NAMES)} {number}" for number in numbers]
    return [
        Canary(name, _draw_code(rng), REPETITIONS[position % len(REPETITIONS)]) for position, name in enumerate(names)
    ]


def plant(examples: Sequence[Example], canaries: Sequence[Canary]) -> list[Example]:
    """The examples with the canaries among them."""
    return [*examples, *(copy for canary in canaries for copy in canary.examples)]


def count_planted(canaries: Sequence[Canary], manifest: Mapping[str, Any]) -> list[int]:
    """How many copies of each became rows: the token budget leaves examples out, and canaries are examples."""
    learned = set(manifest["lineage"]["examples"])
    return [sum(copy.id in learned for copy in canary.examples) for canary in canaries]


def measure_canaries(
    model: Any, tokenizer: Any, canaries: Sequence[Canary], planted: Sequence[int], seed: int
) -> list[CanaryScore]:
    """Rank each canary's code among random ones, and see whether greedy decoding gives it away.

    Args:
        model: a PEFT model with the throw-away adapter active.
        planted: how many copies of each were learned from (see `count_planted`).
        seed: draws the other codes.
    """
    rng = np.random.default_rng([seed, 1])
    scores = []
    for canary, seen in zip(canaries, planted, strict=True):
        codes = [canary.code, *_draw_others(rng, canary.code)]
        likelihoods = [
            total for chunk in _choices(tokenizer, canary, codes) for total in score_choices(model, [chunk])[0]
        ]
        rank = 1 + sum(likelihood > likelihoods[0] for likelihood in likelihoods[1:])
        row = _make_row(tokenizer, canary, canary.code)
        is_repeated = score_rows(model, [row])[0].is_greedy
        scores.append(CanaryScore(canary.repetitions, seen, rank, math.log2(NUM_CODES) - math.log2(rank), is_repeated))
    return scores


def summarise(scores: Sequence[CanaryScore]) -> list[Exposure]:
    """The canaries by how often they were planted."""
    return [
        Exposure(
            repetitions,
            float(np.mean([score.seen for score in alike])),
            len(alike),
            float(np.mean([score.exposure for score in alike])),
            math.log2(NUM_CODES),
            float(np.mean([score.is_repeated for score in alike])),
        )
        for repetitions in sorted({score.repetitions for score in scores})
        for alike in [[score for score in scores if score.repetitions == repetitions]]
    ]


def _choices(tokenizer: Any, canary: Canary, codes: Sequence[str]) -> list[Choice]:
    """The answers with these codes; what they begin with in common counts as prompt, so that it is computed once."""
    rows = [_make_row(tokenizer, canary, code).ids for code in codes]
    common = next(place for place, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1)
    return [
        (rows[0][:common], [row[common:] for row in rows[start : start + _CODES_AT_A_TIME]])
        for start in range(0, len(rows), _CODES_AT_A_TIME)
    ]


def _make_row(tokenizer: Any, canary: Canary, code: str) -> Row:
    prompt = render_messages(MODES["fine-tuned"], [Message("user", canary.question)])
    ids, num_prompt = row_ids(tokenizer, prompt, Message("assistant", canary.answer(code)))
    return Row(canary.name, "closed-book", tuple(ids), num_prompt, ())


def _draw_code(rng: np.random.Generator) -> str:
    return "".join(str(digit) for digit in rng.integers(10, size=_DIGITS))


def _draw_others(rng: np.random.Generator, code: str) -> list[str]:
    others: dict[str, None] = {}
    while len(others) < NUM_CODES - 1:
        drawn = _draw_code(rng)
        if drawn != code:
            others[drawn] = None
    return list(others)
