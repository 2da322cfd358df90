"""Chunks of a domain -> question/answer pairs, written by a chat model and strictly filtered.

The model is shown one sentence at a time and asked only for the question that it answers: even a tiny model can do
that, and the answer is then at hand. `drafts` turns replies into examples and says why it drops most of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from sqlalchemy import Connection, select

from bakeoff.records import Chunk, Example, Message
from retrieval.catalogue import load_all_groups
from retrieval.tables import ALIVE, chunks_table
from training.data.drafts import Draft, Source
from training.data.wording import find_terms
from training.draw import draw

AUGMENT_VERSION = 1
"""Raise it when the wording of `ask_question` changes: replies that were kept are then asked for anew."""
MIN_SENTENCE, MAX_SENTENCE = 25, 300
"""Characters of a sentence that is worth a question."""
NUM_SHOTS = 3
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'“(]?[A-Z0-9])|\n+")
_FALLBACK_SHOTS = (
    ("Breakfast at the Alder Hotel is served from 7:00 to 10:00.", "When is breakfast served at the Alder Hotel?"),
    ("No, pets are not allowed at Birch House.", "May I bring my dog to Birch House?"),
    ("A replacement card costs 10 pounds.", "How much does a replacement card cost?"),
)


def draw_sources(connection: Connection, domain: str, seed: int, groups: Collection[str]) -> list[Source]:
    """A sentence of each of the domain's chunks, in an order drawn by the seed; then a second of each; and so on.

    Args:
        groups: of the caller; a document that none of them may see gives no sentence.
    """
    allowed = {name for name, granted in load_all_groups(connection, domain).items() if set(granted) & set(groups)}
    table = chunks_table.c
    columns = (table.chunk_id, table.document_id, table.title, table.text, table.heading, table.page)
    rows = connection.execute(select(*columns).where(table.domain == domain, table.died == ALIVE)).tuples()
    ranked = []
    for chunk in (Chunk(*row) for row in rows if row[1] in allowed):
        found = sorted(find_sentences(chunk.text), key=lambda text: draw(seed, "sentence", chunk.chunk_id, text))
        ranked += [
            (place, draw(seed, "chunk", chunk.chunk_id), Source(chunk, text)) for place, text in enumerate(found)
        ]
    return [source for _, _, source in sorted(ranked, key=lambda entry: entry[:2])]


def find_sentences(text: str) -> list[str]:
    """The sentences of a text that say something: no headings, table rows, links or questions."""
    parts = (" ".join(part.split()) for part in _SENTENCE.split(text))
    return list(
        dict.fromkeys(
            part
            for part in parts
            if MIN_SENTENCE <= len(part) <= MAX_SENTENCE
            and part[-1] in ".!"
            and part[0] not in "#|-*>"
            and "http" not in part
            and len(find_terms(part)) >= 3
        )
    )


def ask_question(source: Source, shots: Sequence[Example], pose: Callable[[str], str]) -> list[Message]:
    """The conversation that asks for a question, after a few worked ones: the domain's own where it has any.

    Args:
        pose: puts a request the way the service will put the last one, so that a small model sees a pattern.
    """
    pairs = [(shot.answer, shot.question) for shot in shots] or list(_FALLBACK_SHOTS)
    turns = [
        turn
        for answer, question in pairs[:NUM_SHOTS]
        for turn in (Message("user", pose(_request(answer))), Message("assistant", question))
    ]
    return [*turns, Message("user", _request(source.sentence))]


def _request(sentence: str) -> str:
    return f"Which question does this sentence answer? {sentence}"


def count_reasons(drafts: Iterable[Draft]) -> dict[str, int]:
    """How many were kept and how many fell for each reason, the most frequent first."""
    return dict(Counter(draft.reason for draft in drafts).most_common())


Ask = Callable[[Sequence[Source]], list[str]]
"""Sentences -> the model's replies, in order."""


def augment(
    sources: Sequence[Source],
    count: int,
    ask: Ask,
    judge: Callable[[list[tuple[Source, str]], list[Example]], list[Draft]],
    batch_size: int,
    on_batch: Callable[[list[Draft]], None],
) -> list[Draft]:
    """Ask and judge batch by batch until enough pairs are kept or the sentences are used up.

    Args:
        judge: (sentences with replies, examples kept so far) -> drafts.
        on_batch: called with all drafts so far.
    """
    drafts: list[Draft] = []
    for start in range(0, len(sources), batch_size):
        kept = [draft.example for draft in drafts if draft.example is not None]
        if len(kept) >= count:
            break
        batch = sources[start : start + batch_size]
        drafts += judge(list(zip(batch, ask(batch), strict=True)), kept)
        on_batch(drafts)
    return drafts
