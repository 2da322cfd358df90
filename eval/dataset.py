"""The examples a run asks: one seeded sample, shared by all modes.

Every mode answers the same questions, so that differences are taken question by question. An example is drawn by the
hash of the seed and its id, not by its place in a file: shuffling the file changes nothing, and a larger limit keeps
the questions of a smaller one.
"""

import hashlib
from collections.abc import Sequence

from bakeoff.errors import BadInput
from bakeoff.records import Example


def sample_examples(examples: Sequence[Example], limit: int | None, seed: int) -> tuple[Example, ...]:
    """Draw the examples of a run.

    Args:
        examples: any order; ids are unique.
        limit: how many at most; None takes all.
        seed: another seed draws other examples, in another order.

    Returns:
        The sample in the order in which it is asked, the same for the same set of examples and seed.

    Raises:
        BadInput: no example to draw from, or a limit below 1.
    """
    if not examples:
        raise BadInput("there is no example to evaluate: import some with bakeoff examples import FILE --split test")
    if limit is not None and limit < 1:
        raise BadInput(f"limit {limit} asks for no example: use 1 or more", param="limit")

    def draw(example: Example) -> bytes:
        return hashlib.sha256(f"{seed}:{example.id}".encode()).digest()

    return tuple(sorted(examples, key=draw)[:limit])
