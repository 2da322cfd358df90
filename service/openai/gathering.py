"""Deltas -> whole answers: what each choice has said so far, for the routes to put into their forms."""

from collections.abc import Sequence

from bakeoff.records import Delta, FinishReason, TokenLogprob, ToolCall, ToolCallPiece


class Gathered:
    """One choice: its text, its log-probabilities, its calls of tools, and how it ended."""

    __slots__ = ("_calls", "last", "logprobs", "texts")

    def __init__(self) -> None:
        """Begin empty."""
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.last: Delta | None = None
        """The delta with the finish reason, once it has come."""
        self._calls: dict[int, list[ToolCallPiece]] = {}

    def add(self, delta: Delta) -> None:
        """Take the next piece."""
        if delta.text:
            self.texts.append(delta.text)
        if delta.logprobs:
            self.logprobs.extend(delta.logprobs)
        for piece in delta.tool_calls:
            self._calls.setdefault(piece.index, []).append(piece)
        if delta.finish_reason is not None:
            self.last = delta

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls, in their order."""
        return [
            ToolCall(
                next((piece.id for piece in pieces if piece.id), ""),
                "".join(piece.name for piece in pieces),
                "".join(piece.arguments for piece in pieces),
            )
            for _, pieces in sorted(self._calls.items())
        ]

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended."""
        return (self.last.finish_reason if self.last else None) or "stop"


def last_deltas(choices: Sequence[Gathered]) -> list[Delta]:
    """The last delta of each choice.

    Raises:
        RuntimeError: one has none: the engine ended an answer without a finish reason.
    """
    found = [choice.last for choice in choices if choice.last is not None]
    if len(found) < len(choices):
        raise RuntimeError("the engine ended an answer without a finish reason")
    return found
