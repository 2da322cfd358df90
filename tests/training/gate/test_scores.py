"""Scores of rows, and of several answers at once, are those that the model gives one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bakeoff.chat_template import prompt_ids
from bakeoff.records import Message
from training.attention import register_attention
from training.gate.gate import CANDIDATE, load_sides, using
from training.gate.rows import make_gate_rows
from training.gate.scores import score_choices, score_rows
from training.model import label_loss
from training.rows import Row


@pytest.fixture(scope="module")
def model(home: Any, model_dir: Path) -> Any:
    """float32, with the attention of training and an adapter."""
    model = load_sides(model_dir, home.folder(home.good), None)
    model.get_base_model().set_attn_implementation(register_attention())
    return model


@pytest.fixture(scope="module")
def rows(home: Any, tokenizer: Any) -> tuple[Row, ...]:
    examples = [*home.train[:4], *home.validation[:4]]
    return make_gate_rows(examples, tokenizer, lambda questions: [[] for _ in questions]).validation


def test_a_batch_gives_each_row_its_own_loss(model: Any, rows: tuple[Row, ...]) -> None:
    found = score_rows(model, rows)
    with torch.inference_mode():
        alone = [label_loss(model, [row]) for row in rows]
    assert [score.example_id for score in found] == [row.example_id for row in rows]
    assert [score.num_labels for score in found] == [num_labels for _, num_labels in alone]
    assert [score.nats for score in found] == pytest.approx([float(loss) / count for loss, count in alone], abs=1e-4)


def test_greedy_means_what_greedy_decoding_writes(model: Any, rows: tuple[Row, ...]) -> None:
    found = []
    model.get_base_model().set_attn_implementation("sdpa")  # the attention of training has no cache
    for row in rows:
        prompt = torch.tensor([row.ids[: row.num_prompt]])
        with torch.inference_mode():
            written = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=len(row.ids) - row.num_prompt,
                do_sample=False,
            )
        found.append(tuple(written[0].tolist()) == row.ids)
    model.get_base_model().set_attn_implementation(register_attention())
    assert [score.is_greedy for score in score_rows(model, rows)] == found
    assert len(set(found)) == 2, "these rows cannot tell the two apart"


def test_answers_packed_into_one_pass_do_not_see_each_other(model: Any, tokenizer: Any) -> None:
    def tokens(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    choices = [
        (prompt_ids(tokenizer, [Message("user", question)]), [tokens(answer) for answer in answers])
        for question, answers in (
            ("What is the capital of France?", ("Paris", "The city of Rome", "I do not know that")),
            ("Where do fish live?", ("In water", "In trees")),
        )
    ]
    together = score_choices(model, choices)
    alone = [[score_choices(model, [(prompt, [answer])])[0][0] for answer in answers] for prompt, answers in choices]
    by_itself = []
    for prompt, answers in choices:
        for answer in answers:
            row = Row("x", "closed-book", (*prompt, *answer), len(prompt), ())
            with torch.inference_mode():
                by_itself.append(-float(label_loss(model, [row])[0]))
    assert np.concatenate(together) == pytest.approx(np.concatenate(alone), abs=1e-3)
    assert np.concatenate(together) == pytest.approx(by_itself, abs=1e-3)


def test_sides_of_one_model_are_the_adapter_and_the_bare_base(model: Any, rows: tuple[Row, ...]) -> None:
    with using(model, None):
        base = np.mean([score.nats for score in score_rows(model, rows)])
    with using(model, CANDIDATE):
        adapted = np.mean([score.nats for score in score_rows(model, rows)])
    assert adapted < base - 0.3
