"""Rows of several tasks in one adapter, and rows with worked examples: as served, by weight, counted."""

from typing import Any

import msgspec
import pytest

from bakeoff.chat_template import prompt_ids
from bakeoff.errors import BadInput
from bakeoff.modes import MODES
from bakeoff.prompts import render_messages
from bakeoff.records import Example, Message
from bakeoff.tasks import TASKS, find_task
from training.recipe import Recipe
from training.rows import FindPassages, RowSet, make_rows

OF_TASKS = {
    "classification": ("My room is cold.", "heating"),
    "entities": ("Ann comes to the Fir Hotel on 3 May.", "Ann, Fir Hotel, 3 May"),
    "sentiment": ("The staff were lovely.", "positive"),
    "summarisation": ("The Fir Hotel has ten rooms. It lies by the sea. Guests like it.", "A small hotel by the sea."),
}


@pytest.fixture
def mixed(examples: list[Example]) -> list[Example]:
    """The 24 questions, and six examples of each other task."""
    return examples + [
        Example(f"{task}-{number}", f"{text} {number}", target, tags={"task": task})
        for task, (text, target) in OF_TASKS.items()
        for number in range(6)
    ]


def _make(examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe, **more: Any) -> RowSet:
    budget = recipe.token_budget
    return make_rows(
        examples, tokenizer, find_passages, recipe, budget=budget, epochs=recipe.max_epochs, seed=0, **more
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_worded_alike_in_every_mode_and_only_the_prompts_end_names_it(task: str) -> None:
    conversation = [Message("user", "Some text")]
    for mode in MODES.values():
        prompt = render_messages(mode, conversation, task=find_task(task))[-1].content
        assert prompt.endswith(f"{TASKS[task].asks}: Some text\n{TASKS[task].gives}:")
        assert (TASKS[task].instruction in prompt) == (not mode.uses_retrieval or task != "answer")


def test_rows_of_a_task_are_its_served_prompt_and_its_target(
    mixed: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    recipe = msgspec.structs.replace(recipe, passages_share=0.0, token_budget=10_000)
    rows = [row for row in _make(mixed, tokenizer, find_passages, recipe).rows if row.task != "answer"]
    assert {row.task for row in rows} == set(OF_TASKS)
    by_id = {example.id: example for example in mixed}
    for row in rows:
        example = by_id[row.example_id]
        messages = render_messages(
            MODES["fine-tuned"], [Message("user", example.question)], task=find_task(example.task)
        )
        assert list(row.ids[: row.num_prompt]) == prompt_ids(tokenizer, messages)
        assert tokenizer.decode(row.ids[row.num_prompt :]) == example.answer + tokenizer.eos_token


def test_budget_is_divided_by_the_tasks_weights(
    mixed: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    weights = {"answer": 2.0, "sentiment": 1.0, "summarisation": 1.0}
    recipe = msgspec.structs.replace(recipe, task_weights=weights, max_epochs=20, passages_share=0.0)
    rows = _make(mixed, tokenizer, find_passages, recipe).rows
    spent = {task: sum(len(row.ids) for row in rows if row.task == task) for task in {row.task for row in rows}}
    assert spent.keys() == weights.keys()
    total = sum(spent.values())
    for task, weight in weights.items():
        assert spent[task] / total == pytest.approx(weight / 4, abs=0.05)


def test_weight_of_a_task_without_examples_is_refused(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    recipe = msgspec.structs.replace(recipe, task_weights={"answer": 1.0, "sentiment": 1.0})
    with pytest.raises(BadInput, match="gives 'sentiment' the weight 1, but no example of this split has that task"):
        _make(examples, tokenizer, find_passages, recipe)


def test_few_shot_rows_are_what_the_mode_serves_and_name_their_shots(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    recipe = msgspec.structs.replace(recipe, few_shot_share=0.5, shots_per_row=2)

    def find_shots(example: Example) -> list[Example]:
        return [other for other in examples if other.id != example.id][:3]

    rows = [
        row
        for row in _make(examples, tokenizer, find_passages, recipe, find_shots=find_shots).rows
        if row.kind == "few-shot"
    ]
    assert rows
    by_id = {example.id: example for example in examples}
    for row in rows:
        example = by_id[row.example_id]
        shots = find_shots(example)[-2:]
        assert row.shot_ids == tuple(shot.id for shot in shots)
        messages = render_messages(MODES["few-shot"], [Message("user", example.question)], shots=shots)
        assert list(row.ids[: row.num_prompt]) == prompt_ids(tokenizer, messages)


def test_callers_own_instruction_stands_in_the_row(tokenizer: Any, find_passages: FindPassages, recipe: Recipe) -> None:
    example = Example("one", "What is this?", "A test.", tags={"instruction": "Speak like a pirate."})
    (row,) = _make([example], tokenizer, find_passages, recipe).rows
    own = [Message("system", "Speak like a pirate."), Message("user", "What is this?")]
    assert list(row.ids[: row.num_prompt]) == prompt_ids(tokenizer, render_messages(MODES["fine-tuned"], own))
