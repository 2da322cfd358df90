"""Whether the numbers, prices and times of a target appear in a completion, whatever way they are written.

Text becomes a set of values: a time (minutes of the day), an amount with its currency, or a plain number. "£10" is
"10 GBP", "3:30pm" is "15:30", "$1,200" is "1200", "twelve" is "12". Values that already stand in the question are left
out, since repeating them proves nothing. Digits glued to letters ("3D") are names, not values.
"""

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

_CURRENCIES = {
    "$": "USD", "us$": "USD", "usd": "USD", "dollar": "USD", "dollars": "USD",
    "£": "GBP", "gbp": "GBP", "pound": "GBP", "pounds": "GBP",
    "€": "EUR", "eur": "EUR", "euro": "EUR", "euros": "EUR",
    "¥": "JPY", "jpy": "JPY", "yen": "JPY", "chf": "CHF", "cad": "CAD", "aud": "AUD", "inr": "INR", "₹": "INR",
}  # fmt: skip
_UNIT_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {word: number for number, word in enumerate(_UNIT_WORDS.split(), start=1)}
_TENS = {word: 10 * number for number, word in enumerate(_TEN_WORDS.split(), start=2)}
_HALF_DAY = 12 * 60
_NUMBER_WORDS = re.compile(
    rf"\b(?:(?:({'|'.join(_TENS)})(?:[ -]({'|'.join(list(_UNITS)[:9])}))?)|({'|'.join(_UNITS)}))\b"
)
_MERIDIEM = r"(?P<meridiem>[ap])(?:\.[ ]?m\b\.?|m\b)"
_TIME = re.compile(
    rf"(?<![\w.:])(?P<hour>[01]?\d|2[0-4])(?:[:.](?P<minute>[0-5]\d))?\s*(?:{_MERIDIEM}|(?P<clock>o'?clock\b))"
    r"|(?<![\w.:])(?P<hour24>[01]?\d|2[0-4]):(?P<minute24>[0-5]\d)(?![\d:])"
)
_RANGE_START = re.compile(
    r"(?<![\w.:$£€])(?P<hour>1[0-2]|0?[1-9])(?:[:.](?P<minute>[0-5]\d))?\s*(?:-|–|—|to|til|till|until|through|and)\s*$"
)
_SIGN = "|".join(re.escape(name) for name in sorted(_CURRENCIES, key=len, reverse=True))
_MEASURE = r"(?:km|mi|m|ft|mins?|h|hrs?|kg|g|lbs?|gb|mb|mbps)\b"
_AMOUNT = re.compile(
    rf"(?:(?<![a-z])(?P<before>{_SIGN})\s?|(?<![\w.]))(?P<number>\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)(?P<cents>\.\d+)?"
    rf"(?:\s?(?P<after>{_SIGN})(?![a-z])|(?:st|nd|rd|th)\b|{_MEASURE}|(?![a-z\d]))"
)


class Value(Struct, frozen=True):
    """One number, price or time that a text states."""

    amount: float
    """A number as it stands, or the minutes since midnight."""
    unit: str = ""
    """"time", "clock" (a time that may be am or pm), a currency, or empty for a plain number."""


def key_values(completion: str, question: str, targets: Sequence[str]) -> float | None:
    """Share of a target's values that the completion states, best over the targets that have any.

    A target without a value of its own cannot win, or the answer "it costs something" would score 1.

    Returns:
        None when no target states a value beyond those of the question.
    """
    asked = find_values(question)
    stated = find_values(completion, reads_one=True)
    wanted = [[value for value in find_values(target) if not _stands_in(value, asked)] for target in targets]
    shares = [sum(_stands_in(value, stated) for value in values) / len(values) for values in wanted if values]
    return max(shares, default=None)


def find_values(text: str, reads_one: bool = False) -> set[Value]:
    """Read the values of a text.

    A time without am or pm, and the open start of a range ("8 to 10:30 am"), may stand for either half of the day.

    Args:
        text: any case.
        reads_one: whether the word "one" counts as 1. It is a pronoun too often to ask for, but it answers "1".
    """
    plain = text.lower().replace("’", "'").replace("24/7", "24").replace("\u202f", " ").replace("\xa0", " ")
    plain = re.sub(r"(?:\b12(?:[:.]00)?\s*(?:p\.?m\.?)?,?\s*)?\bnoon\b", "12:00pm", plain)
    plain = re.sub(r"(?:\b12(?:[:.]00)?\s*(?:a\.?m\.?)?,?\s*)?\bmidnight\b", "12:00am", plain)
    plain = _NUMBER_WORDS.sub(lambda match: _write_digits(match, reads_one), plain)
    times: set[Value] = set()
    rest: list[str] = []
    end = 0
    for match in _TIME.finditer(plain):
        between = plain[end : match.start()]
        if start := _RANGE_START.search(between):
            times.add(_time(int(start["hour"]), int(start["minute"] or 0), None))
            between = between[: start.start()]
        rest.append(between)
        hour, minute = match["hour"] or match["hour24"], match["minute"] or match["minute24"] or "0"
        times.add(_time(int(hour), int(minute), match["meridiem"]))
        end = match.end()
    rest.append(plain[end:])
    return times | set(_amounts(" ; ".join(rest)))


def _time(hour: int, minute: int, meridiem: str | None) -> Value:
    minutes = hour % 24 * 60 + minute
    if meridiem and hour <= 12:
        return Value(minutes % _HALF_DAY + (_HALF_DAY if meridiem == "p" else 0), "time")
    is_24_hour = meridiem or hour > 12 or hour == 0
    return Value(minutes, "time") if is_24_hour else Value(minutes % _HALF_DAY, "clock")


def _amounts(text: str) -> Iterable[Value]:
    for match in _AMOUNT.finditer(text):
        amount = float(match["number"].replace(",", "") + (match["cents"] or ""))
        name = match["before"] or match["after"]
        yield Value(amount, _CURRENCIES[name] if name else "")


def _write_digits(match: re.Match[str], reads_one: bool) -> str:
    tens, ones, unit = match.groups()
    if unit == "one" and not reads_one:
        return unit
    if unit:
        return str(_UNITS[unit])
    return str(_TENS[tens] + (_UNITS[ones] if ones else 0))


def _stands_in(value: Value, others: set[Value]) -> bool:
    return any(_agree(value, other) for other in others)


def _agree(left: Value, right: Value) -> bool:
    """Whether two values are the same; a missing currency agrees with any, a time only with a time."""
    units = {left.unit, right.unit}
    if "clock" in units:
        return units <= {"time", "clock"} and left.amount % _HALF_DAY == right.amount % _HALF_DAY
    return left.amount == right.amount and (len(units) == 1 or ("" in units and "time" not in units))
