"""`/v1/vector_stores/{id}/search`: the passages of a store's domain that the caller may see, filtered and scored.

A filter over attributes restricts what is searched, not what was found: ten results are wanted, and ten are found
where ten files meet it. Documents of the domain that came otherwise than as files have no attributes.
"""

from typing import Any

from litestar import Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from bakeoff.database import writing
from bakeoff.errors import BadInput
from bakeoff.records import Passage
from retrieval.catalogue import document_ids
from retrieval.retriever import SearchOptions
from service.callers import Caller
from service.openai.files.records import find_files
from service.openai.unsupported import refuse
from service.openai.vector_stores.filters import check_filter, meets
from service.openai.vector_stores.records import Attributes, Store, find_store, list_entries, update_store
from service.openai.vector_stores.schemas import Search, SearchHit, SearchPage, TextContent
from service.openai.vector_stores.shelf import Shelf, now

TOUCH_AFTER_S = 60.0
"""A search counts as use of its store; it is written down when the last one is so long ago."""


@post(
    "/v1/vector_stores/{vector_store_id:str}/search",
    status_code=HTTP_200_OK,
    operation_id="SearchVectorStore",
    tags=["vector stores"],
    sync_to_thread=True,
)
def search_vector_store(
    vector_store_id: FromPath[str],
    data: JSONBody[Search],
    request: Request[Any, Any, State],
    shelf: NamedDependency[Shelf],
    caller: NamedDependency[Caller],
) -> SearchPage:
    """Search a store; several queries are searched each, and the best of all passages come back."""
    queries = [data.query] if isinstance(data.query, str) else data.query
    if not all(query.strip() for query in queries):
        raise BadInput("query is empty", param="query")
    if data.ranking_options.ranker not in ("auto", "none"):
        refuse(request, ["ranking_options.ranker"], "here but as 'auto' and 'none'")
    if data.filters is not None:
        check_filter(data.filters)
    store, attributes = _open(shelf, vector_store_id, caller)
    only: frozenset[str] | None = None
    if data.filters is not None:
        with shelf.engine.connect() as connection:
            held = document_ids(connection, store.domain)
        only = frozenset(name for name in held if meets(data.filters, attributes.get(_file_id(name, attributes), {})))
    options = SearchOptions(
        top_k=data.max_num_results,
        groups=caller.groups,
        repeats=True,
        only=only,
        reranks=data.ranking_options.ranker != "none",
    )
    results = shelf.retriever.search_many(store.domain, queries, options)
    best = _merge([result.passages for result in results])
    passages = [passage for passage in best if passage.score >= data.ranking_options.score_threshold]
    return SearchPage(queries, _to_hits(shelf, passages[: data.max_num_results], attributes))


def _open(shelf: Shelf, store_id: str, caller: Caller) -> tuple[Store, dict[str, Attributes]]:
    """The store, noted as used, and the attributes of the files in it.

    Raises:
        NotFound: there is none, or it belongs to another key.
        BadInput: it has expired.
    """
    used_at = now()
    with shelf.engine.connect() as connection:
        store = find_store(connection, store_id, caller)
        attributes = {entry.file_id: entry.attributes for entry in list_entries(connection, store.id)}
    if store.is_expired(used_at):
        raise BadInput(f"vector store {store_id!r} has expired; what was in it is gone", param="vector_store_id")
    if (used_at - store.last_active_at).total_seconds() > TOUCH_AFTER_S:
        with writing(shelf.engine) as connection:
            update_store(connection, store.id, last_active_at=used_at)
    return store, attributes


def _merge(found: list[tuple[Passage, ...]]) -> list[Passage]:
    """The passages of all queries, best first, each once."""
    best: dict[str, Passage] = {}
    for passage in sorted((passage for passages in found for passage in passages), key=lambda one: -one.score):
        best.setdefault(passage.document_id + passage.chunk_id, passage)
    return list(best.values())


def _to_hits(shelf: Shelf, passages: list[Passage], attributes: dict[str, Attributes]) -> list[SearchHit]:
    ids = [_file_id(passage.document_id, attributes) for passage in passages]
    with shelf.engine.connect() as connection:
        files = find_files(connection, list(set(ids)))
    return [
        SearchHit(
            file_id=file_id,
            filename=files[file_id].filename if file_id in files else passage.title or passage.document_id,
            score=min(max(passage.score, 0.0), 1.0),
            attributes=attributes.get(file_id, {}),
            content=[TextContent(passage.text)],
        )
        for file_id, passage in zip(ids, passages, strict=True)
    ]


def _file_id(document_id: str, attributes: dict[str, Attributes]) -> str:
    """The file that a document came from; one that is none of the store's files stands for itself."""
    file_id = document_id.partition("#")[0]
    return file_id if file_id in attributes else document_id
