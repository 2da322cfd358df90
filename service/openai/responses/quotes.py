"""The quotes of a stored response, in its evidence and in the results of its searches; see `service.openai.quotes`."""

import msgspec
from msgspec import UNSET
from sqlalchemy import Engine

from bakeoff.records import Passage
from service.callers import Caller
from service.openai.quotes import bare, read_again
from service.openai.responses.items import FileSearchCall, FileSearchResult, OutputItem
from service.openai.responses.schemas import ResponseObject


def without_quotes(response: ResponseObject) -> ResponseObject:
    """The response with the places of its passages, and none of their text."""
    evidence = response.bakeoff
    if evidence is UNSET:
        return response
    places = tuple(map(bare, evidence.passages))
    return _replace(
        response, places, [msgspec.structs.replace(result, text="") for result in _results(response.output)]
    )


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
            found = read_again(connection, passage, domain, caller)
            if found is None:
                continue
            passages.append(found)
            if place < len(results):
                kept.append(msgspec.structs.replace(results[place], text=found.text))
    return _replace(response, tuple(passages), kept)


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
