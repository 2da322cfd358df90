"""Polarity read out of free text: one line per trap, and what it does on statements that answer something else."""

import pytest

from bakeoff.records import Example
from eval.polarity import detect_polarity, polarity

PETS = "Worth House: Are pets allowed?"
WIFI = "Does Worth House have wifi?"
PARKING = "Is there parking at the Worth House?"
SMOKING = "Can I smoke at Worth House?"
FREE_PARKING = "Is parking free at the Worth House?"
WIFI_FEE = "Worth House: Is there a charge for wifi?"
RESERVATION = "Do I need a reservation to park at the Worth House?"
CARDS = "Tacko: Do you accept credit cards?"

CASES = [
    # the first word says it
    (PETS, "Yes, pets are allowed.", "yes"),
    (PETS, "No, pets are not allowed.", "no"),
    (PETS, "Yes.", "yes"),
    (PETS, "no", "no"),
    (PETS, "Nope, no pets whatsoever.", "no"),
    (PETS, "YES, they are.", "yes"),
    (PETS, "The answer is: No.", "no"),
    (PETS, "The answer is: Yes.", "yes"),
    (PETS, "Absolutely! We love them.", "yes"),
    # negation that stands elsewhere
    (PETS, "Unfortunately pets are not allowed.", "no"),
    (PETS, "Worth House has a very strict NO PET policy.", "no"),
    (WIFI, "There isn't any wifi.", "no"),
    (WIFI, "There isn’t any wifi [1].", "no"),
    (WIFI, "They do not, sadly.", "no"),
    (WIFI, "I'm sorry, but Worth House does not currently offer wifi.", "no"),
    (WIFI, "None of the rooms have Wi-Fi.", "no"),
    (WIFI, "The house lacks wifi.", "no"),
    (WIFI, "Wi-Fi is unavailable there.", "no"),
    (PETS, "It is pet-free.", "no"),
    (PETS, "Pets are strictly prohibited.", "no"),
    (PETS, "You cannot bring your dog to Worth House.", "no"),
    (SMOKING, "This is a non-smoking house.", "no"),
    (SMOKING, "It is a smoke-free property.", "no"),
    (WIFI, "Worth House no longer offers wifi.", "no"),
    (WIFI, "Sadly not.", "no"),
    # a negation that negates nothing here
    (PETS, "Pets are allowed at no extra charge.", "yes"),
    (WIFI, "Wifi is available without any additional fee.", "yes"),
    (PETS, "No problem, pets are welcome.", "yes"),
    (PETS, "Not only are pets allowed, they get a treat.", "yes"),
    (PETS, "Pets are not prohibited.", "yes"),
    (PARKING, "Parking is available, no reservation needed.", "yes"),
    (PARKING, "There is no doubt that parking is available.", "yes"),
    (WIFI, "There is wifi but it is not free.", "yes"),
    (WIFI, "If you do not have a laptop, you can use the wifi in the lobby.", "yes"),
    ("Does Tacko have gluten free options?", "Tacko has gluten-free options.", "yes"),
    ("Is Worth House smoke free?", "Worth House is a smoke-free property.", "yes"),
    # a statement without yes or no
    (WIFI, "Worth House offers free WiFi in all areas.", "yes"),
    (WIFI, "They do.", "yes"),
    (WIFI, "It does indeed.", "yes"),
    (PARKING, "You can park your car on the street.", "yes"),
    (PETS, "Let me check that for you. Ok so it says that dogs are allowed here.", "yes"),
    (PETS, "Sure, let me check that for you. It says that dogs are not allowed here.", "no"),
    # another clause speaks of something else
    (PARKING, "There is no pool, but there is parking.", "yes"),
    (WIFI, "They have parking but no wifi.", "no"),
    (PARKING, "No, they do not offer parking. Street parking is available nearby.", "no"),
    (PETS, "Pets are allowed. However, pets are not allowed in the breakfast room.", "yes"),
    # money, need, payment
    (FREE_PARKING, "There is no charge for parking.", "yes"),
    (FREE_PARKING, "Parking costs $20 per day.", "no"),
    (FREE_PARKING, "Parking is not free.", "no"),
    (FREE_PARKING, "Parking is available for a fee.", "no"),
    (WIFI_FEE, "WiFi is free of charge.", "no"),
    (WIFI_FEE, "There is a fee of 5 GBP.", "yes"),
    (WIFI_FEE, "They do not charge for wifi.", "no"),
    (RESERVATION, "No reservation is required.", "no"),
    (RESERVATION, "Reservations are not needed for parking.", "no"),
    (RESERVATION, "A reservation is necessary.", "yes"),
    (CARDS, "They only accept cash.", "no"),
    ("Is the museum open on Sunday?", "It is closed on Sunday.", "no"),
    ("Does Bloom have outdoor seating?", "They have indoor seating.", "no"),
    ("Does Bloom have outdoor seating?", "They have both indoor and outdoor seating.", "yes"),
    # neither
    (PETS, "", None),
    (PETS, "I don't know.", None),
    (PETS, "I'm not sure whether pets are allowed.", None),
    (PETS, "Please contact the hotel about pets.", None),
    (PETS, "Are pets allowed at Worth House?", None),
    (PETS, "Worth House is a guest house in Cambridge.", None),
    (WIFI, "The house is located near the river and was built in 1890.", None),
    (PETS, "Passage: Worth House (guest house, Cambridge). Yes, the rooms are heated.", None),
    # both
    (PETS, "Yes, pets are not allowed.", None),
    (PETS, "No, pets are allowed.", None),
    (PETS, "Pets are allowed. Pets are not allowed.", None),
    (WIFI, "There is wifi. They do not have wifi.", None),
]


@pytest.mark.parametrize(("question", "completion", "expected"), CASES, ids=[case[1][:60] or "empty" for case in CASES])
def test_polarity_is_read_wherever_it_stands(question: str, completion: str, expected: str | None) -> None:
    assert detect_polarity(completion, question) == expected


@pytest.mark.parametrize(
    ("completion", "tag", "score"),
    [
        ("Pets are not allowed.", "no", 1.0),
        ("Pets are not allowed.", "yes", 0.0),
        ("I don't know.", "no", 0.0),
        ("Yes, pets are not allowed.", "yes", 0.0),
        ("Pets are allowed.", None, None),
        ("Pets are allowed.", "maybe", None),
    ],
)
def test_an_answer_that_says_neither_is_wrong_and_an_untagged_example_is_left_out(
    completion: str, tag: str | None, score: float | None
) -> None:
    example = Example("1", PETS, "Pets are allowed.", tags={"yes_no": tag})
    assert polarity(completion, example) == score


def test_no_tag_at_all_is_left_out() -> None:
    assert polarity("Pets are allowed.", Example("1", PETS, "Pets are allowed.")) is None
