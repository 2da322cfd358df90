"""Texts -> words that can be compared, and how much each word says in this set of texts.

Every detector compares normalised words: case, accents of typing (quotes, full-width forms), punctuation and the way
a number is written do not count. A word's weight is its inverse document frequency in the set at hand, because sets
are often made by templates: in "Is there parking at the Alder Hotel?" only `alder` and `parking` say what is asked.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher
from functools import lru_cache

from retrieval.index.terms import extract_terms

_APOSTROPHE = re.compile(r"(?<=\w)['’`](?=\w)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b")
_WORD = re.compile(r"[^\W_]+")
_COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
)
_NUMBERS = {word: str(number) for number, word in enumerate(_COUNTS, 2)}
_NUMBERS |= {word: str(number) for number, word in enumerate(_ORDINALS, 1)}
_POLITE = frozenset(
    (
        "ask",
        "hello",
        "help",
        "hi",
        "know",
        "kindly",
        "let",
        "like",
        "need",
        "pleas",
        "please",
        "quick",
        "question",
        "tell",
        "thank",
        "thanks",
        "wonder",
    )
)
"""Stems of what people put around a question without asking anything else."""
_COURTESY = re.compile(
    r"\b(?:(?:could|can|would|will) you (?:please )?(?:tell|help|show|let) me(?: know)?|(?:please )?tell me"
    r"|thank you(?: very much| so much)?|(?:hi|hello) there|i was wondering(?: if)?|i (?:would|d) like to know)\b"
)
_ARTICLES = frozenset(("a", "an", "the"))
NAME_SHARE = 0.9
TYPO_LENGTH = 5
TYPO_SIMILARITY = 0.8


@lru_cache(maxsize=65536)
def normalise(text: str) -> str:
    """The words of a text in lower case, joined by single spaces; numbers in digits."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = _ORDINAL.sub(r"\1", _THOUSANDS.sub("", _APOSTROPHE.sub("", plain)))
    return " ".join(_NUMBERS.get(word, word) for word in _WORD.findall(plain))


@lru_cache(maxsize=65536)
def find_terms(text: str) -> frozenset[str]:
    """Stems of the words that carry meaning: no stop words, no polite words, unless nothing else is there."""
    stems = frozenset(extract_terms(normalise(text)))
    return stems - _POLITE or stems


def find_numbers(terms: Iterable[str]) -> frozenset[str]:
    """Those of the terms that hold a digit."""
    return frozenset(term for term in terms if any(letter.isdigit() for letter in term))


def find_names(texts: Iterable[str]) -> frozenset[str]:
    """Terms that are nearly always written with a capital letter in these texts; none where all is lower case."""
    capital: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for text in texts:
        words = _WORD.findall(_APOSTROPHE.sub("", text))
        for word in words:
            for term in _stem(word):
                every[term] += 1
                capital[term] += word[0].isupper()
    return frozenset(term for term, count in capital.items() if count >= NAME_SHARE * every[term])


@lru_cache(maxsize=65536)
def _stem(word: str) -> frozenset[str]:
    return frozenset(extract_terms(normalise(word)))


class Weights:
    """Inverse document frequencies of the terms of a set of texts."""

    def __init__(self, texts: Collection[str]) -> None:
        self._counts = Counter(term for text in texts for term in find_terms(text))
        self._log_total = math.log(len(texts) + 1)

    def weigh(self, term: str) -> float:
        """From nearly 0 for a term of every text to 1 for a term of one text, or of none."""
        rare = 1 - math.log(max(self._counts[term], 1)) / self._log_total if self._log_total else 1.0
        return max(rare, 0.01)

    def information(self, terms: Iterable[str]) -> float:
        """How surprising it is that a second text has these terms too, in nats, as if they were independent."""
        return sum(self._log_total - math.log(max(self._counts[term] - 1, 1)) for term in terms)

    def total(self, terms: Iterable[str]) -> float:
        """Sum of the weights."""
        return sum(map(self.weigh, terms))

    def overlap(self, left: frozenset[str], right: frozenset[str]) -> float:
        """Weighted Jaccard similarity of two sets of terms, from 0 to 1."""
        either = self.total(left | right)
        return self.total(left & right) / either if either else 1.0


def correct(text: str, like: str) -> str:
    """The words of a text, each that looks like a slip of a word of the other text replaced by that word.

    Numbers and short words are never taken for slips, nor words that the other text has as they are.
    """
    words, others = normalise(text).split(), normalise(like).split()
    like_words = sorted(set(others))
    corrected = (
        word if word in others else next((other for other in like_words if is_misspelt(word, other)), word)
        for word in words
    )
    return " ".join(corrected)


def find_bag(text: str) -> Counter[str]:
    """Every word with its count but articles and polite ones: what has to be the same in a literal copy."""
    words = Counter(_COURTESY.sub(" ", normalise(text)).split() or normalise(text).split())
    return Counter(
        {word: count for word, count in words.items() if not _stem(word) & _POLITE and word not in _ARTICLES}
    )


@lru_cache(maxsize=65536)
def is_misspelt(term: str, other: str) -> bool:
    """Whether two terms look like one word with a slip in it."""
    if min(len(term), len(other)) < TYPO_LENGTH or abs(len(term) - len(other)) > 2 or find_numbers((term, other)):
        return False
    return SequenceMatcher(None, term, other, autojunk=False).ratio() >= TYPO_SIMILARITY
