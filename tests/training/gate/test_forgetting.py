"""General questions: sound ones, kept by an adapter of a gentle training, lost by a wrecked one."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from training.gate.forgetting import Forgetting, check_forgetting, measure_forgetting, read_questions
from training.gate.gate import compute_as_in_training, forgetting_of, load_sides


def test_every_question_has_four_answers_of_which_one_is_right() -> None:
    questions, _ = read_questions()
    assert len(questions) >= 60
    assert len({question.question for question in questions}) == len(questions)
    assert {question.kind for question in questions} == {"fact", "arithmetic", "sense", "instruction"}
    for question in questions:
        assert len({question.answer, *question.others}) == 4, question


@pytest.fixture(scope="module")
def measured(home: Any, model_dir: Path, tokenizer: Any) -> dict[str, Forgetting]:
    found = {}
    for name in ("good", "wrecked"):
        model = load_sides(model_dir, home.folder(getattr(home, name)), None)
        compute_as_in_training(model)
        found[name] = measure_forgetting(model, tokenizer)
    return found


def test_a_gently_trained_adapter_keeps_what_the_base_model_knows(measured: dict[str, Forgetting]) -> None:
    found = measured["good"]
    assert found.accuracy_base > 0.6, "the questions are too hard for this model to lose anything"
    assert found.lost_low < found.lost < found.lost_high
    check = check_forgetting(found)
    assert check.passed, check.sentence


def test_a_wrecked_adapter_has_forgotten(measured: dict[str, Forgetting]) -> None:
    found = measured["wrecked"]
    assert found.accuracy < 0.45
    check = check_forgetting(found)
    assert not check.passed
    assert "unlearned" in check.sentence


def test_a_measure_in_the_manifest_counts_unless_the_questions_have_changed(measured: dict[str, Forgetting]) -> None:
    found = measured["good"]
    assert forgetting_of({"forgetting": msgspec.to_builtins(found)}) == found
    other = msgspec.structs.replace(found, questions_sha256="0")
    assert forgetting_of({"forgetting": msgspec.to_builtins(other)}) is None
    assert forgetting_of({}) is None
