"""Judgements -> token ids, by the renderer and the chat template that serving uses, and nothing else.

The trainers of trl would render and tokenise by themselves. They are handed these ids instead, so that what is learned
is what is asked, to the token.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from bakeoff.chat_template import prompt_ids, row_ids
from bakeoff.modes import MODES
from bakeoff.prompts import render_messages
from bakeoff.records import Message
from training.preferences.judgements import Context, Thumb
from training.preferences.pairs import Pair


class Answer(Struct, frozen=True):
    """One answer after its prompt, in token ids."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    """With the end of the turn."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and completion."""
        return (*self.prompt, *self.completion)


class PairRow(Struct, frozen=True):
    """A pair in token ids."""

    chosen: Answer
    rejected: Answer
    weight: float
    question: str


class ThumbRow(Struct, frozen=True):
    """A thumb in token ids."""

    answer: Answer
    is_up: bool
    question: str


def render_context(context: Context) -> tuple[Message, ...]:
    """The messages that serving puts before the model."""
    return render_messages(MODES[context.mode], [Message("user", context.question)], context.passages)


def encode_context(tokenizer: Any, context: Context) -> tuple[int, ...]:
    """The prompt's token ids, as served."""
    return tuple(prompt_ids(tokenizer, render_context(context)))


def encode_answer(tokenizer: Any, context: Context, completion: str) -> Answer:
    """Prompt and answer in token ids."""
    ids, num_prompt = row_ids(tokenizer, render_context(context), Message("assistant", completion))
    return Answer(tuple(ids[:num_prompt]), tuple(ids[num_prompt:]))


def encode_pairs(tokenizer: Any, pairs: Iterable[Pair], max_row_tokens: int) -> tuple[list[PairRow], int]:
    """Encode pairs.

    Returns:
        (rows, how many pairs were left out because one of their answers makes a row longer than `max_row_tokens`).
    """
    rows: list[PairRow] = []
    num_too_long = 0
    for pair in pairs:
        chosen, rejected = (encode_answer(tokenizer, pair.context, text) for text in (pair.chosen, pair.rejected))
        if max(len(chosen.ids), len(rejected.ids)) > max_row_tokens:
            num_too_long += 1
        else:
            rows.append(PairRow(chosen, rejected, pair.weight, pair.context.question))
    return rows, num_too_long


def encode_thumbs(tokenizer: Any, thumbs: Sequence[Thumb], max_row_tokens: int) -> tuple[list[ThumbRow], int]:
    """Encode thumbs; returns what `encode_pairs` does."""
    rows = [
        ThumbRow(encode_answer(tokenizer, thumb.context, thumb.completion), thumb.is_up, thumb.context.question)
        for thumb in thumbs
    ]
    kept = [row for row in rows if len(row.answer.ids) <= max_row_tokens]
    return kept, len(rows) - len(kept)
