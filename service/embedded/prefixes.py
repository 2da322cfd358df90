"""Which prompt prefixes the pipeline still holds: GenAI keeps them, and does not say so.

Its cache works in blocks of 32 tokens, found again by everything before them, overwritten least recently used first.
The same rule on a smaller cache gives a lower bound of what it found: exact to the block, and zero where in doubt.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from service.embedded.runtime import BLOCK_TOKENS, MAX_STREAMS


class PrefixLedger:
    """Hashes of the blocks computed last."""

    def __init__(self, num_blocks: int) -> None:
        """Begin empty, for a pipeline with so many blocks."""
        # Each running sequence may hold one block that is not full, and therefore not counted here.
        self._capacity = max(0, num_blocks - MAX_STREAMS)
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def count_cached(self, tokens: Sequence[int]) -> int:
        """Count the leading tokens whose keys and values need not be computed; never all, the last one always is."""
        cached = 0
        for block in _hash_blocks(tokens[:-1]):
            if block not in self._blocks:
                break
            cached += BLOCK_TOKENS
        return cached

    def record(self, tokens: Sequence[int]) -> None:
        """Note that the pipeline has computed these tokens."""
        for block in _hash_blocks(tokens):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)


def _hash_blocks(tokens: Sequence[int]) -> Iterator[int]:
    chained = 0
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        chained = hash((chained, *tokens[start : start + BLOCK_TOKENS]))
        yield chained
