"""What stands behind an answer: file search before it, as a narrowing of the mode's own search, and citations after it.

A passage belongs to a file where its document was made from an uploaded one (`<file id>`, or `<file id>#<part>`);
another document stands for itself, under its own id and title.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec
from sqlalchemy import Connection, Engine

from bakeoff.database import writing
from bakeoff.errors import BadInput, NotFound
from bakeoff.modes import ModelName
from bakeoff.prompts import find_markers
from bakeoff.records import Passage
from retrieval.catalogue import document_ids
from retrieval.followup import search_text
from service.answer import Narrowing, Prepared
from service.callers import Caller
from service.exchange import Exchange
from service.ledger import now
from service.openai.files.records import find_files
from service.openai.responses.items import FileCitation, FileSearchCall, FileSearchResult, make_id
from service.openai.responses.tools import FileSearchTool
from service.openai.vector_stores.filters import check_filter, meets
from service.openai.vector_stores.records import Attributes, Store, find_store, list_entries, update_store
from service.openai.vector_stores.search import TOUCH_AFTER_S


def narrow(engine: Engine, search: FileSearchTool, model: ModelName, caller: Caller) -> Narrowing:
    """What file search asks of the model's own search.

    Raises:
        BadInput: a model that searches nothing, a store that is not there, or one of another domain.
    """
    used_at = now()
    with engine.connect() as connection:
        stores = [_find_store(connection, store_id, caller) for store_id in search.vector_store_ids]
        for store in stores:
            if not model.mode.uses_retrieval or store.domain != model.domain:
                mode = model.mode.name if model.mode.uses_retrieval else "rag"
                raise BadInput(
                    f"model {str(model)!r} does not search vector store {store.id!r}: ask the model "
                    f"'{store.domain}/{mode}'",
                    param="tools",
                )
            if store.is_expired(used_at):
                raise BadInput(f"vector store {store.id!r} has expired; what was in it is gone", param="tools")
        only = None
        if search.filters is not None:
            check_filter(search.filters, "tools.filters")
            attributes = _attributes(connection, stores)
            only = frozenset(
                document_id
                for document_id in document_ids(connection, model.domain)
                if meets(search.filters, attributes.get(file_of(document_id), {}))
            )
    _note_use(engine, stores, used_at)
    threshold = search.ranking_options.score_threshold if search.ranking_options is not None else None
    return Narrowing(search.max_num_results, threshold or 0.0, only)


def describe_search(engine: Engine, exchange: Exchange, search: FileSearchTool, position: int) -> FileSearchCall:
    """The item of a search that was made, with its results."""
    passages = exchange.prepared.passages
    with engine.connect() as connection:
        stores = [_find_store(connection, store_id, exchange.asked.caller) for store_id in search.vector_store_ids]
        attributes = _attributes(connection, stores)
    names = _file_names(engine, exchange.prepared)
    results = [
        FileSearchResult(
            file_of(passage.document_id),
            names[passage.document_id],
            passage.score,
            passage.text,
            dict(attributes.get(file_of(passage.document_id), {})),
        )
        for passage in passages
    ]
    queries = [search_text(exchange.asked.conversation)]
    return FileSearchCall(make_id("fs", exchange.id, position), queries, results=results)


def make_annotate(engine: Engine, prepared: Prepared) -> Callable[[str], list[FileCitation]]:
    """What finds the citations of a text: one for each `[n]`, none for an abstention."""
    if prepared.abstention is not None or not prepared.passages:
        return lambda _text: []
    names = _file_names(engine, prepared)

    def cite(passage: Passage, start: int) -> FileCitation:
        return FileCitation(file_of(passage.document_id), names[passage.document_id], start)

    def annotate(text: str) -> list[FileCitation]:
        markers = find_markers(text, len(prepared.passages))
        return [cite(prepared.passages[number - 1], start) for number, start, _ in markers]

    return annotate


def file_of(document_id: str) -> str:
    """Id of the file that a document was made from; the document's own where there is none."""
    return document_id.partition("#")[0] if document_id.startswith("file-") else document_id


def without_results(call: FileSearchCall) -> FileSearchCall:
    """The item as it is shown where its results were not asked for."""
    return msgspec.structs.replace(call, results=None)


def _find_store(connection: Connection, store_id: str, caller: Caller) -> Store:
    try:
        return find_store(connection, store_id, caller)
    except NotFound as error:
        raise NotFound(str(error), param="tools") from error


def _note_use(engine: Engine, stores: list[Store], used_at: datetime) -> None:
    """Put off the expiry of the stores."""
    stale = [store for store in stores if (used_at - store.last_active_at).total_seconds() > TOUCH_AFTER_S]
    if stale:
        with writing(engine) as connection:
            for store in stale:
                update_store(connection, store.id, last_active_at=used_at)


def _attributes(connection: Connection, stores: list[Store]) -> dict[str, Attributes]:
    """File id -> its attributes in these stores; the store named last wins."""
    return {entry.file_id: entry.attributes for store in stores for entry in list_entries(connection, store.id)}


def _file_names(engine: Engine, prepared: Prepared) -> dict[str, str]:
    """Document id -> what its file is called."""
    titles = {passage.document_id: passage.title or passage.document_id for passage in prepared.passages}
    ids = [file_of(document_id) for document_id in titles if document_id.startswith("file-")]
    if not ids:
        return titles
    with engine.connect() as connection:
        files = find_files(connection, ids)
    return {
        document_id: files[file_of(document_id)].filename if file_of(document_id) in files else title
        for document_id, title in titles.items()
    }
