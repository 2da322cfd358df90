"""Whether a free-text completion says yes or no to its question, wherever in the text it says so.

Token F1 cannot tell "pets are allowed" from "pets are not allowed". So the completion is cut into clauses; those that
speak of what the question asks about (or only stand in for it: "They do not, sadly") assert yes or no by their
negations. "No extra charge" and the like negate nothing unless the question is about money. The first assertion
counts, unless another one takes it back in the same words: then the completion contradicts itself and says neither.
"""

import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from bakeoff.prompts import is_abstention, strip_markers
from bakeoff.records import Example
from eval.topic import Topic, content_stems, read_topic, stem

Polarity = Literal["yes", "no"]

_UNSURE = re.compile(
    r"\bi(?:'m| am) (?:not (?:sure|certain)|unsure|uncertain)\b|\bit(?:'s| is) (?:unclear|unknown|not clear)\b"
    r"|\b(?:can't|cannot|can not|couldn't|could not|unable to) (?:say|tell|confirm|answer|find|verify|determine)\b"
    r"|\b(?:do not|don't|does not|doesn't) (?:have|contain|provide|include) (?:\w+ ){0,2}(?:information|details)\b"
    r"|\bno (?:\w+ )?information\b|\b(?:do not|don't|not) know\b|\bnot (?:specified|stated)\b"
    r"|\bdoes(?: not|n't) specify\b"
    r"|\b(?:please|should|recommend\w*|best to) (?:contact|call|check with|ask)\b"
)
_SENTENCE = re.compile(r"(?:[^.!?;\n]|\.(?=\w))+[.!?;\n]*")
_CLAUSE_BORDER = re.compile(
    r",?\s*\b(?:but|however|although|though|except|while|whereas|because|since|and also)\b,?\s*"
    r"|\s+[-–—]+\s+|—|,?\s*\b(?:and|or)\s+(?=(?:it|they|there|this|that|we|you|guests|people|your)\b)"
    r"|,\s+(?=(?:it|they|there|this|that|we|you)\b)"
)
_CONDITION = re.compile(r"\b(?:if|unless|when|whenever|whether)\b[^,]*,?")
_FILLER = r"(?:(?:well|oh|ok|okay|hi|hello|sorry|i'm sorry|unfortunately)[,:!]?\s+)*"
_YES = re.compile(rf"^{_FILLER}(?:yes|yep|yup)\b[,:!]?\s*|\byes,? (?=(?:it|they|there|we|you|this|the)\b)|,?\s*\byes$")
_NO = re.compile(rf"^{_FILLER}(?:no|nope|nah)(?:[,:!]\s*|$|\s+(?=(?:it|they|there|this|that|we|you|the)\b))|[,:]\s*no$")
_AGREEMENT = re.compile(
    rf"^{_FILLER}(?:yeah|sure|certainly|definitely|absolutely|of course|indeed|correct)\b(?!,? not)"
)
_ELLIPSIS = re.compile(
    r"^(?:\w+ )?(?:it|they|we|that|this|you|there|these|those)\s*(?:is|are|do|does|can|has|have|will|would|'s|'re)"
    r"(?: (?:indeed|certainly|definitely|also"
    r"|available|possible|allowed|permitted|offered|provided|accepted|included))*$"
)
_ONLY_OTHER = re.compile(r"\bonly (?:accept|take)s?\b|\b(?:accept|take)s? (?:\w+ )?only\b|\bcash[ -]only\b")
_ASKS_PAYMENT = re.compile(r"\b(?:accept|take|pay|cards?|cash)\b")
_IDLE = re.compile(
    r"\bno (?:problems?|worries|doubt|matter|trouble|wonder|more than|less than|later than|earlier than|need|limits?"
    r"|minimum|reservations? (?:needed|required|necessary)|appointments?(?: needed| required| necessary)?)\b"
    r"|\bnot (?:only|just|merely|to mention|far|more than|less than|later than|bad|a problem|an issue)\b|\bwhy not\b"
    r"|\bwithout (?:a |any )?(?:problems?|doubt|hesitation|issues?|reservations?|appointments?|limits?)\b"
    r"|(?:\bnot|n't) hesitate\b|\bnothing but\b|\bcan't go wrong\b"
)
_NEGATIVE_WORD = (
    r"unavailable|prohibit(?:s|ed)?|forbid(?:s|den)?|bann?(?:s|ed)?|impossible|disallow(?:s|ed)?|barred|lack(?:s|ing)?|"
    r"unable|exclud(?:es|ed)|declin(?:es|ed)|refus(?:es|ed)|unsupported|unacceptable|unwelcome|inaccessible|unnecessary|"
    r"discouraged|discontinued|without"
)
_FREE_WORD = (
    r"(?<!feel )(?<!smoke )(?<!gluten )(?<!soy )(?<!dairy )(?<!nut )(?<!sugar )(?<!pet )(?<![-\w])free\b(?!-)(?! to\b)"
)
_FREE = re.compile(
    rf"(?P<word>{_FREE_WORD}(?: of (?:any )?(?:extra |additional )?(?:charge|cost)s?)?|\bcomplimentary\b"
    r"|\bon the house\b)"
    r"|(?:\b(?:no|without|zero|not)|n't)(?: (?:any|an|a|extra|additional|added|further))*"
    r" (?:charges?|costs?|fees?|surcharges?|payments?|expense)\b"
    r"|(?:\bnot|n't|\bnever)(?: (?:be|have to|need to|required to|going to))* (?:charged?|pay|cost)\b"
    r"(?: (?:an?|any|extra|additional|fees?|charges?))*"
)
_PAID = re.compile(
    r"\b(?:for|at) (?:an?|some) (?:\w+ )?(?:charge|fee|cost)s?\b|\b(?:charge[sd]?|fees?|costs?|paid|surcharge)\b"
    r"|\bpay(?! (?:with|by|using))\b|[$£€]\s?\d[\d.,]*|\b\d[\d.,]*\s?(?:usd|gbp|eur|dollars|pounds|euros)\b"
    r"|\b(?:usd|gbp|eur)\s?\d[\d.,]*"
)
_NOT_AFTER = re.compile(rf"\b(?:is|are|was|were|does|do|will|can)(?: not\b|n't\b)|\b(?:{_NEGATIVE_WORD})\b")
_ASKS_CHARGE = re.compile(
    r"\b(?:(?:have|need|required) to pay|charge[sd]?(?! (?:my|your|an?|the) )|fees?|costs?(?! of)|surcharge)\b"
)
_ASKS_NEED = re.compile(r"\b(?:need|needed|require[ds]?|necessary|have to|must)\b")
_CANCELLED = re.compile(
    rf"(?:\b(?:not|never)|n't)(?: (?:at all|completely|currently|strictly|be))? (?:{_NEGATIVE_WORD})\b"
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|cannot|cant|dont|doesnt|isnt|arent|wont|nowhere)\b|n't\b"
    rf"|\b(?:{_NEGATIVE_WORD})\b"
)


