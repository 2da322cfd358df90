"""Key values: the same number in another dress, the traps, and what is left out."""

import pytest

from eval.key_values import Value, find_values, key_values

SAME = [
    ("It costs £10.", "10 GBP"),
    ("It costs 10 pounds.", "£10"),
    ("GBP 20 per stay", "a deposit of £20"),
    ("It costs $1,200.", "1200"),
    ("1,200 dollars", "US$1200"),
    ("45$ per day", "forty five dollars"),
    ("USD78.66 per day", "$78.66"),
    ("$55.00 per day", "55 dollars"),
    ("€5", "5 euros"),
    ("3:30pm", "15:30"),
    ("3.30 pm", "3:30 P.M."),
    ("3.30 pm", "15:30"),
    ("7 AM", "7:00 am"),
    ("11am", "11 a.m."),
    ("12:00 p.m., noon", "at noon"),
    ("12 noon", "12:00"),
    ("12:00 am", "midnight"),
    ("13:00", "1 pm"),
    ("3 o'clock", "3 pm"),
    ("3:00", "3 pm"),
    ("open 24/7", "24 hours"),
    ("24-hour desk", "24 hours"),
    ("two elevators", "2 elevators"),
    ("twelve rooms", "12 rooms"),
    ("there are 2 lifts", "two"),
    ("18+ only", "18 years"),
    ("the 2nd floor", "floor 2"),
    ("2.99 fee", "$2.99"),
    ("10%", "10 percent"),
    ("about 5km away", "5 km"),
]
DIFFERENT = [
    ("£10", "$10"),
    ("10 GBP", "10 EUR"),
    ("3 pm", "3 am"),
    ("3 pm", "3"),
    ("15:30", "3:30 am"),
    ("12 am", "12 pm"),
    ("$1,200", "1 200 3"),
    ("$12", "$1.2"),
    ("3:30pm", "3 pm"),
    ("$65", "$650"),
    ("14.95", "14"),
    ("1200", "12:00"),
]


@pytest.mark.parametrize(("target", "completion"), SAME)
def test_the_same_value_counts_however_it_is_written(target: str, completion: str) -> None:
    assert key_values(completion, "How much or when?", [target]) == 1.0


@pytest.mark.parametrize(("target", "completion"), DIFFERENT)
def test_another_value_does_not_count(target: str, completion: str) -> None:
    assert key_values(completion, "How much or when?", [target]) == 0.0


def test_the_open_start_of_a_range_is_a_time() -> None:
    assert find_values("8 to 10:30 am") == {Value(480, "clock"), Value(630, "time")}
    assert key_values("from 8:00 am to 10:30 am", "When?", ["8 - 10:30 am"]) == 1.0
    assert key_values("from 10:30 am", "When?", ["8 - 10:30 am"]) == 0.5


def test_the_share_of_the_values_is_the_score() -> None:
    target = "$12 for adults and $8 for children"
    assert key_values("Adults pay 12 dollars.", "How much is it?", [target]) == 0.5


def test_values_of_the_question_prove_nothing() -> None:
    assert key_values("Yes, 24 hours.", "Is the desk open 24 hours?", ["Open 24 hours."]) is None
    assert key_values("Yes, 24 hours.", "Is it open 24 hours?", ["24 hours, for $5"]) == 0.0


def test_no_value_in_any_target_is_left_out() -> None:
    assert key_values("It costs $5.", "How much?", ["It is cheap."]) is None


def test_a_target_without_values_cannot_win() -> None:
    assert key_values("It costs something.", "How much?", ["It costs something.", "It costs $5."]) == 0.0


def test_the_best_target_with_values_counts() -> None:
    assert key_values("$5", "How much?", ["$5 or $7 or $9", "It is $5."]) == 1.0


def test_one_is_a_pronoun_in_a_target_and_a_number_in_a_completion() -> None:
    assert key_values("No.", "Is it good?", ["It is one of the best."]) is None
    assert key_values("There is one lift.", "How many lifts?", ["1 lift"]) == 1.0


def test_digits_in_names_are_not_values() -> None:
    assert find_values("Museum of 3D Illusions, room B12") == set()


def test_a_month_is_not_a_time() -> None:
    assert find_values("$7 a month") == {Value(7, "USD")}
