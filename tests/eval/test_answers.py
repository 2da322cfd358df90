"""The record of a run survives a crash, and its figures come from it."""

from pathlib import Path

import msgspec

from bakeoff.records import Example
from eval.answers import Answer, append_answer, read_answers, write_answers
from eval.summary import rescore_answers, summarise_answers


def make_answer(example_id: str, **changes: object) -> Answer:
    answer = Answer(
        mode="base",
        example_id=example_id,
        question="Is there a pool?",
        targets=("Yes.",),
        completion="Yes.",
        passage_ids=(),
        citations=(),
        scores={},
        latency_ms=100.0,
        first_token_ms=10.0,
        prompt_tokens=20,
        completion_tokens=2,
    )
    return msgspec.structs.replace(answer, **changes)


def test_what_follows_a_torn_line_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    append_answer(path, make_answer("e1"))
    with path.open("ab") as file:
        file.write(b'{"mode":"base","exam')
    assert set(read_answers(path)) == {("base", "e1")}
    append_answer(path, make_answer("e2"))
    assert set(read_answers(path)) == {("base", "e1"), ("base", "e2")}


def test_a_file_that_is_torn_in_its_first_line_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"mode":')
    assert read_answers(path) == {}
    assert path.read_bytes() == b""


def test_the_last_line_for_a_question_counts(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_answers(path, [make_answer("e1", error="broke"), make_answer("e1")])
    assert read_answers(path)["base", "e1"].error is None


def test_latency_is_a_median_and_tokens_are_means() -> None:
    latencies = (10.0, 20.0, 900.0)
    answers = {
        ("base", f"e{number}"): make_answer(f"e{number}", latency_ms=latency, prompt_tokens=number)
        for number, latency in enumerate(latencies)
    }
    metrics = summarise_answers("r", answers, ["base"], seed=0).modes["base"]
    assert (metrics["latency_ms"].value, metrics["prompt_tokens"].value) == (20.0, 1.0)


def test_an_example_that_left_the_sample_leaves_the_figures() -> None:
    answers = {("base", name): make_answer(name) for name in ("e1", "e2")}
    scored = rescore_answers(answers, ["base"], [Example("e2", "Is there a pool?", "Yes.")])
    assert list(scored) == [("base", "e2")]
    assert scored["base", "e2"].scores["exact_match"] == 1.0
