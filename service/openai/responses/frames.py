"""Events -> frames of an event stream: numbered, each with its type on a line of its own."""

import secrets
from collections.abc import Iterable

import msgspec

from service.openai.responses.draft import Event

_PAD_TO = 16
_TEXT_DELTA = "response.output_text.delta"


class FrameWriter:
    """Writes the frames of one stream."""

    def __init__(self, *, obfuscates: bool = False, starting_after: int | None = None) -> None:
        """Begin to count at 0.

        Args:
            obfuscates: whether deltas carry random characters that hide their length.
            starting_after: number of the last event that the client has; it gets those behind it.
        """
        self._obfuscates = obfuscates
        self._first = -1 if starting_after is None else starting_after
        self._number = -1
        self._item_id = ""
        self._head = b""

    def write(self, events: Iterable[Event]) -> bytes:
        """The frames of these events."""
        return b"".join(self._frame(event) for event in events)

    def _frame(self, event: Event) -> bytes:
        self._number += 1
        if self._number <= self._first:
            return b""
        kind, fields = event
        if kind == _TEXT_DELTA and not fields["logprobs"] and not self._obfuscates:
            return b'%b"delta":%b,"sequence_number":%d}\n\n' % (
                self._text_head(fields["item_id"], fields["output_index"]),
                msgspec.json.encode(fields["delta"]),
                self._number,
            )
        if self._obfuscates and "delta" in fields:
            fields = {**fields, "obfuscation": secrets.token_urlsafe(_PAD_TO)[: -len(fields["delta"]) % _PAD_TO]}
        data = msgspec.json.encode({"type": kind, "sequence_number": self._number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _text_head(self, item_id: str, output_index: int) -> bytes:
        """What every delta of one item begins with: made once, for most of a stream is deltas."""
        if item_id != self._item_id:
            self._item_id = item_id
            head = msgspec.json.encode(
                {
                    "type": _TEXT_DELTA,
                    "item_id": item_id,
                    "output_index": output_index,
                    "content_index": 0,
                    "logprobs": [],
                }
            )
            self._head = b"event: %b\ndata: %b," % (_TEXT_DELTA.encode(), head[:-1])
        return self._head
