import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.normalise import clean_text, fold_text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("par\u200bking\u2060", "parking"),
        ("\ufeffStart", "Start"),
        ("hyphen\u00adated", "hyphenated"),
        ("\u202eevil\u202c \u2066iso\u2069", "evil iso"),
        ("tag\U000e0069\U000e0067\U000e007f", "tag"),
        ("a\ufe00\ufe0f\U000e0100b", "ab"),
        ("bell\x07 nul\x00 c1\x9b del\x7f", "bell nul c1 del"),
        ("tab\tline\nfeed\fend", "tab\tline\nfeed\fend"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("e\u0301", "\u00e9"),
        ("\u3164\u115fx", "x"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("latin\u200djoined\u200c", "latinjoined"),
    ],
)
def test_what_shows_nothing_goes(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with the joiner its spelling asks for
        "\u0915\u094d\u200d\u0937",  # Hindi
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",  # a family
        "\u2600\ufe0f 1\ufe0f\u20e3",  # emoji forms
        "\u845b\U000e0100",  # a Han character's variant
        "\u0600\u0661",  # an Arabic number sign, which is seen
        "Plain, na\u00efve \u0442\u0435\u043a\u0441\u0442.",
    ],
)
def test_what_carries_meaning_stays(text: str) -> None:
    assert clean_text(text) == text


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)


@given(st.text(alphabet=st.characters(categories=("L", "N", "P"), exclude_characters="\u115f\u1160\u3164\uffa0")))
def test_no_letter_is_lost(text: str) -> None:
    assert clean_text(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("p\u0430rking", "parking"),  # Cyrillic a
        ("P\u0430\u0443P\u0430l and \u0440\u0430rk", "PayPal and park"),
        ("g\u03bfogle", "google"),  # Greek omicron
        ("\u043fap\u043a\u043e\u0432\u043a\u0430", "\u043f\u0430\u0440\u043a\u043e\u0432\u043a\u0430"),
        ("\uff26\uff55\uff4c\uff4c \ufb01ne \u2460", "Full fine 1"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),
        ("\u2600\ufe0f", "\u2600"),
    ],
)
def test_look_alikes_are_folded(text: str, folded: str) -> None:
    assert fold_text(text) == folded


@pytest.mark.parametrize(
    "text",
    [
        "\u043f\u0430\u0440\u043a\u043e\u0432\u043a\u0430 \u0441\u043e\u0441\u043d\u0430",
        "\u03ba\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1",
        "USB-\u043a\u0430\u0431\u0435\u043b\u044c",
        "\u0436\u0444R",
    ],
)
def test_true_words_of_other_scripts_stay(text: str) -> None:
    assert fold_text(text) == text


@given(st.text())
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold_text(fold_text(text)) == fold_text(text)


@pytest.mark.parametrize(("line", "least"), [("Plain text, with words.\n", 20), ("Ein schöner Tag, Wörter.\n", 10)])
def test_cleaning_is_fast(line: str, least: float) -> None:
    text = line * 200_000
    start = time.perf_counter()
    assert clean_text(text) == text
    assert len(text.encode()) / 1e6 / (time.perf_counter() - start) > least
