"""Examples -> the same with dirt of a known kind in them, for `benchmarks.detectors`: leaks, copies, personal data.

Seeded. The paraphrases by hand stand in `paraphrases.jsonl`: written before the detectors were first run on planted
data, from questions drawn by seed, and not changed since.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bakeoff.records import Example

PLANTED = 40
"""Of each kind and set."""
PREFIXES = ("Hello, ", "Hi there! ", "Please tell me: ", "Quick question: ", "Could you tell me, ")
SUFFIXES = (" Thanks!", " Thank you.", " please", "??", " ...")
REWORDINGS = (
    ("how do i ", "what is the way to "),
    ("how can i ", "in what way can i "),
    ("how much ", "what amount "),
    ("what is ", "tell me about "),
    ("what's ", "tell me about "),
    ("who plays ", "which actor plays "),
    ("who played ", "which actor played "),
    ("who sings ", "which singer sings "),
    ("who wrote ", "which author wrote "),
    ("who won ", "who was the winner of "),
    ("when does ", "on what date does "),
    ("when did ", "on what date did "),
    ("when is ", "on what date is "),
    ("where is ", "in which place is "),
    ("where does ", "in which place does "),
    ("do you have ", "is there any "),
    ("do you offer ", "can i get "),
    ("does ", "is it so that "),
    ("is there ", "do you have "),
    ("are there ", "do you have "),
    ("can i ", "am i able to "),
    ("do i ", "must i "),
    ("why ", "for what reason "),
    ("is ", "would you say that "),
    ("i need ", "i require "),
    ("i want ", "i would like "),
    (" my ", " the "),
    (" get ", " receive "),
    (" available", " on offer"),
    (" patients", " people"),
    (" increase", " raise"),
    (" use ", " make use of "),
)
PERSONAL = {
    "E-MAIL": ("anna.berg@example.org", "j_smith+shop@mail.example.co.uk", "Info@Alder-Hotel.example.com"),
    "PHONE": ("+44 20 7946 0958", "+1 415-555-2671", "+49 30 901820", "+33 1 42 68 53 00"),
    "CARD": ("4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6011111111111117"),
    "IBAN": ("GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "FR14 2004 1010 0505 0001 3M02 606"),
    "IP ADDRESS": ("192.168.17.40", "81.2.69.160", "2001:db8:85a3::8a2e:370:7334"),
    "NATIONAL ID": ("SSN 536-90-4399", "NHS number 943 476 5919", "BSN 111222333", "PESEL 44051401359"),
}


def change_slightly(question: str, dice: random.Random) -> str:
    """Two of: a slip of the finger, a greeting, thanks, an article lost, the subject moved to the end, shouting."""

    def slip(text: str) -> str:
        words = text.split(" ")
        long = [place for place, word in enumerate(words) if len(word) >= 6 and word.isalpha()]
        if long:
            place = dice.choice(long)
            at = dice.randrange(1, len(words[place]) - 2)
            letters = list(words[place])
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
            words[place] = "".join(letters)
        return " ".join(words)

    def move(text: str) -> str:
        subject, colon, rest = text.partition(": ")
        return f"{rest} ({subject})" if colon else text

    changes: list[Callable[[str], str]] = [
        slip,
        move,
        lambda text: dice.choice(PREFIXES) + text,
        lambda text: text + dice.choice(SUFFIXES),
        lambda text: text.replace(" the ", " ", 1).replace(" a ", " ", 1),
        lambda text: text.upper(),
    ]
    for change in dice.sample(changes, 2):
        question = change(question)
    return question


def reword(question: str) -> str | None:
    """Apply the first two rewordings that fit; None where fewer than two do."""
    text, applied = f" {question[0].lower()}{question[1:]}", 0
    for old, new in REWORDINGS:
        place = f" {old}" if not old.startswith(" ") else old
        if place in text and applied < 2:
            text = text.replace(place, new if old.startswith(" ") else f" {new}", 1)
            applied += 1
    return text.strip() if applied == 2 else None


def plant_leaks(name: str, held_out: Sequence[Example], dice: random.Random) -> dict[str, list[tuple[Example, str]]]:
    """Kind -> (planted training example, id of the held-out example it gives away)."""
    by_id = {example.id: example for example in held_out}
    written = [json.loads(line) for line in (Path(__file__).parent / "paraphrases.jsonl").read_text().splitlines()]
    by_hand = [(by_id[line["id"]], line["question"]) for line in written if line["set"] == name]
    used = {example.id for example, _ in by_hand}
    others = [example for example in held_out if example.id not in used]
    dice.shuffle(others)
    rewordable = [(example, text) for example in others if (text := reword(example.question)) is not None][:PLANTED]
    used |= {example.id for example, _ in rewordable}
    others = [example for example in others if example.id not in used]
    kinds = {
        "exact": [
            (example, dice.choice((str, str.upper, str.lower))(example.question)) for example in others[:PLANTED]
        ],
        "near": [(one, change_slightly(one.question, dice)) for one in others[PLANTED : 2 * PLANTED]],
        "paraphrase by rule": rewordable,
        "paraphrase by hand": by_hand,
    }
    return {
        kind: [
            (msgspec.structs.replace(example, id=f"planted {kind} {number}", question=question), example.id)
            for number, (example, question) in enumerate(pairs)
        ]
        for kind, pairs in kinds.items()
    }


def plant_copies(train: Sequence[Example], dice: random.Random) -> dict[str, list[tuple[Example, str]]]:
    """Kind -> (copy of a training example, id of the original)."""
    drawn = dice.sample(train, 2 * PLANTED)
    exact = [msgspec.structs.replace(one, id=f"planted copy {n}") for n, one in enumerate(drawn[:PLANTED])]
    near = [
        msgspec.structs.replace(one, id=f"planted near copy {n}", question=change_slightly(one.question, dice))
        for n, one in enumerate(drawn[PLANTED:])
    ]
    return {
        "exact duplicate": [(copy, one.id) for copy, one in zip(exact, drawn[:PLANTED], strict=True)],
        "near duplicate": [(copy, one.id) for copy, one in zip(near, drawn[PLANTED:], strict=True)],
    }


def plant_personal(train: Sequence[Example], dice: random.Random) -> dict[str, list[Example]]:
    """Kind -> training examples with one piece of such data in the question or in the answer."""
    planted: dict[str, list[Example]] = {}
    for kind, values in PERSONAL.items():
        for value in values:
            example = dice.choice(train)
            field = dice.choice(("question", "answer"))
            words = getattr(example, field).split(" ")
            words.insert(dice.randrange(len(words) + 1), value)
            changed = msgspec.structs.replace(example, **{field: " ".join(words)})
            planted.setdefault(kind, []).append(changed)
    return planted
