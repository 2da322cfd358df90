"""A text -> the personal data in it; and the text with each of them replaced by its kind.

Patterns find candidates, checksums decide: phonenumbers for telephone numbers, python-stdnum for IBANs and national
numbers, Luhn for payment cards. What has no checksum worth the name, or is a plain number, also needs a word beside it
that says what it is. Names and postal addresses are not found: no rule tells a guest's name from a hotel's.
"""

import importlib
import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bakeoff.records import Example

Kind = Literal["E-MAIL", "PHONE", "CARD", "IBAN", "IP ADDRESS", "NATIONAL ID"]

CONTEXT = 40
"""Characters before a candidate (and 20 after it) in which a word may say what it is."""
PHONE_REGIONS = ("US", "GB")
"""Numbers without a country code are tried as one of these, and need a word beside them."""
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}\b")
_CARD = re.compile(r"(?<![\d.-])[2-6]\d{3}(?:[ -]?\d){8,15}(?![\d-])")
_IP = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![\w:])"
)
_NOT_IP = re.compile(r"\b(?:v|version|release|section|chapter|build|firmware)[\s:.]*$", re.IGNORECASE)
_INTERNATIONAL = re.compile(r"(?<![\w+])\+\d[\d ().-]{5,20}\d")
_PHONE_WORD = re.compile(
    r"\b(?:phone|telephone|tel|mobile|cell|call|ring|fax|text|sms|dial|whatsapp|contact|reach|number)\w*\b",
    re.IGNORECASE,
)
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_ID_PIECE = re.compile(r"\b[A-Z0-9]+\b")
_JOINTS = frozenset((" ", "-", ".", "/"))
MAX_PIECES = 5

NATIONAL_IDS = {
    "us.ssn": r"ssn|social security",
    "us.itin": r"itin|taxpayer",
    "gb.nhs": r"nhs",
    "gb.utr": r"utr|taxpayer",
    "ca.sin": r"social insurance|sin",
    "au.tfn": r"tax file|tfn",
    "ie.pps": r"pps|ppsn",
    "fr.nir": r"nir|s[ée]curit[ée] sociale|insee",
    "de.idnr": r"steuer\w*|idnr|tax id\w*",
    "es.dni": r"dni|nif",
    "es.nie": r"nie",
    "it.codicefiscale": r"codice fiscale|fiscal code",
    "pt.nif": r"nif|contribuinte",
    "nl.bsn": r"bsn|burgerservicenummer",
    "be.nn": r"rijksregister\w*|national number|registre national",
    "ch.ssn": r"ahv|avs|social security",
    "pl.pesel": r"pesel",
    "se.personnummer": r"personnummer|personal identity",
    "no.fodselsnummer": r"f[øo]dselsnummer|national identity",
    "dk.cpr": r"cpr",
    "fi.hetu": r"hetu|henkil[öo]tunnus|personal identity",
    "br.cpf": r"cpf",
    "in_.aadhaar": r"aadhaar",
    "in_.pan": r"pan",
}
"""Module of python-stdnum -> the words that stand beside such a number."""


class Finding(Struct, frozen=True, order=True):
    """One piece of personal data."""

    start: int
    end: int
    """Characters, end exclusive."""
    kind: Kind


def find_personal(text: str) -> tuple[Finding, ...]:
    """The personal data in a text, in order, none overlapping another."""
    found: list[Finding] = []
    taken: list[tuple[int, int]] = []
    for search in (_find_emails, _find_ibans, _find_cards, _find_national_ids, _find_ips, _find_phones):
        for finding in search(text):
            if all(finding.end <= start or finding.start >= end for start, end in taken):
                found.append(finding)
                taken.append((finding.start, finding.end))
    return tuple(sorted(found))


def scrub(text: str) -> str:
    """The text with each piece of personal data replaced by its kind, as in `[E-MAIL]`."""
    parts, position = [], 0
    for finding in find_personal(text):
        parts += [text[position : finding.start], f"[{finding.kind}]"]
        position = finding.end
    return "".join([*parts, text[position:]])