class Assertion(Struct, frozen=True):
    """One place where a completion says yes or no."""

    polarity: Polarity
    stems: frozenset[str]
    """What the clause speaks of, beyond the place's name; empty for a bare "yes" or "they do not"."""


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
    text = strip_markers(completion).replace("’", "'").lower()
    if is_abstention(text):
        return None
    topic = read_topic(question.replace("’", "'"))
    assertions = list(_find_assertions(text, topic))
    if not assertions:
        return "yes" if _AGREEMENT.search(text) and not _UNSURE.search(text) else None
    first, *others = assertions
    known = first.stems | topic.focus
    if any(other.polarity != first.polarity and other.stems <= known for other in others):
        return None
    return first.polarity


def _find_assertions(text: str, topic: Topic) -> Iterator[Assertion]:
    is_first = True
    for match in _SENTENCE.finditer(text):
        sentence = match[0].strip()
        if sentence.endswith("?") or _UNSURE.search(sentence):
            continue
        rest, spoken = _take_interjection(sentence.rstrip(" .!;"))
        clauses = (" ".join(clause.split()) for clause in _CLAUSE_BORDER.split(_CONDITION.sub(" ", rest)))
        found = [assertion for clause in clauses if (assertion := _read_clause(clause, topic)) is not None]
        if spoken is not None and (is_first or found or not content_stems(rest) - topic.names):
            yield Assertion(spoken, frozenset())
        yield from found
        is_first = False


