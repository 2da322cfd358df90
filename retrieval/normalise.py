"""Text as people see it: without what is invisible, and, for matching, without look-alike letters.

`clean_text` is what readers call on everything that is stored: what a reader sees stays, what
shows nothing goes. `fold_text` goes further and is only for what is matched (texts that are embedded, questions); what
it returns is never shown.
"""

import re
import unicodedata

_SHOWN = {0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x600, 0x606), *range(0x13430, 0x13440)}
_JOINERS = "\u200c\u200d"
_FILLERS = (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, 0xFFA0, 0xFFFE, 0xFFFF)
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_PICTURES = "\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff"
_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_JOINED_SCRIPTS = "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ua840-\ua8ff\ufb50-\ufdff\ufe70-\ufefc"


def _find_invisible() -> set[str]:
    """Characters that show nothing: format, control, tag and surrogate characters, fillers."""
    codes = [
        *(code for code in range(0x20000) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs")),
        *range(0xE0000, 0xE0080),
        *_FILLERS,
    ]
    return {chr(code) for code in codes} - {chr(code) for code in _SHOWN} - set("\t\n\f" + _JOINERS)


_INVISIBLE = _find_invisible()
_NOTHING = re.compile(f"[{''.join(sorted(_INVISIBLE))}]")
_IDLE_SELECTOR = re.compile(
    f"[\ufe0e\ufe0f](?<![{_PICTURES}#*0-9].)|[\ufe0e\ufe0f](?<=[#*0-9].)(?!\u20e3)"
    f"|[\ufe00-\ufe0d\U000e0100-\U000e01ef](?<![{_HAN}].)"
)
_IDLE_JOINER = re.compile(
    rf"[{_JOINERS}](?<!(?<=[{_JOINED_SCRIPTS}])[{_JOINERS}](?=[{_JOINED_SCRIPTS}]))"
    rf"(?<!(?<=[{_PICTURES}\ufe0f])\u200d(?=[{_PICTURES}]))"
)
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_LINE_ENDS = ("\x85", "\u2028", "\u2029")
_DROPPED = re.compile(f"[{_JOINERS}{_SELECTORS}]")

_ALIKE = dict(
    zip(
        "авеԁɡһіјкмоԛрсѕтиѵѡхуАВЕЅІЈКМНОРСТУХ" + "αεικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ" + "օսհոցզ" + "ɑ",  # noqa: RUF001
        "abedghijkmoqpcstuvwxyABESIJKMHOPCTYX" + "aeikvoptuxABEZHIKMNOPTYX" + "ouhngq" + "a",
        strict=True,
    )
)
_TO_LATIN = str.maketrans(_ALIKE)
_TO_CYRILLIC = str.maketrans({latin: other for other, latin in _ALIKE.items() if "\u0400" <= other < "\u0530"})
_FOREIGN = "\u0370-\u058f\u0251\u0261"
_MIXED_WORD = re.compile(rf"\b(?=\w*?[A-Za-z])(?=\w*?[{_FOREIGN}])\w+")
_LATIN_LETTER = re.compile("[A-Za-z]")
_FOREIGN_LETTER = re.compile(f"[{_FOREIGN}]")


def clean_text(text: str) -> str:
    """Take out what shows nothing and compose what is composed of several characters (NFC).

    Zero-width, bidirectional, tag and control characters go, soft hyphens too; tab, line feed and form feed stay, other
    line ends become line feeds. Joiners stay between letters of scripts written with them (Persian, Hindi) and between
    emoji; variation selectors stay on emoji and on Han characters.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        return _ASCII_CONTROL.sub("", text)
    for end in _LINE_ENDS:
        text = text.replace(end, "\n")
    there = set(text)
    if not there.isdisjoint(_INVISIBLE):
        text = _NOTHING.sub("", text)
    if any(_IDLE_SELECTOR.match(character) for character in there):
        text = _IDLE_SELECTOR.sub("", text)
    if not there.isdisjoint(_JOINERS):
        text = _IDLE_JOINER.sub("", text)
    return unicodedata.normalize("NFC", text)


def fold_text(text: str) -> str:
    """Fold a text for matching: compatibility forms (NFKC), no joiners, look-alikes as the letters they look like.

    Letters are replaced only in words that mix Latin with another script, and only if that leaves the word in one
    script; words wholly in Cyrillic or Greek stay as they are.
    """
    text = clean_text(text)
    if text.isascii():
        return text
    return _MIXED_WORD.sub(_unmix, unicodedata.normalize("NFKC", _DROPPED.sub("", text)))


def _unmix(match: re.Match[str]) -> str:
    word = match[0]
    latin = word.translate(_TO_LATIN)
    if not _FOREIGN_LETTER.search(latin):
        return latin
    cyrillic = word.translate(_TO_CYRILLIC)
    return word if _LATIN_LETTER.search(cyrillic) else cyrillic
