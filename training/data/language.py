"""Examples -> those that are not written in the language of the others.

Question and answer are judged together (lingua), because short texts mislead every detector: names of places make
English look French. So texts below `MIN_WORDS` are not judged at all, and an example counts as foreign only if a quick
look and then an exact one both say so, the second leaving hardly any chance to the language of the majority.
"""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from bakeoff.records import Example
from training.data.wording import normalise

LANGUAGES = (
    "ARABIC",
    "BENGALI",
    "BULGARIAN",
    "CHINESE",
    "CZECH",
    "DANISH",
    "DUTCH",
    "ENGLISH",
    "FINNISH",
    "FRENCH",
    "GERMAN",
    "GREEK",
    "HEBREW",
    "HINDI",
    "HUNGARIAN",
    "INDONESIAN",
    "ITALIAN",
    "JAPANESE",
    "KOREAN",
    "PERSIAN",
    "POLISH",
    "PORTUGUESE",
    "ROMANIAN",
    "RUSSIAN",
    "SPANISH",
    "SWEDISH",
    "THAI",
    "TURKISH",
    "UKRAINIAN",
    "URDU",
    "VIETNAMESE",
)
"""Rarer ones are taken for one of these, or for the majority's; each would add false alarms on names."""
MIN_WORDS = 5
MIN_LETTERS = 20
"""Languages written without spaces are measured by letters."""
MIN_OWN = 0.5
MAX_MAJORITY = 0.1
"""Confidences from which an example is foreign, in its own language and in that of the majority."""


class Foreign(Struct, frozen=True):
    """An example in another language than most."""

    example_id: str
    language: str
    """English name, lower case."""


class LanguageReport(Struct, frozen=True):
    """The languages of a set."""

    majority: str
    """English name, lower case; empty where every text is too short to tell."""
    foreign: tuple[Foreign, ...]


def find_foreign(examples: Sequence[Example]) -> LanguageReport:
    """The language of most examples, and the examples in another one, in their order."""
    from lingua import Language, LanguageDetectorBuilder

    texts = {example.id: f"{example.question}\n{example.answer}" for example in examples}
    judged = [example_id for example_id, text in texts.items() if _is_long(text)]
    if not judged:
        return LanguageReport("", ())
    builder = LanguageDetectorBuilder.from_languages(*(getattr(Language, name) for name in LANGUAGES))
    quick = builder.with_low_accuracy_mode().build()
    guesses = quick.detect_languages_in_parallel_of([texts[example_id] for example_id in judged])
    majority = Counter(guess for guess in guesses if guess is not None).most_common(1)
    if not majority:
        return LanguageReport("", ())
    usual = majority[0][0]
    doubtful = [example_id for example_id, guess in zip(judged, guesses, strict=True) if guess not in (usual, None)]
    foreign = []
    if doubtful:
        exact = LanguageDetectorBuilder.from_languages(*(getattr(Language, name) for name in LANGUAGES)).build()
        looked_at = exact.compute_language_confidence_values_in_parallel([texts[key] for key in doubtful])
        for example_id, confidences in zip(doubtful, looked_at, strict=True):
            values = {confidence.language: confidence.value for confidence in confidences}
            own = max(values, key=lambda language: values[language])
            if own != usual and values[own] >= MIN_OWN and values[usual] <= MAX_MAJORITY:
                foreign.append(Foreign(example_id, own.name.lower()))
    return LanguageReport(usual.name.lower(), tuple(foreign))


def _is_long(text: str) -> bool:
    words = normalise(text).split()
    letters = sum(len(word) for word in words)
    is_spaced = text.isascii() or letters / max(len(words), 1) < MIN_LETTERS / 2
    return letters >= MIN_LETTERS and (len(words) >= MIN_WORDS or not is_spaced)
