"""Rows -> batches of rows of like length, each within a token budget, in a seeded order.

Rows are sorted by length and cut into batches, so that hardly anything is padding: padded rows cost as much as real
ones. Only the order of the batches and of rows of one length is random.
"""

from collections.abc import Sequence

from training.draw import draw

Batch = tuple[int, ...]
"""Positions of its rows."""


def make_batches(lengths: Sequence[int], batch_tokens: int, seed: int) -> list[Batch]:
    """Cut rows into batches; each row stands in exactly one.

    Args:
        lengths: tokens of each row.
        batch_tokens: the most that rows times the longest row of a batch may be; a row that is longer by itself gets
            a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], draw(seed, "row", position)))
    batches: list[list[int]] = []
    for position in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    batches.sort(key=lambda batch: draw(seed, "batch", batch[0]))
    return [tuple(batch) for batch in batches]


def fill_of(batches: Sequence[Batch], lengths: Sequence[int]) -> float:
    """The part of all computed tokens that is not padding, in (0, 1]."""
    computed = sum(len(batch) * max(lengths[position] for position in batch) for batch in batches)
    return sum(lengths[position] for batch in batches for position in batch) / computed
