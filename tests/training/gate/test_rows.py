"""What a gate looks at: never what one of the two has learned from, and both kinds where documents are known."""

from collections.abc import Sequence
from typing import Any

from bakeoff.records import Example
from training.gate.rows import hold_out, make_gate_rows
from training.rows import FindPassages


def named(*ids: str) -> list[Example]:
    return [Example(name, name, name) for name in ids]


def lineage(*ids: str) -> dict[str, Any]:
    return {"lineage": {"documents": [], "examples": list(ids)}}


def test_nothing_that_either_side_has_learned_from_is_held_out() -> None:
    found = hold_out(named("v1", "v2"), named("t1", "t2", "t3"), [lineage("t1"), lineage("v1", "t2")])
    assert [example.id for example in found] == ["v2", "t3"]


def test_an_example_counts_once_and_validation_comes_first() -> None:
    found = hold_out(named("b"), named("a", "b"), [{}])
    assert [example.id for example in found] == ["b", "a"]


def test_both_kinds_of_rows_and_a_few_of_each_as_probes(
    examples: list[Example], find_passages: FindPassages, tokenizer: Any
) -> None:
    rows = make_gate_rows(examples, tokenizer, find_passages, max_examples=12)
    kinds = [row.kind for row in rows.validation]
    assert kinds.count("closed-book") == 12
    assert kinds.count("passages") == 12
    assert [row.kind for row in rows.probes] == ["closed-book"] * 6 + ["passages"] * 2
    assert {row.example_id for row in rows.validation} == {example.id for example in examples[:12]}


def test_examples_without_documents_are_not_searched_for(examples: list[Example], tokenizer: Any) -> None:
    def refuse(_: list[str]) -> Sequence[Any]:
        raise AssertionError("searched")

    bare = [Example(example.id, example.question, example.answer) for example in examples]
    assert {row.kind for row in make_gate_rows(bare, tokenizer, refuse).validation} == {"closed-book"}
    assert make_gate_rows([], tokenizer, refuse).validation == ()
