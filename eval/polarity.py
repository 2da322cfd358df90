"""Whether a free-text completion says yes or no to its question, wherever in the text it says so.

Token F1 cannot tell "pets are allowed" from "pets are not allowed". So the completion is cut into clauses; those that
speak of what the question asks about (or that only stand in for it, "They do not, sadly") assert yes or no by their
negations; "no extra charge" and the like negate nothing unless the question is about money. The first assertion
counts, unless a later clause takes it back in the same words: then the completion contradicts itself and says neither.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from bakeoff.prompts import is_abstention, strip_markers
from bakeoff.records import Example
from eval.topic import Topic, content_words, read_topic

Polarity = Literal["yes", "no"]

_UNSURE = re.compile(
    r"\bi(?:'m| am) (?:not sure|unsure|not certain|unable to (?:say|answer|tell|confirm|find))\b"
    r"|\b(?:can't|cannot|can not|couldn't|could not|unable to) (?:say|tell|confirm|answer|find|verify|determine)\b"
    r"|\b(?:do not|don't|does not|doesn't) (?:have|contain|provide|include) (?:\w+ ){0,2}(?:information|details)\b"
    r"|\bno (?:\w+ )?information\b|\bit(?:'s| is) (?:unclear|unknown|not clear)\b|\b(?:unclear|uncertain) (?:if|whether)\b"
    r"|\b(?:do not|don't|not|doesn't) (?:know|specify)\b|\bnot (?:specified|stated)\b|\b(?:may|might) or (?:may|might) not\b"
)
_SENTENCE_END = re.compile(r"(?<!\b[a-z])[.!?]+(?=\s|$)|[;\n]+|(?<=\w)\s+[-–—]\s+|[–—]")
_CONTRAST = re.compile(
    r",?\s*\b(?:but|however|although|though|yet|except|while|whereas|instead|because|since|so|which|and also)\b,?\s*"
    r"|,\s*(?=(?:and|or)?\s*(?:it|they|there|this|that|we|you|guests|the|your)\b)"
    r"|\s*\band\s+(?=(?:it|they|there|this|that|we|you|guests|people|your)\b)"
)
_CONDITION = re.compile(r"\b(?:if|unless|when|whenever|whether)\b[^,.;]*(?:,|$)")
_YES = re.compile(
    r"^(?:(?:well|oh|ok|okay|hi|hello|ah|good news|let me check(?: (?:that|on that))?(?: for you)?)[,:!]?\s+)*"
    r"(?:yes|yeah|yep|yup|sure|certainly|definitely|absolutely|of course|indeed|affirmative|correct)\b"
    r"|(?:^|[,:(]\s*)yes\b|\byes\s*$"
)
_NO = re.compile(
    r"^(?:(?:well|oh|ok|okay|hi|hello|ah|sorry|i'm sorry|i am sorry|i'm afraid|unfortunately)[,:!]?\s+(?:but\s+)?)*"
    r"(?:no|nope|nah|not really|not at all|never|negative)\s*(?:[,.:!]|$|(?=\s(?:it|they|there|the|this|we|you|i|none|not)\b))"
    r"|(?:^|[,:(]\s*)(?:no|nope)\s*$|[,:(]\s*no,"
    r"|^(?:unfortunately|i'm afraid|sadly|certainly|definitely|absolutely|of course),?\s*not\b|\bafraid not\b"
)
_IDLE_NEGATION = re.compile(
    r"\bno (?:problem|problems|worries|doubt|matter|trouble|wonder|more than|less than|later than|earlier than|need)\b"
    r"|\bnot (?:only|just|merely|to mention|far|too far|more than|less than|later than|bad|a problem|an issue)\b"
    r"|\bwhy not\b|\bnot hesitate\b|\bn't hesitate\b|\bnothing but\b|\bcan't go wrong\b|\bnone other\b|\bno\. ?\d"
    r"|\bwithout (?:a |any )?(?:problem|problems|doubt|hesitation|issue|issues|reservations?|appointments?|limits?)\b"
    r"|\b(?:no|without) (?:limits?|time limits?|reservations? (?:needed|required|necessary)|minimum(?: \w+)?)\b"
)
_WITHOUT_CHARGE = re.compile(
    r"\b(?:no|without|not? any|n't any|zero)(?: (?:any|an|a|extra|additional|added|further))*"
    r" (?:charges?|costs?|fees?|payments?|price|expense)\b"
    r"|(?:\bnot|n't|\bnever)(?: (?:be|have to|need to|required to|going to))*"
    r" (?:charge[ds]?|pay|cost|costs)(?: (?:an?|any|extra|additional|fees?|charges?))*\b"
    r"|\bfree of (?:any )?(?:extra |additional )?(?:charge|cost)s?\b|\bcomplimentary\b|\bon the house\b|\bat no \w+ cost\b"
    r"|(?<!feel )(?<!smoke )(?<!gluten )(?<!soy )(?<!dairy )(?<!nut )(?<!sugar )(?<!pet )(?<![-\w])free\b(?! to\b|-)"
)
_CHARGE = re.compile(
    r"\b(?:charge[sd]?|fees?|costs?|paid|pay|surcharge|priced?)\b|[$£€]\s?\d|\b\d+(?:\.\d+)?\s?(?:usd|gbp|eur|dollars|pounds|euros)\b"
    r"|\b(?:usd|gbp|eur)\s?\d"
)
_NEGATIVE_WORDS = (
    r"unavailable|prohibited|forbidden|banned|impossible|disallowed|barred|lacks?|lacking|unable|excludes?|excluded|"
    r"declines?|declined|refuses?|refused|unsupported|unacceptable|unwelcome|inaccessible|unnecessary|discouraged"
)
_NEGATION = re.compile(
    rf"(?:\b(?P<twice>not|never|isn't|aren't|wasn't)(?: \w+)? )?\b(?:{_NEGATIVE_WORDS})\b"
    r"|\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|cant|dont|doesnt|isnt|arent|wont|nowhere)\b|n't\b"
)


def polarity(completion: str, example: Example) -> float | None:
    """1 when the completion says what the example's `yes_no` tag says, else 0.

    A completion that says neither, contradicts itself or abstains is wrong.

    Returns:
        None for an example without a `yes_no` of "yes" or "no".
    """
    wanted = example.tags.get("yes_no")
    if wanted not in ("yes", "no"):
        return None
    return float(detect_polarity(completion, example.question) == wanted)


def detect_polarity(completion: str, question: str) -> Polarity | None:
    """Read the answer to a yes/no question out of free text.

    Returns:
        None when the text says neither, says both of the same thing, or says that it does not know.
    """
    text = _plain(strip_markers(completion))
    if not text or is_abstention(text):
        return None
    topic = read_topic(_plain(question, keeps_case=True))
    first: Polarity | None = None
    first_words: frozenset[str] = frozenset()
    is_spoken = False
    for sentence in _sentences(text):
        if _UNSURE.search(sentence):
            continue
        for said, words, spoken in _assertions(sentence, topic):
            if first is None:
                first, first_words, is_spoken = said, words, spoken
            elif said != first and _takes_back(words, first_words, is_spoken):
                return None
            elif said == first and not first_words:
                first_words = words
            is_spoken = is_spoken and spoken
    return first