def _take_interjection(sentence: str) -> tuple[str, Polarity | None]:
    """Part a sentence from the "yes" or "no" in it that stands by itself.

    Past the first sentence it counts only where the sentence is about the question: models quote passages that say yes
    to something else.
    """
    said: tuple[tuple[re.Pattern[str], Polarity], ...] = ((_NO, "no"), (_YES, "yes"))
    for pattern, spoken in said:
        if found := pattern.search(sentence):
            return f"{sentence[: found.start()]} {sentence[found.end() :]}".strip(), spoken
    return sentence, None


def _read_clause(clause: str, topic: Topic) -> Assertion | None:
    if (about_money := _read_money(clause, topic)) is not None:
        return Assertion(about_money, content_stems(clause) - topic.names)
    plain = _PAID.sub(" ", _FREE.sub(" ", clause))
    has_money = plain != clause
    plain = _IDLE.sub(lambda match: _keep_idle(match, topic), plain)
    plain = _CANCELLED.sub(" ", _spell_out_absence(plain, topic))
    plain = " ".join(plain.split()).strip(" ,")
    stems = content_stems(plain) - topic.names
    is_negated = _NEGATION.search(plain) is not None
    if stems & topic.opposites and not (stems & topic.focus & {stem("open"), stem("outdoor")}):
        return Assertion("yes" if is_negated else "no", stems)
    if stems & topic.focus or (not topic.focus and stems):
        return Assertion("no" if is_negated else "yes", stems)
    if not stems and is_negated and not has_money:
        return Assertion("no", stems)
    if _ONLY_OTHER.search(plain) and _ASKS_PAYMENT.search(topic.text):
        return Assertion("no", stems)
    if not has_money and _ELLIPSIS.search(plain):
        return Assertion("yes", stems)
    return None


def _read_money(clause: str, topic: Topic) -> Polarity | None:
    """What a clause says of money, when that is what the question asks."""
    asked = re.sub(r"\b(?:what|how much)\b.*", "", topic.text)
    asks_free = re.search(_FREE_WORD, asked) is not None or "complimentary" in asked
    if not asks_free and not _ASKS_CHARGE.search(asked):
        return None
    if free := _FREE.search(clause):
        before, after = clause[: free.start()], clause[free.end() :]
        is_free = not (free["word"] and (_NEGATION.search(before) or _NOT_AFTER.search(after)))
    elif _PAID.search(clause):
        is_free = False
    else:
        return None
    return "yes" if is_free == asks_free else "no"


def _keep_idle(match: re.Match[str], topic: Topic) -> str:
    """Leave "no reservation needed" in place where the question asks whether one is."""
    is_asked = content_stems(match[0]) & topic.focus or _ASKS_NEED.search(topic.text)
    return match[0] if is_asked else " "


def _spell_out_absence(clause: str, topic: Topic) -> str:
    """Write "pet-free" and "non-smoking" as negations, unless the question asks for just that."""

    def spell(match: re.Match[str]) -> str:
        word = match["free"] or match["non"]
        is_asked = re.search(rf"\b{re.escape(word)}[- ]free\b|\bnon[- ]?{re.escape(word)}", topic.text)
        return match[0] if is_asked or stem(word) not in topic.focus else f"not {word}"

    return re.sub(r"\b(?P<free>\w+)(?:-free\b| free\b)|\bnon[- ]?(?P<non>\w+)", spell, clause)
