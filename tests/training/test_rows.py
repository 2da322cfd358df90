"""Rows: equal to what is served, within the budget, the same for the same seed."""

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from bakeoff.chat_template import prompt_ids
from bakeoff.errors import BadInput
from bakeoff.modes import MODES
from bakeoff.prompts import ABSTENTION, render_messages
from bakeoff.records import Example, Message, Passage
from training.recipe import Recipe
from training.rows import FindPassages, RowSet, choose_passages, make_rows


def _make(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe, seed: int = 0, **knobs: Any
) -> RowSet:
    recipe = msgspec.structs.replace(recipe, **knobs)
    return make_rows(
        examples,
        tokenizer,
        find_passages,
        recipe,
        budget=recipe.token_budget,
        epochs=recipe.max_epochs,
        seed=seed,
    )


def test_served_prompt_is_a_prefix_of_the_row_and_labels_are_the_target(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    """What `fine-tuned` and `hybrid` put before the model, computed here as the service does."""
    by_id = {example.id: example for example in examples}
    rows = _make(examples, tokenizer, find_passages, recipe).rows
    assert {row.kind for row in rows} == {"closed-book", "passages"}
    for row in rows:
        example = by_id[row.example_id]
        mode = MODES["fine-tuned" if row.kind == "closed-book" else "hybrid"]
        found = {passage.document_id: passage for passage in find_passages([example.question])[0]}
        text = tokenizer.decode(row.ids[: row.num_prompt])
        passages = [found[document] for document in found if found[document].text in text]
        passages.sort(key=lambda passage: text.index(passage.text))
        served = prompt_ids(tokenizer, render_messages(mode, [Message("user", example.question)], passages))
        assert list(row.ids[: row.num_prompt]) == served
        marker = ""
        if row.kind == "passages":
            place = [passage.document_id for passage in passages].index(example.document_ids[0])
            marker = f" [{place + 1}]"
        assert tokenizer.decode(row.ids[row.num_prompt :]) == example.answer + marker + tokenizer.eos_token


def test_same_seed_gives_the_same_rows_and_another_seed_others(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    first = _make(examples, tokenizer, find_passages, recipe, seed=1)
    assert first == _make(examples[::-1], tokenizer, find_passages, recipe, seed=1)
    assert first != _make(examples, tokenizer, find_passages, recipe, seed=2)


def test_budget_and_share_are_kept_to_within_a_row(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    rows = _make(examples, tokenizer, find_passages, recipe, max_epochs=3)
    longest = max(len(row.ids) for row in rows.rows)
    with_passages = sum(len(row.ids) for row in rows.rows if row.kind == "passages")
    assert recipe.token_budget <= rows.num_tokens < recipe.token_budget + longest
    assert with_passages == pytest.approx(recipe.token_budget * recipe.passages_share, abs=longest)


def test_an_example_becomes_a_row_of_one_kind_once_per_epoch(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    for epochs in (1, 2):
        rows = _make(examples, tokenizer, find_passages, recipe, token_budget=100_000, max_epochs=epochs).rows
        for kind in ("closed-book", "passages"):
            drawn = [row.example_id for row in rows if row.kind == kind]
            assert sorted(drawn) == sorted([example.id for example in examples] * epochs)


def test_small_budget_does_not_search_for_every_question(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    many = [msgspec.structs.replace(example, id=f"{example.id}-{copy}") for copy in range(50) for example in examples]
    searched: list[str] = []

    def find(questions: list[str]) -> Any:
        searched.extend(questions)
        return find_passages(questions)

    _make(many, tokenizer, find, recipe)
    assert 0 < len(searched) < len(many) / 10


def test_without_known_documents_the_whole_budget_goes_to_closed_book_rows(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    unknown = [msgspec.structs.replace(example, document_ids=()) for example in examples]
    rows = _make(unknown, tokenizer, find_passages, recipe, token_budget=1000)
    assert {row.kind for row in rows.rows} == {"closed-book"}
    assert rows.num_tokens >= 1000


def test_question_whose_document_is_not_found_makes_no_row_with_passages(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    lost = examples[0]

    def find(questions: list[str]) -> list[list[Passage]]:
        return [
            [passage for passage in found if passage.document_id != lost.document_ids[0]]
            for found in find_passages(questions)
        ]

    rows = _make(examples, tokenizer, find, recipe, token_budget=100_000)
    assert lost.id not in {row.example_id for row in rows.rows if row.kind == "passages"}
    assert rows.num_without_gold == 4


def test_rows_without_gold_teach_the_abstention(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    rows = _make(examples, tokenizer, find_passages, recipe, no_gold_share=0.5, token_budget=100_000).rows
    by_id = {example.id: example for example in examples}
    no_gold = [row for row in rows if row.kind == "no-gold"]
    assert 4 < len(no_gold) < 20
    for row in no_gold:
        assert tokenizer.decode(row.ids[row.num_prompt :]) == f"{ABSTENTION}.{tokenizer.eos_token}"
        assert by_id[row.example_id].answer not in tokenizer.decode(row.ids)


def test_row_names_every_document_it_shows(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    for row in _make(examples, tokenizer, find_passages, recipe).rows:
        text = tokenizer.decode(row.ids[: row.num_prompt])
        shown = {f"doc-{hotel}" for hotel in ("Alder", "Birch", "Cedar", "Damson", "Elder", "Fir") if hotel in text}
        assert set(row.document_ids) == shown


def test_long_rows_are_left_out_and_counted(
    examples: list[Example], tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    rows = _make(examples, tokenizer, find_passages, recipe, max_row_tokens=100)
    assert {row.kind for row in rows.rows} == {"closed-book"}
    assert rows.num_too_long == len(examples)
    with pytest.raises(BadInput, match="max_row_tokens = 20"):
        _make(examples, tokenizer, find_passages, recipe, max_row_tokens=20)


def test_no_example_is_an_error_with_the_next_command(
    tokenizer: Any, find_passages: FindPassages, recipe: Recipe
) -> None:
    with pytest.raises(BadInput, match="bakeoff examples import"):
        _make([], tokenizer, find_passages, recipe)


def test_passages_of_a_row_keep_the_order_in_which_they_were_found(
    examples: list[Example], find_passages: FindPassages
) -> None:
    example = examples[-1]
    found = find_passages([example.question])[0]
    assert [passage.document_id for passage in found[:4]] == ["doc-Alder", "doc-Fir", "doc-Birch", "doc-Cedar"]
    assert choose_passages(found, example, 3, with_gold=True) == tuple(found[:3])
    assert choose_passages(found, example, 1, with_gold=True) == (found[1],)
    assert choose_passages(found, example, 2, with_gold=False) == (found[0], found[2])
    assert choose_passages(found[2:], example, 3, with_gold=True) == ()


def test_rows_and_recipes_need_no_torch() -> None:
    code = "import sys, training.rows, training.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
