import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn

from bakeoff.records import Example
from training.data.personal import find_personal, scrub, scrub_example


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Write to a.b+c@mail.example.co.uk.", "Write to [E-MAIL]."),
        ("Call 020 7946 0018 or +49 30 901820.", "Call [PHONE] or [PHONE]."),
        ("+1 415-555-2671 1908", "[PHONE] 1908"),
        ("My card 4111 1111 1111 1111 is lost", "My card [CARD] is lost"),
        ("Pay to GB82 WEST 1234 5698 7654 32 PLEASE", "Pay to [IBAN] PLEASE"),
        ("from 192.168.17.40 and 2001:db8:85a3::8a2e:370:7334", "from [IP ADDRESS] and [IP ADDRESS]"),
        ("SSN 536-90-4399, NHS 943 476 5919", "SSN [NATIONAL ID], NHS [NATIONAL ID]"),
        ("I see BSN 111222333 here", "I see BSN [NATIONAL ID] here"),
        ("Meine IBAN: DE89370400440532013000", "Meine IBAN: [IBAN]"),
    ],
)
def test_personal_data_is_replaced_by_its_kind(text: str, clean: str) -> None:
    assert scrub(text) == clean
    assert scrub(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "Open 10:00:30 to 17:30, 1979-80, at 100,000 feet",
        "Card 4111 1111 1111 1112 has a wrong check digit",
        "DE89370400440532013001 is no account",
        "Version 1.2.3.4 and section 10.2.3.4 of 2021",
        "PMID 23347337, order 536904399, 943 476 5919",
        "@home, me@ and @you",
        "room 415 555 2671",
        "300.1.2.3",
    ],
)
def test_numbers_that_are_nobodys_stay(text: str) -> None:
    assert find_personal(text) == ()


@given(
    st.text(alphabet="abc XYZ\n.,?", max_size=20),
    st.integers(10**13, 10**14 - 1),
    st.text(alphabet=" abc.", max_size=9),
)
def test_every_card_is_found_wherever_it_stands(before: str, digits: int, after: str) -> None:
    number = f"4{digits}"
    card = number + luhn.calc_check_digit(number)
    assert "[CARD]" in scrub(f"{before} {card} {after}")
    assert card not in scrub(f"{before} {card} {after}")


@given(st.integers(0, 10**18 - 1))
def test_every_german_iban_is_found(account: int) -> None:
    number = f"{account:018d}"
    code = "DE" + iban.calc_check_digits(f"DE00{number}") + number
    assert scrub(f"to {iban.format(code)} now") == "to [IBAN] now"


@given(st.text(max_size=60))
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    assert scrub(scrub(text)) == scrub(text)


def test_an_example_is_scrubbed_in_every_text() -> None:
    example = Example(
        "a@b.example", "I am a@b.example", "c@d.example", ("c@d.example",), ("d",), {"history": [{"x": "e@f.example"}]}
    )
    clean = scrub_example(example)
    assert clean.id == "a@b.example"
    assert (clean.question, clean.answer, clean.answers) == ("I am [E-MAIL]", "[E-MAIL]", ("[E-MAIL]",))
    assert clean.tags == {"history": [{"x": "[E-MAIL]"}]}
