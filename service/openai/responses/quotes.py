"""What a stored response quotes of documents: kept as places, read anew whenever it is shown.

So a document that was deleted, or that its caller may no longer see, is not read through an old answer: its passage is
left out. What a model made of it stays, for that is the answer.
"""

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, Engine

from bakeoff.errors import NotFound
from bakeoff.records import Passage
from retrieval.catalogue import StoredChunk, find_document
from retrieval.passages import join_parts
from service.callers import Caller
from service.openai.responses.items import FileSearchCall, FileSearchResult, OutputItem
from service.openai.responses.schemas import ResponseObject


def without_quotes(response: ResponseObject) -> ResponseObject:
    """The response with the places of its passages, and none of their text."""
    evidence = response.bakeoff
    if evidence is UNSET:
        return response
    bare = tuple(msgspec.structs.replace(passage, text="", title="", heading="") for passage in evidence.passages)
    return _replace(response, bare, [msgspec.structs.replace(result, text="") for result in _results(response.output)])


def with_quotes(engine: Engine, response: ResponseObject, domain: str, caller: Caller) -> ResponseObject:
    """The response with the text of those passages that are still there, and that the caller may see."""
    evidence = response.bakeoff
    if evidence is UNSET or not evidence.passages:
        return response
    results = _results(response.output)
    passages: list[Passage] = []
    kept: list[FileSearchResult] = []
    with engine.connect() as connection:
        for place, passage in enumerate(evidence.passages):
            found = _read(connection, passage, domain, caller)
            if found is None:
                continue
            passages.append(found)
            if place < len(results):
                kept.append(msgspec.structs.replace(results[place], text=found.text))
    return _replace(response, tuple(passages), kept)


def _read(connection: Connection, passage: Passage, domain: str, caller: Caller) -> Passage | None:
    try:
        _, chunks = find_document(connection, domain, passage.document_id, caller.groups)
    except NotFound:
        return None
    by_id = {chunk.chunk_id: chunk for chunk in chunks}
    if not by_id.keys() >= set(passage.chunk_ids):
        return None  # the document says something else now
    parts = [StoredChunk(place, place, by_id[chunk_id]) for place, chunk_id in enumerate(passage.chunk_ids)]
    first = parts[0].chunk
    return msgspec.structs.replace(passage, text=join_parts(parts), title=first.title, heading=first.heading)


def _results(output: list[OutputItem]) -> list[FileSearchResult]:
    return [result for item in output if isinstance(item, FileSearchCall) for result in item.results or []]


def _replace(
    response: ResponseObject, passages: tuple[Passage, ...], results: list[FileSearchResult]
) -> ResponseObject:
    assert response.bakeoff is not UNSET
    output = [
        msgspec.structs.replace(item, results=results) if isinstance(item, FileSearchCall) else item
        for item in response.output
    ]
    return msgspec.structs.replace(
        response, output=output, bakeoff=msgspec.structs.replace(response.bakeoff, passages=passages)
    )
