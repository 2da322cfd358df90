import pytest

from bakeoff.records import Message
from retrieval.followup import leans_on_others, search_text


def asked(*questions: str) -> str:
    turns = [turn for question in questions for turn in (Message("user", question), Message("assistant", "Yes."))]
    return search_text(turns[:-1])


@pytest.mark.parametrize(
    "question",
    [
        "Is it open on Sundays?",
        "And on Sundays?",
        "What about breakfast at the restaurant?",
        "Do they take credit cards from other countries?",
        "Sundays?",
        "Can I get there by bus from the main station?",
    ],
)
def test_a_question_that_points_back_is_searched_with_the_one_before(question: str) -> None:
    assert leans_on_others(question)
    assert asked("Where is the Acorn Guest House?", question) == f"Where is the Acorn Guest House?\n{question}"


@pytest.mark.parametrize(
    "question",
    [
        "Is there free parking at the Avalon?",
        "Does the Avalon have a swimming pool?",
        "Are there family rooms at the Acorn Guest House?",
        "Is it possible to check in late at the Avalon?",
    ],
)
def test_a_question_that_stands_alone_is_searched_alone(question: str) -> None:
    assert not leans_on_others(question)
    assert asked("Where is the Acorn Guest House?", question) == question


def test_questions_are_taken_back_to_one_that_stands_alone_and_no_further() -> None:
    first, second, third = "Is the pool of the Avalon heated?", "Where is the Acorn House in town?", "Is it quiet?"
    assert asked(first, second, third, "And cheap?") == f"{second}\n{third}\nAnd cheap?"


def test_a_first_question_is_searched_as_it_is() -> None:
    assert asked("And it?") == "And it?"
