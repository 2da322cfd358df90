"""What to search for when a question leans on the conversation before it ("And is it open on Sundays?").

A question that points back (a pronoun, "there", "and ...?") or that is too short to stand alone is searched together
with the user's questions before it, back to one that stands alone. A model could rewrite it; a small one loses the
name that matters more often than it helps, and joining the questions costs nothing.
"""

import re
from collections.abc import Sequence

from bakeoff.records import Message

MAX_TURNS = 3
_MIN_WORDS = 4
_POINTS_BACK = re.compile(
    r"\b(it|its|they|them|their|theirs|there|he|she|his|her|him|that|this|those|these|one|ones|same|else|"
    r"other|another|both|either|neither|former|latter)\b",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"\s*(and|or|but|also|so|then|what about|how about|what else|why)\b", re.IGNORECASE)
_EXPLETIVE = re.compile(
    r"\b(is|are|was|were|will|would|can|could|if|do|does) there\b|\bthere(?:'s| is| are)\b|\bis it (?:possible|ok(ay)?|"
    r"allowed|safe|necessary)\b|\bthat (?:i|you|we|they|the|a|an)\b|\bthis (?:place|hotel|restaurant)\b$",
    re.IGNORECASE,
)


def search_text(conversation: Sequence[Message]) -> str:
    """The text to search for: the last question, after those that it refers to.

    Args:
        conversation: at least one message; the last is searched for where none is the user's.
    """
    questions = [message.content for message in conversation if message.role == "user"] or [conversation[-1].content]
    wanted = [questions[-1]]
    for earlier in reversed(questions[-1 - MAX_TURNS : -1]):
        if not leans_on_others(wanted[0]):
            break
        wanted.insert(0, earlier)
    return "\n".join(wanted)


def leans_on_others(question: str) -> bool:
    """Whether a question is not understood without what was said before."""
    plain = _EXPLETIVE.sub(" ", question)
    return bool(_POINTS_BACK.search(plain)) or bool(_GOES_ON.match(question)) or len(question.split()) < _MIN_WORDS
