"""What a model still knows of the world after training: general questions, asked without and with the adapter.

In: a PEFT model. Out: `Forgetting`, for the manifest and for the gate. Each of the fixed questions has four possible
answers. What is compared is how likely the right one is *among the four*: an adapter that only learned another style
(longer sentences, another way to begin) makes all four less likely alike and is not blamed for it. The questions never
change without their hash, so that a figure in an old manifest is not taken for one of today.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bakeoff.adapters import Check
from bakeoff.chat_template import prompt_ids
from bakeoff.records import Message
from training.gate.intervals import paired_interval
from training.gate.scores import Choice, score_choices

MARGIN = 0.5
"""Nats of the right answer among four that an adapter may lose, in the mean over the questions."""
_QUESTIONS = Path(__file__).parent / "questions.jsonl"


class Question(Struct, frozen=True):
    """A general question with its right answer and three wrong ones."""

    kind: str
    """`fact`, `arithmetic`, `sense` or `instruction`."""
    question: str
    answer: str
    others: tuple[str, str, str]


class Forgetting(Struct, frozen=True):
    """General questions before and after."""

    questions_sha256: str
    """Of the set of questions; figures of another set cannot be compared."""
    num_questions: int
    accuracy_base: float
    """Share of the questions whose right answer is the likeliest of the four; 0.25 is chance."""
    accuracy: float
    nats_base: float
    """Per token of the right answers; style counts here."""
    nats: float
    lost: float
    """Mean fall of the log-probability of the right answer among the four, nats; negative: it rose."""
    lost_low: float
    lost_high: float
    """Ends of the 95% interval, paired by question."""


def read_questions() -> tuple[list[Question], str]:
    """The questions, and the hash of their file."""
    content = _QUESTIONS.read_bytes()
    questions = [msgspec.json.decode(line, type=Question) for line in content.splitlines()]
    return questions, hashlib.sha256(content).hexdigest()


def measure_forgetting(model: Any, tokenizer: Any) -> Forgetting:
    """Ask the general questions of the model with its active adapter, and without.

    Args:
        model: a PEFT model with an adapter, as `training.model.load_model` makes it; left as it was.
        tokenizer: of the base model, with its chat template.
    """
    with model.disable_adapter():
        base = answer_questions(model, tokenizer)
    return compare_answers(base, answer_questions(model, tokenizer))


class Answers(Struct, frozen=True):
    """How a model finds the four answers of every question."""

    among: NDArray[np.float64]
    """(questions,) log-probability of the right answer among the four, nats."""
    nats: NDArray[np.float64]
    """(questions,) of the right answer by itself, per token."""
    is_right: NDArray[np.bool_]
    """(questions,)"""


def answer_questions(model: Any, tokenizer: Any) -> Answers:
    """Score the four answers of every question."""
    questions, _ = read_questions()
    choices = [_render(tokenizer, question) for question in questions]
    scores = score_choices(model, choices)
    among = [own[0] - _log_sum(own) for own in scores]
    nats = [-own[0] / len(answers[0]) for own, (_, answers) in zip(scores, choices, strict=True)]
    is_right = [own[0] == max(own) for own in scores]
    return Answers(np.array(among), np.array(nats), np.array(is_right))


def compare_answers(base: Answers, adapted: Answers) -> Forgetting:
    """What was lost between the two, question by question."""
    questions, sha256 = read_questions()
    lost = base.among - adapted.among
    low, high = paired_interval(lost)
    return Forgetting(
        sha256,
        len(questions),
        float(base.is_right.mean()),
        float(adapted.is_right.mean()),
        float(base.nats.mean()),
        float(adapted.nats.mean()),
        float(lost.mean()),
        low,
        high,
    )


def check_forgetting(forgetting: Forgetting, margin: float = MARGIN) -> Check:
    """Whether no more was lost than the margin, with 95% confidence."""
    passed = forgetting.lost_high < margin
    sentence = (
        f"{forgetting.num_questions} general questions: {forgetting.accuracy:.0%} right, "
        f"{forgetting.accuracy_base:.0%} before; the right answer lost {forgetting.lost:+.2f} nats among four "
        f"(95% interval {forgetting.lost_low:+.2f} to {forgetting.lost_high:+.2f}, whose upper end has to be below "
        f"{margin:.2f})"
    )
    if not passed:
        sentence += "; it has unlearned too much: lower learning_rate, max_epochs or lora_r and train again"
    figures = {
        "accuracy": forgetting.accuracy,
        "accuracy_base": forgetting.accuracy_base,
        "lost": forgetting.lost,
        "lost_high": forgetting.lost_high,
        "margin": margin,
    }
    return Check("forgetting", passed, sentence, figures)


def _render(tokenizer: Any, question: Question) -> Choice:
    prompt = prompt_ids(tokenizer, [Message("user", question.question)])
    answers = (question.answer, *question.others)
    return prompt, [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]


def _log_sum(scores: Sequence[float]) -> float:
    highest = max(scores)
    return highest + math.log(sum(math.exp(score - highest) for score in scores))
