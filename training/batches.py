"""Rows -> batches within a token budget, in a seeded order, without padding waste.

Grouped: rows are sorted by length and cut into batches, so that hardly anything is padding: padded rows cost as much as
real ones. Only the order of the batches and of rows of one length is random. Packed: rows of any length stand one after
another until the budget is full; the loss keeps each blind to the others.
"""

from collections.abc import Sequence
from typing import Literal

from training.draw import draw

Batch = tuple[int, ...]
"""Positions of its rows."""
Batching = Literal["grouped", "packed"]


def make_batches(lengths: Sequence[int], batch_tokens: int, seed: int, batching: Batching = "grouped") -> list[Batch]:
    """Cut rows into batches; each row stands in exactly one.

    Args:
        lengths: tokens of each row.
        batch_tokens: the most that a batch may compute: rows times the longest row when grouped, the sum when packed;
            a row that is longer by itself gets a batch of its own.
    """
    batches = _group(lengths, batch_tokens, seed) if batching == "grouped" else _pack(lengths, batch_tokens, seed)
    batches.sort(key=lambda batch: draw(seed, "batch", batch[0]))
    return [tuple(batch) for batch in batches]


def fill_of(batches: Sequence[Batch], lengths: Sequence[int], batching: Batching = "grouped") -> float:
    """The part of all computed tokens that is not padding, in (0, 1]; packed batches have none."""
    if batching == "packed":
        return 1.0
    computed = sum(len(batch) * max(lengths[position] for position in batch) for batch in batches)
    return sum(lengths[position] for batch in batches for position in batch) / computed


def _group(lengths: Sequence[int], batch_tokens: int, seed: int) -> list[list[int]]:
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], draw(seed, "row", position)))
    batches: list[list[int]] = []
    for position in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def _pack(lengths: Sequence[int], batch_tokens: int, seed: int) -> list[list[int]]:
    """First fit over a seeded order: each row goes into the first batch that has room."""
    batches: list[list[int]] = []
    room: list[int] = []
    first_open = 0
    for position in sorted(range(len(lengths)), key=lambda position: draw(seed, "row", position)):
        length = lengths[position]
        for number in range(first_open, len(batches)):
            if room[number] >= length:
                batches[number].append(position)
                room[number] -= length
                break
        else:
            batches.append([position])
            room.append(batch_tokens - length)
        while first_open < len(room) and room[first_open] < min(16, batch_tokens):
            first_open += 1
    return batches
