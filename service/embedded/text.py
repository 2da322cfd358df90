"""Tokens -> text, piece by piece: no broken characters, and nothing of a stop string.

A character may take several tokens and a token may end inside a character; a stop string may begin in one token and end
in another. So text is held back while it could still turn into either.
"""

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"


class TextStream:
    """The text of one completion."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        """Begin.

        Args:
            decode: token ids -> text, without special tokens.
            stop: ends the text when it appears; empty strings are ignored.
        """
        self._decode = decode
        self._stop = [text for text in stop if text]
        self._tokens: list[int] = []
        # Decoding starts a few tokens back: tokenizers treat the first token of a text in a way of its own.
        self._context_start = 0
        self._decoded_end = 0
        self._held = ""
        self.num_tokens = 0
        self.is_stopped = False
        """A stop string has appeared; everything before it has been given out."""

    def feed(self, tokens: Sequence[int]) -> str:
        """Take tokens, give the text that is certain. Tokens after a stop string are ignored, and not counted."""
        pieces = []
        for token in tokens:
            if self.is_stopped:
                break
            self.num_tokens += 1
            self._tokens.append(token)
            pieces.append(self._release(self._decode_new()))
        return "".join(pieces)

    def finish(self) -> str:
        """Give what was held back. Bytes of a character that never became whole are left out."""
        if self.is_stopped:
            return ""
        rest = self._release(self._decode_new(is_last=True).rstrip(_BROKEN))
        rest, self._held = rest + self._held, ""
        return rest

    def _decode_new(self, *, is_last: bool = False) -> str:
        before = self._decode(self._tokens[self._context_start : self._decoded_end])
        after = self._decode(self._tokens[self._context_start :])
        if len(after) <= len(before) or (after.endswith(_BROKEN) and not is_last):
            return ""
        self._context_start, self._decoded_end = self._decoded_end, len(self._tokens)
        return after[len(before) :]

    def _release(self, new: str) -> str:
        text = self._held + new
        found = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            self._held = ""
            return text[: min(found)]
        keep = max((_count_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _count_overlap(text: str, stop: str) -> int:
    """Count the last characters of a text that a stop string begins with."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