def scrub_example(example: Example) -> Example:
    """The example with personal data replaced in question, answers and tags; its id and documents stay."""
    return msgspec.structs.replace(
        example,
        question=scrub(example.question),
        answer=scrub(example.answer),
        answers=tuple(dict.fromkeys(map(scrub, example.answers))),
        tags=_scrub_value(example.tags),
    )


def example_texts(example: Example) -> Iterator[str]:
    """Every text of an example that a model may learn: question, answers, and the texts in its tags."""
    yield from (example.question, example.answer, *example.answers)
    yield from _strings(example.tags)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)


def _scrub_value(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {key: _scrub_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_scrub_value(part) for part in value]
    return value


def _find_emails(text: str) -> Iterator[Finding]:
    if "@" in text:
        yield from (Finding(match.start(), match.end(), "E-MAIL") for match in _EMAIL.finditer(text))


def _find_ibans(text: str) -> Iterator[Finding]:
    from stdnum import iban

    for match in _IBAN.finditer(text):
        candidate = match[0]
        while len(candidate) >= 15:  # the pattern runs on into a following word in capitals
            if iban.is_valid(candidate, check_country=False):
                yield Finding(match.start(), match.start() + len(candidate), "IBAN")
                break
            candidate = candidate[:-1].rstrip(" -")


def _find_cards(text: str) -> Iterator[Finding]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if 13 <= len(digits) <= 19 and luhn.is_valid(digits) and len(set(digits)) > 1:
            yield Finding(match.start(), match.end(), "CARD")


def _find_national_ids(text: str) -> Iterator[Finding]:
    from stdnum.us import ssn

    for match in _SSN.finditer(text):
        if ssn.is_valid(match[0]):
            yield Finding(match.start(), match.end(), "NATIONAL ID")
    kinds = [(is_valid, words) for is_valid, words in _national_ids() if words.search(text)]
    for start, end in _runs(text) if kinds else ():
        around = text[max(start - CONTEXT, 0) : start] + "\n" + text[end : end + 20]
        if any(words.search(around) and is_valid(text[start:end]) for is_valid, words in kinds):
            yield Finding(start, end, "NATIONAL ID")


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of one to five neighbouring pieces that make 8 to 20 letters with a digit, the longest first."""
    pieces = list(_ID_PIECE.finditer(text))
    for length in range(MAX_PIECES, 0, -1):
        for run in zip(*(pieces[place:] for place in range(length)), strict=False):
            start, end = run[0].start(), run[-1].end()
            is_joined = all(text[one.end() : other.start()] in _JOINTS for one, other in pairwise(run))
            if is_joined and 8 <= end - start <= 20 and any(letter.isdigit() for letter in text[start:end]):
                yield start, end


def _find_ips(text: str) -> Iterator[Finding]:
    for match in _IP.finditer(text):
        try:
            ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if not _NOT_IP.search(text[: match.start()]):
            yield Finding(match.start(), match.end(), "IP ADDRESS")


def _find_phones(text: str) -> Iterator[Finding]:
    if sum(letter.isdigit() for letter in text) < 7:
        return
    import phonenumbers

    for match in _INTERNATIONAL.finditer(text):  # the matcher gives up where another number follows
        ends = [match.start() + joint.start() for joint in re.finditer(r"[ .-]|$", match[0])]
        whole = next((end for end in reversed(ends) if _is_phone(text[match.start() : end])), None)
        if whole is not None:
            yield Finding(match.start(), whole, "PHONE")
    for region in PHONE_REGIONS if _PHONE_WORD.search(text) else ():
        for number in phonenumbers.PhoneNumberMatcher(text, region):
            around = text[max(number.start - CONTEXT, 0) : number.start] + "\n" + text[number.end : number.end + 20]
            if _PHONE_WORD.search(around):
                yield Finding(number.start, number.end, "PHONE")


def _is_phone(text: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text))
    except phonenumbers.NumberParseException:
        return False


@cache
def _national_ids() -> list[tuple[Callable[[str], bool], re.Pattern[str]]]:
    return [
        (importlib.import_module(f"stdnum.{name}").is_valid, re.compile(rf"\b(?:{words})\b", re.IGNORECASE))
        for name, words in NATIONAL_IDS.items()
    ]
