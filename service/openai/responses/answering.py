"""A question that was read -> its response, whole or as a stream, kept before its end is told.

A client that is told `response.completed` can go on from that response at once. One that leaves midway stops the
generation; what was said until then is kept as `cancelled`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio.to_thread
import msgspec
from msgspec import UNSET, Struct

from service.exchange import Asked, Exchange
from service.failures import describe
from service.openai.evidence import evidence_of
from service.openai.responses.draft import Draft
from service.openai.responses.frames import FrameWriter
from service.openai.responses.items import FileSearchCall, Item, with_ids
from service.openai.responses.schemas import INCLUDE_RESULTS, ResponseError, ResponseObject, ResponseRequest
from service.openai.responses.sources import describe_search, make_annotate, without_results
from service.openai.responses.store import ResponseStore, StoredResponse
from service.openai.responses.support import describe_text
from service.openai.responses.tools import Toolbox

logger = logging.getLogger(__name__)


class Question(Struct, frozen=True):
    """A request that was read."""

    data: ResponseRequest
    asked: Asked
    toolbox: Toolbox
    items: list[Item]
    """Of the request itself."""
    previous: str | None
    """Id of the response that it goes on from."""

    @property
    def is_stored(self) -> bool:
        """Whether the response can be read again."""
        return self.data.store is not False


class Writing:
    """A response that is being written."""

    def __init__(self, question: Question, exchange: Exchange, store: ResponseStore) -> None:
        """Begin; reads the database for the names of files."""
        self._question = question
        self._exchange = exchange
        self._store = store
        self._items = with_ids(question.items, exchange.id)
        self._search = self._describe_search()
        shown = self._search
        if shown is not None and INCLUDE_RESULTS not in (question.data.include or []):
            shown = without_results(shown)
        annotate = make_annotate(store.engine, exchange.prepared)
        self._draft = Draft(_begin_response(question, exchange), len(self._items), annotate, shown)
        self._frames = FrameWriter(obfuscates=_obfuscates(question.data))
        self._has_begun = False

    async def collect(self) -> ResponseObject:
        """The whole response."""
        self._draft.begin()
        has_ended = False
        async with aclosing(self._exchange.choices()) as choices:
            async for _, delta in choices:
                has_ended = delta.finish_reason is not None
                if has_ended:
                    self._draft.end(delta)
                else:
                    self._draft.add(delta)
        _check_ended(has_ended=has_ended)
        await self._save()
        return self._draft.response

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """The frames of its stream. The first comes with the first delta, so that earlier failures have a status."""
        draft, write = self._draft, self._frames.write
        has_ended = False
        try:
            async with aclosing(self._exchange.choices()) as choices:
                async for _, delta in choices:
                    begin = b"" if self._has_begun else self._begin()
                    has_ended = delta.finish_reason is not None
                    yield begin + write(draft.end(delta) if has_ended else draft.add(delta))
            _check_ended(has_ended=has_ended)
            await self._save()
        except (asyncio.CancelledError, GeneratorExit):
            if self._has_begun and not has_ended:
                draft.stop("cancelled")
                self._save_soon()
            raise
        yield write([draft.final()])

    def tell_failure(self, error: Exception) -> bytes:
        """The last frames of a stream that fails."""
        logger.warning("response failed request_id=%s error=%s", self._exchange.id, type(error).__name__)
        status, body = describe(error)
        begin = b"" if self._has_begun else self._begin()
        code = ResponseError("server_error" if status >= 500 else "invalid_prompt", body.error.message)
        self._draft.stop("failed", code)
        self._save_soon()
        return begin + self._frames.write([self._draft.final()])

    def _begin(self) -> bytes:
        self._has_begun = True
        return self._frames.write(self._draft.begin())

    def _describe_search(self) -> FileSearchCall | None:
        toolbox = self._question.toolbox
        if toolbox.search is None or toolbox.choice == "none":
            return None
        return describe_search(self._store.engine, self._exchange, toolbox.search, len(self._items))

    def _stored(self) -> StoredResponse:
        """As it is kept: with the results of its search, whether they were asked for now or not."""
        response = self._draft.response
        if self._search is not None:
            response = msgspec.structs.replace(response, output=[self._search, *response.output[1:]])
        return StoredResponse(response, self._items, self._draft.pieces)

    async def _save(self) -> None:
        if self._question.is_stored:
            asked = self._question.asked
            await anyio.to_thread.run_sync(self._store.save, self._stored(), asked.model.domain, asked.caller)

    def _save_soon(self) -> None:
        if self._question.is_stored:
            asked = self._question.asked
            self._store.save_soon(self._stored(), asked.model.domain, asked.caller)


def _begin_response(question: Question, exchange: Exchange) -> ResponseObject:
    data, asked = question.data, question.asked
    return ResponseObject(
        id=exchange.id,
        created_at=exchange.created,
        status="in_progress",
        instructions=data.instructions,
        model=str(exchange.prepared.model),
        previous_response_id=question.previous,
        max_output_tokens=data.max_output_tokens,
        max_tool_calls=data.max_tool_calls,
        temperature=asked.sampling.temperature,
        top_p=asked.sampling.top_p,
        top_logprobs=asked.sampling.top_logprobs or 0,
        text=describe_text(data.text),
        tools=question.toolbox.describe(),
        tool_choice=question.toolbox.choice,
        parallel_tool_calls=data.parallel_tool_calls is not False,
        metadata=asked.metadata,
        user=UNSET if data.user is None else data.user,
        safety_identifier=data.safety_identifier,
        prompt_cache_key=data.prompt_cache_key,
        store=question.is_stored,
        bakeoff=evidence_of(exchange.prepared),
    )


def _obfuscates(data: ResponseRequest) -> bool:
    return data.stream_options is not None and bool(data.stream_options.include_obfuscation)


def _check_ended(*, has_ended: bool) -> None:
    if not has_ended:
        raise RuntimeError("the engine ended an answer without a finish reason")
