"""What a yes/no question asks about, as a set of word stems that an answer's clauses are matched against.

The place that is asked about ("Worth House: Is there a pool?") and the words that any such question shares ("offer",
"available") are no part of it, so that "Worth House is in Cambridge" does not pass for an answer. A short table of
synonyms covers what help desks are asked; a word outside it is matched by its stem.
"""

import re

from msgspec import Struct

_STOCK_WORDS = """
a about accept acceptable access actually add afraid all allow also always am an and any anyone anything anywhere
apologize apologise appear apply are area around as ask at available availability away be been being both bring
business but by call can certain certainly check choice choose come company could current currently customer
definitely did do does doing done during each either else ensure establishment even ever every everyone facility
feature find for from get give go good great guest guy had has have having he hello help her here hey hi
his hotel how i if in include indeed is it its itself just kind know large let like list listed location look
make many may maybe me mean mention might moment more most much must my need new nice obtain of off offer offered
office on one onsite only onto open opt option or order other our out own particular patron people per permit
permitted person place please policy possible possibility premise present presently property provide public really
regard require restaurant right s sad sadly say see seem serve service several shall she should site so some
something sorry sort specific spot state still store such support sure take tell thank thanks that the their them
then there these they thing this those time to today too type under unfortunate unfortunately until up us use
usual usually venue very via visit visitor want was we welcome well were what when where which who will wish with
within wonder work would yes yet you your yourself able ve re ll d m t don doesn isn aren won can't not no never
nor none neither without cannot n't nope ok okay moreover addition additionally however information knowledge
"""
_GROUPS = (
    "wifi internet wireless online",
    "takeout carryout togo",
    "pet dog cat animal",
    "kid child children toddler baby infant family families",
    "bike bicycle cycle",
    "alcohol alcoholic beer wine liquor cocktail bar",
    "lift elevator",
    "tv tvs television",
    "accessible accessibility wheelchair disability disabled handicap handicapped mobility",
    "laundry washer dryer washing laundromat",
    "fitness gym workout exercise",
    "pool swim swimming",
    "luggage baggage bag",
    "smoke smoking smoker cigarette",
    "reserve reservation book booking",
    "outdoor outside patio terrace outdoors",
    "cot crib rollaway",
    "crypto cryptocurrency bitcoin",
    "housekeeping clean cleaned maid",
    "ambience ambiance atmosphere",
    "language speak spoken multilingual",
    "park parking valet",
    "noise noisy",
    "deliver delivery",
)
_OPPOSITES = (("open", "close"), ("outdoor", "indoor"), ("noisy", "quiet"), ("loud", "quiet"), ("early", "late"))
_NEVER_NAMES = (
    "apple google pay visa mastercard amex samsung paypal vegan vegetarian halal kosher gluten english spanish french "
    "german chinese delivery breakfast brunch dinner lunch credit live music atm spa usb ac ev"
)
_PHRASES = (
    (re.compile(r"\bwi[- ]?fi\b"), "wifi"),
    (re.compile(r"\btake?s?[- ]?out\b|\bto[- ]go\b|\bcarry[- ]?out\b|\btake[- ]?away\b"), "takeout"),
    (re.compile(r"\bt\.v\.?s?\b"), "tv"),
    (re.compile(r"\bwheel[- ]chair"), "wheelchair"),
    (re.compile(r"\bhigh[- ]?chair"), "highchair"),
    (re.compile(r"\bdry[- ]clean(?:ing|ed|ers?)?\b"), "drycleaning"),
)
_BEFORE_NAMES = "at in does is are do of from to by for the can will has near inside"
_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?", re.IGNORECASE)


class Topic(Struct, frozen=True):
    """What a question asks about."""

    focus: frozenset[str]
    """Stems of what is asked about; empty when the question names nothing."""
    names: frozenset[str]
    """Stems of the place's name."""
    opposites: frozenset[str]
    """Stems that deny the focus ("closed" to "open")."""
    text: str
    """The question, in lower case."""


def read_topic(question: str) -> Topic:
    """Find what a question asks about."""
    prefix, separator, body = question.partition(": ")
    if not separator or not body.strip():
        prefix, body = "", question
    names, rest = _split_names(_join_phrases(body, keeps_case=True))
    focus = content_stems(rest) or content_stems(body)
    opposites = {right for left, right in _OPPOSITES if stem(left) in focus}
    opposites |= {left for left, right in _OPPOSITES if stem(right) in focus}
    if re.search(r"\bopen\b", body, re.IGNORECASE):
        opposites.add("close")
    return Topic(
        focus,
        (content_stems(prefix) | content_stems(names)) - focus,
        frozenset(stem(word) for word in opposites),
        " ".join(body.lower().split()),
    )


def content_stems(text: str) -> frozenset[str]:
    """Stems of the words of a text that are about something."""
    words = (match[0].lower() for match in _WORD.finditer(_join_phrases(text)))
    stems = ((word, stem(word)) for word in words)
    return frozenset(root for word, root in stems if word not in _STOCK and root not in _STOCK_STEMS and len(root) > 1)


def stem(word: str) -> str:
    """Cut an English word to its stem, and map synonyms to one of them."""
    root = _cut(word)
    return _SYNONYMS.get(root, root)


def _cut(word: str) -> str:
    root = word.lower().split("'", maxsplit=1)[0]
    if root.endswith("ies") and len(root) > 4:
        root = root[:-3] + "y"
    elif root.endswith("s") and not root.endswith("ss") and len(root) > 3:
        root = root[:-1]
    for suffix in ("ation", "ing", "ed", "ate"):
        if root.endswith(suffix) and len(root) - len(suffix) >= 3:
            root = root[: -len(suffix)]
            break
    if len(root) > 3 and root[-1] == root[-2]:
        root = root[:-1]
    return root[:-1] if root.endswith("e") and len(root) > 3 else root


def _join_phrases(text: str, keeps_case: bool = False) -> str:
    for pattern, word in _PHRASES:
        text = re.sub(pattern.pattern, word, text, flags=re.IGNORECASE)
    return text if keeps_case else text.lower()


def _split_names(body: str) -> tuple[str, str]:
    """Part a question into the capitalised words that name a place and the rest."""
    names: list[str] = []
    rest: list[str] = []
    before_names, never_names = _BEFORE_NAMES.split(), _NEVER_NAMES.split()
    in_name = False
    before = ""
    for position, token in enumerate(body.split()):
        bare = re.sub(r"[^\w']", "", token)
        is_acronym = bare.isupper() and 1 < len(bare) < 5
        is_known = is_acronym or _cut(bare) in _SYNONYMS or bare.lower() in never_names
        starts = bare[:1].isupper() and not is_known and position > 0 and (in_name or before in before_names)
        joins = in_name and (token in {"&", "-", "of", "and", "de", "at", "by", "the", "on"} or bare[:1].isdigit())
        in_name = starts or joins
        (names if in_name else rest).append(token)
        if bare:
            before = bare.lower()
    return " ".join(names), " ".join(rest)


_SYNONYMS = {_cut(word): _cut(group.split()[0]) for group in _GROUPS for word in group.split()}
_STOCK = frozenset(_STOCK_WORDS.split())
_STOCK_STEMS = frozenset(_cut(word) for word in _STOCK)
