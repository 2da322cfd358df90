"""Deltas -> a response, and the events that tell of its growth: one writer for answers, streams and replays.

A draft is begun, fed deltas and ended; each step returns its events in OpenAI's order. It notes the size of every
delta, so that a stored response can be streamed again event by event, with the same sequence numbers.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from bakeoff.records import Delta, TokenLogprob, ToolCallPiece
from service.openai.responses.items import (
    FileCitation,
    FileSearchCall,
    FunctionCall,
    ItemStatus,
    Logprob,
    MessageItem,
    OutputItem,
    OutputText,
    TopLogprob,
    make_id,
)
from service.openai.responses.schemas import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseError,
    ResponseObject,
    ResponseUsage,
    Status,
)

Event = tuple[str, dict[str, Any]]
"""(type, the fields that it has beside type and sequence number)."""


class Piece(Struct, frozen=True, array_like=True):
    """Size of one delta."""

    num_characters: int
    num_logprobs: int = 0
    calls: tuple[tuple[int, int], ...] = ()
    """(index of the call, characters of its arguments)."""


class _Open:
    """The item that is being written."""

    def __init__(self, item_id: str, output_index: int, call: ToolCallPiece | None) -> None:
        self.id = item_id
        self.output_index = output_index
        self.call = call
        self.texts: list[str] = []
        self.logprobs: list[Logprob] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Draft:
    """A response that is being written."""

    def __init__(
        self,
        response: ResponseObject,
        num_input: int,
        annotate: Callable[[str], list[FileCitation]],
        search: FileSearchCall | None = None,
    ) -> None:
        """Begin with nothing said.

        Args:
            response: in progress, without output.
            num_input: items that the response came with; the ids of its output go on counting from there.
            annotate: finds the citations of a text.
            search: what was searched before, where the request asked to see it.
        """
        self.response = response
        self.pieces: list[Piece] = []
        self._num_input = num_input
        self._annotate = annotate
        self._search = search
        self._output: list[OutputItem] = []
        self._open: _Open | None = None
        self._last_call = -1

    def begin(self) -> list[Event]:
        """Events before the first delta."""
        begun = msgspec.structs.replace(self.response, bakeoff=UNSET)
        events: list[Event] = [
            ("response.created", {"response": begun}),
            ("response.in_progress", {"response": begun}),
        ]
        if self._search is not None:
            at = {"item_id": self._search.id, "output_index": 0}
            searching = FileSearchCall(self._search.id, [], "in_progress")
            events += [
                ("response.output_item.added", {"output_index": 0, "item": searching}),
                *((f"response.file_search_call.{step}", at) for step in ("in_progress", "searching", "completed")),
                ("response.output_item.done", {"output_index": 0, "item": self._search}),
            ]
            self._output.append(self._search)
        return events

    def add(self, delta: Delta) -> list[Event]:
        """Take the next delta."""
        events: list[Event] = []
        if delta.text:
            if self._open is None or self._open.call is not None:
                events += self._close("completed") + self._open_message()
            assert self._open is not None
            logprobs = [_logprob(token) for token in delta.logprobs]
            self._open.texts.append(delta.text)
            self._open.logprobs += logprobs
            events.append(("response.output_text.delta", {**self._place(), "delta": delta.text, "logprobs": logprobs}))
        for call in delta.tool_calls:
            events += self._add_call(call)
        if events:
            sizes = tuple((call.index, len(call.arguments)) for call in delta.tool_calls)
            self.pieces.append(Piece(len(delta.text), len(delta.logprobs), sizes))
        return events

    def end(self, last: Delta) -> list[Event]:
        """Take the last delta's word on how it ended; `final` tells it."""
        events = self.add(Delta(last.text, logprobs=last.logprobs, tool_calls=last.tool_calls))
        is_cut = last.finish_reason == "length"
        if self._open is None and not any(isinstance(item, MessageItem | FunctionCall) for item in self._output):
            events += self._open_message()  # an answer of no words is still an answer
        events += self._close("incomplete" if is_cut else "completed")
        self.response = self._finished(
            "incomplete" if is_cut else "completed",
            incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
            usage=count_usage(last),
        )
        return events

    def stop(self, status: Status, error: ResponseError | None = None) -> None:
        """End without an end: the engine failed, or the client left."""
        self._close("incomplete")
        self.response = self._finished(status, error=error)

    def final(self) -> Event:
        """The event that tells how it ended."""
        status = self.response.status if self.response.status in ("completed", "failed") else "incomplete"
        return f"response.{status}", {"response": self.response}

    def replay(self, stored: ResponseObject, pieces: Sequence[Piece]) -> Iterator[Event]:
        """Every event of a stored response again."""
        yield from self.begin()
        said = [item for item in stored.output if not isinstance(item, FileSearchCall)]
        for delta in _deltas(said, pieces):
            yield from self.add(delta)
        if stored.status in ("completed", "incomplete"):
            yield from self.end(Delta("", "length" if stored.status == "incomplete" else "stop"))
        self.response = stored
        yield self.final()

    def _finished(self, status: Status, **changes: Any) -> ResponseObject:
        done = int(time.time()) if status == "completed" else None
        return msgspec.structs.replace(
            self.response, status=status, completed_at=done, output=list(self._output), **changes
        )

    def _place(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open.id, "output_index": self._open.output_index, "content_index": 0}

    def _begin_item(self, prefix: str, call: ToolCallPiece | None) -> _Open:
        position = len(self._output)
        self._open = _Open(make_id(prefix, self.response.id, self._num_input + position), position, call)
        return self._open

    def _open_message(self) -> list[Event]:
        opened = self._begin_item("msg", None)
        item = MessageItem(opened.id, "assistant", [], "in_progress")
        return [
            ("response.output_item.added", {"output_index": opened.output_index, "item": item}),
            ("response.content_part.added", {**self._place(), "part": OutputText("")}),
        ]

    def _add_call(self, call: ToolCallPiece) -> list[Event]:
        events: list[Event] = []
        if call.index > self._last_call:
            events += self._close("completed")
            opened = self._begin_item("fc", call)
            self._last_call = call.index
            item = FunctionCall(opened.id, call.id, call.name, "", "in_progress")
            events.append(("response.output_item.added", {"output_index": opened.output_index, "item": item}))
        if self._open is None or self._open.call is None or self._open.call.index != call.index:
            raise RuntimeError(f"the engine went back to call {call.index}, which it had ended")
        if call.arguments:
            self._open.texts.append(call.arguments)
            at = {"item_id": self._open.id, "output_index": self._open.output_index}
            events.append(("response.function_call_arguments.delta", {**at, "delta": call.arguments}))
        return events

    def _close(self, status: ItemStatus) -> list[Event]:
        opened = self._open
        if opened is None:
            return []
        place, text = self._place(), opened.text
        events: list[Event]
        item: OutputItem
        if opened.call is not None:
            item = FunctionCall(opened.id, opened.call.id, opened.call.name, text, status)
            at = {"item_id": opened.id, "output_index": opened.output_index, "name": item.name}
            events = [("response.function_call_arguments.done", {**at, "arguments": text})]
        else:
            citations = self._annotate(text)
            part = OutputText(text, citations, opened.logprobs)
            item = MessageItem(opened.id, "assistant", [part], status)
            events = [
                ("response.output_text.annotation.added", {**place, "annotation_index": number, "annotation": citation})
                for number, citation in enumerate(citations)
            ]
            events += [
                ("response.output_text.done", {**place, "text": text, "logprobs": opened.logprobs}),
                ("response.content_part.done", {**place, "part": part}),
            ]
        self._output.append(item)
        self._open = None
        return [*events, ("response.output_item.done", {"output_index": opened.output_index, "item": item})]


def count_usage(last: Delta) -> ResponseUsage:
    """The usage that the last delta of an answer tells of."""
    return ResponseUsage(
        last.prompt_tokens,
        InputTokensDetails(last.cached_tokens),
        last.completion_tokens,
        OutputTokensDetails(),
        last.prompt_tokens + last.completion_tokens,
    )


def _logprob(token: TokenLogprob) -> Logprob:
    top = tuple(TopLogprob(other.token, other.logprob, other.bytes) for other in token.alternatives)
    return Logprob(token.token, token.logprob, token.bytes, top)


def _deltas(said: Sequence[OutputItem], pieces: Sequence[Piece]) -> Iterator[Delta]:
    """Cut what was said into the pieces that it came in."""
    parts = [part for item in said if isinstance(item, MessageItem) for part in item.content]
    text = "".join(part.text for part in parts)
    logprobs = [_token(token) for part in parts if isinstance(part, OutputText) for token in part.logprobs]
    calls = [item for item in said if isinstance(item, FunctionCall)]
    num_read: dict[int, int] = {}
    text_at = logprobs_at = 0
    for piece in pieces:
        call_pieces = []
        for index, size in piece.calls:
            is_new = index not in num_read
            start = num_read.setdefault(index, 0)
            call = calls[list(num_read).index(index)]
            head = (call.call_id, call.name) if is_new else ("", "")
            call_pieces.append(ToolCallPiece(index, *head, call.arguments[start : start + size]))
            num_read[index] += size
        yield Delta(
            text[text_at : text_at + piece.num_characters],
            logprobs=tuple(logprobs[logprobs_at : logprobs_at + piece.num_logprobs]),
            tool_calls=tuple(call_pieces),
        )
        text_at += piece.num_characters
        logprobs_at += piece.num_logprobs


def _token(logprob: Logprob) -> TokenLogprob:
    top = tuple(TokenLogprob(other.token, other.logprob, other.bytes) for other in logprob.top_logprobs)
    return TokenLogprob(logprob.token, logprob.logprob, logprob.bytes, top)
