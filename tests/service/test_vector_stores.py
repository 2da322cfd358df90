"""Vector stores, filled, filtered, searched and emptied by OpenAI's own client; the chat finds what is there."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI, PermissionDeniedError
from scripted_service import DOMAIN, ScriptedGenerator, running
from sqlalchemy import Engine, update

from bakeoff.database import open_database, writing
from bakeoff.domains import ensure_domain, list_domains
from bakeoff.errors import NotFound
from bakeoff.jobs import jobs_table, list_jobs
from bakeoff.keys import create_key
from bakeoff.settings import Settings
from bakeoff.worker.loop import Worker
from retrieval.catalogue import document_ids, load_all_groups
from retrieval.embedder import Embedder
from retrieval.history import roll_back
from service.app import create_app
from service.callers import OPEN
from service.openai.files.cabinet import Cabinet
from service.openai.vector_stores import ingestion
from service.openai.vector_stores.ingestion import Ingested, ingest
from service.tables import vector_stores_table

TEXTS = {
    "cats.md": "# Cats\n\nCats of guests sleep in the winter garden.",
    "bikes.txt": "Bicycles are rented at the gate for 12 pounds a day.",
    "sauna.html": "<html><title>Sauna</title><body><p>The sauna opens at noon, except on Mondays.</p></body></html>",
}


def client_of(url: str, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, _strict_response_validation=True)


@pytest.fixture
def client(url: str) -> OpenAI:
    return client_of(url)


@pytest.fixture
def database(home: Path) -> Iterator[Engine]:
    engine = open_database(Settings(home=home).url, home)
    yield engine
    engine.dispose()


def work(engine: Engine, home: Path, embedder: Embedder) -> list[Ingested]:
    """Do what a worker would: run every queued job, here."""
    done = []
    with engine.connect() as connection:
        jobs = list_jobs(connection, "ingest", ["queued"])
    for job in reversed(jobs):
        assert job.arguments[:2] == ("vector-stores", "ingest")
        assert not job.is_heavy
        with writing(engine) as connection:
            connection.execute(update(jobs_table).where(jobs_table.c.id == job.id).values(status="running"))
        done.append(ingest(engine, home, embedder, job.arguments[2], lambda *_: None))
        with writing(engine) as connection:
            connection.execute(update(jobs_table).where(jobs_table.c.id == job.id).values(status="succeeded"))
    return done


@contextmanager
def working(engine: Engine, home: Path, embedder: Embedder) -> Iterator[None]:
    """A worker beside the test."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.05):
            work(engine, home, embedder)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def upload(client: OpenAI, name: str, text: str | bytes) -> str:
    content = text if isinstance(text, bytes) else text.encode()
    return client.files.create(file=(name, content), purpose="assistants").id


def filled(
    client: OpenAI, engine: Engine, home: Path, embedder: Embedder, **options: Any
) -> tuple[str, dict[str, str]]:
    """A store with TEXTS in it: its id, and name -> id of each file."""
    store = client.vector_stores.create(name="House rules", **options)
    ids = {name: upload(client, name, text) for name, text in TEXTS.items()}
    for number, (name, file_id) in enumerate(ids.items()):
        client.vector_stores.files.create(
            file_id=file_id, vector_store_id=store.id, attributes={"name": name, "number": number, "new": number > 0}
        )
    work(engine, home, embedder)
    return store.id, ids


def found(client: OpenAI, store: str, query: Any, **options: Any) -> list[str]:
    return [hit.filename for hit in client.vector_stores.search(store, query=query, **options)]


def test_files_are_put_in_searched_and_asked_about_by_the_client_alone(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder, scripted: ScriptedGenerator
) -> None:
    with working(database, home, embedder):
        store = client.vector_stores.create(name="House rules", description="What guests may do")
        assert (store.name, store.status, store.file_counts.total) == ("House rules", "completed", 0)
        cats = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("cats.md", TEXTS["cats.md"].encode()), attributes={"kind": "pet", "legs": 4}
        )
        assert (cats.status, cats.last_error, cats.attributes) == ("completed", None, {"kind": "pet", "legs": 4})
        assert cats.usage_bytes > 1536  # one vector of 384 numbers, and the text
        batch = client.vector_stores.file_batches.upload_and_poll(
            vector_store_id=store.id,
            files=[(name, TEXTS[name].encode()) for name in ("bikes.txt", "sauna.html")],
        )
        assert (batch.status, batch.file_counts.completed, batch.file_counts.total) == ("completed", 2, 2)
    store = client.vector_stores.retrieve(store.id)
    assert (store.status, store.file_counts.completed, store.file_counts.total) == ("completed", 3, 3)
    assert store.usage_bytes > 3 * 1536
    page = client.vector_stores.search(store.id, query="What does renting a bicycle cost?", max_num_results=2)
    assert page.object == "vector_store.search_results.page"
    best = page.data[0]
    assert (best.filename, best.content[0].type) == ("bikes.txt", "text")
    assert "12 pounds" in best.content[0].text
    assert len(page.data) == 2
    assert 1 >= page.data[0].score >= page.data[1].score >= 0
    assert [
        hit.filename
        for hit in client.vector_stores.search(
            store.id, query="bicycle", filters={"type": "eq", "key": "kind", "value": "pet"}
        )
    ] == ["cats.md"]
    text = client.vector_stores.files.content(cats.id, vector_store_id=store.id)
    assert [piece.text for piece in text] == [TEXTS["cats.md"]]
    domain = store.bakeoff["domain"]  # type: ignore[attr-defined]
    assert domain == "house-rules"
    question: list[Any] = [{"role": "user", "content": "When does the sauna open?"}]
    client.chat.completions.create(model=f"{domain}/rag", messages=question)
    assert "opens at noon" in str(scripted.asked[-1][0])


def test_a_worker_of_its_own_indexes_a_file(
    client: OpenAI, database: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_HOME", str(home))
    store = client.vector_stores.create(name="x")
    file = client.vector_stores.files.upload(vector_store_id=store.id, file=("bikes.txt", TEXTS["bikes.txt"].encode()))
    assert file.status == "in_progress"
    assert client.vector_stores.retrieve(store.id).status == "in_progress"
    Worker(database, home).run(lambda: False, once=True)
    file = client.vector_stores.files.retrieve(file.id, vector_store_id=store.id)
    assert (file.status, file.last_error) == ("completed", None)
    with database.connect() as connection:
        [job] = list_jobs(connection)
    assert (job.status, job.result) == ("succeeded", {"completed": 1, "failed": 0, "left": 0})
    assert found(client, store.id, "bicycles") == ["bikes.txt"]


FILTERS: list[tuple[dict[str, Any], set[int]]] = [
    ({"type": "eq", "key": "number", "value": 1}, {1}),
    ({"type": "eq", "key": "number", "value": 1.0}, {1}),
    ({"type": "eq", "key": "number", "value": True}, set()),
    ({"type": "eq", "key": "number", "value": "1"}, set()),
    ({"type": "ne", "key": "number", "value": 1}, {0, 2}),
    ({"type": "ne", "key": "absent", "value": 1}, {0, 1, 2}),
    ({"type": "eq", "key": "absent", "value": 1}, set()),
    ({"type": "gt", "key": "number", "value": 0}, {1, 2}),
    ({"type": "gte", "key": "number", "value": 1}, {1, 2}),
    ({"type": "lt", "key": "number", "value": 1.5}, {0, 1}),
    ({"type": "lte", "key": "number", "value": 0}, {0}),
    ({"type": "gt", "key": "name", "value": "bz"}, {0, 2}),
    ({"type": "gt", "key": "name", "value": 0}, set()),
    ({"type": "in", "key": "number", "value": [0, 2, "1"]}, {0, 2}),
    ({"type": "nin", "key": "number", "value": [0, 2]}, {1}),
    ({"type": "in", "key": "number", "value": []}, set()),
    ({"type": "eq", "key": "new", "value": False}, {0}),
    (
        {
            "type": "or",
            "filters": [
                {"type": "eq", "key": "number", "value": 0},
                {
                    "type": "and",
                    "filters": [
                        {"type": "eq", "key": "new", "value": True},
                        {"type": "eq", "key": "name", "value": "sauna.html"},
                    ],
                },
            ],
        },
        {0, 2},
    ),
]


def test_a_search_is_filtered_before_it_is_cut(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder
) -> None:
    store, ids = filled(client, database, home, embedder)
    names = list(TEXTS)
    for given, expected in FILTERS:
        hits = set(found(client, store, "anything at all", filters=given))
        assert hits == {names[number] for number in expected}, given
    by_number: dict[str, Any] = {"type": "eq", "key": "number", "value": 0}
    assert found(client, store, "bicycle rental", max_num_results=1) == ["bikes.txt"]
    assert found(client, store, "bicycle rental", max_num_results=1, filters=by_number) == ["cats.md"]
    changed = client.vector_stores.files.update(ids["bikes.txt"], vector_store_id=store, attributes={"number": 0})
    assert changed.attributes == {"number": 0}
    assert found(client, store, "bicycle rental", max_num_results=1, filters=by_number) == ["bikes.txt"]


def test_several_queries_are_answered_together(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder
) -> None:
    store, _ = filled(client, database, home, embedder)
    queries = ["Where do cats sleep?", "When does the sauna open?"]
    page = client.vector_stores.search(store, query=queries, max_num_results=2, rewrite_query=True)
    assert {hit.filename for hit in page} == {"cats.md", "sauna.html"}
    assert page.search_query == queries  # type: ignore[attr-defined]
    scores = [hit.score for hit in client.vector_stores.search(store, query="Where do cats sleep?")]
    assert found(client, store, "Where do cats sleep?", ranking_options={"score_threshold": scores[0]}) == ["cats.md"]
    assert len(found(client, store, "cats", ranking_options={"ranker": "none", "score_threshold": 0})) == 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": " \n"}, "query"),
        ({"query": []}, "query"),
        ({"query": ["a", ""]}, "query[1]"),
        ({"query": 5}, "query"),
        ({"query": "a", "max_num_results": 0}, "max_num_results"),
        ({"query": "a", "max_num_results": 51}, "max_num_results"),
        ({"query": "a", "colour": 1}, None),
        ({"query": "a", "ranking_options": {"ranker": "mine"}}, "ranking_options.ranker"),
        ({"query": "a", "ranking_options": {"ranker": "default-2024-11-15"}}, "ranking_options.ranker"),
        ({"query": "a", "ranking_options": {"score_threshold": 2}}, "ranking_options.score_threshold"),
        ({"query": "a", "ranking_options": {"hybrid_search": {}}}, "ranking_options.hybrid_search"),
        ({"query": "a", "filters": {"type": "like", "key": "a", "value": 1}}, "filters.type"),
        ({"query": "a", "filters": {"type": "eq", "key": "a"}}, "filters"),
        ({"query": "a", "filters": {"type": "eq", "key": "a", "value": [1]}}, "filters.value"),
        ({"query": "a", "filters": {"type": "in", "key": "a", "value": 1}}, "filters.value"),
        ({"query": "a", "filters": {"type": "gt", "key": "a", "value": True}}, "filters.value"),
        ({"query": "a", "filters": {"type": "eq", "key": "a", "value": None}}, "filters.value"),
        ({"query": "a", "filters": {"type": "and", "filters": []}}, "filters.filters"),
        ({"query": "a", "filters": {"type": "and", "key": "a", "value": 1}}, "filters"),
        (
            {"query": "a", "filters": {"type": "or", "filters": [{"type": "in", "key": "a", "value": 1}]}},
            "filters.filters[0].value",
        ),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_by_name(
    shared_store: str, body: dict[str, Any], param: str | None
) -> None:
    answer = httpx.post(f"{shared_store}/search", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    if param is not None:
        assert error["param"] == param, error


@pytest.mark.parametrize("depth", [9, 400, 20_000])
def test_a_filter_nested_too_deeply_is_refused(shared_store: str, depth: int) -> None:
    nested = '{"type":"and","filters":[' * depth + '{"type":"eq","key":"a","value":1}' + "]}" * depth
    answer = httpx.post(
        f"{shared_store}/search",
        content=f'{{"query":"a","filters":{nested}}}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400, answer.text[:300]


def test_what_cannot_be_read_is_told_and_stops_nothing(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder
) -> None:
    store = client.vector_stores.create(name="mixed").id
    files = {
        "program.exe": b"MZ",
        "broken.pdf": b"no pdf at all",
        "latin.txt": "caf\xe9".encode("latin-1") + b"\x81\x00\xff",
        "empty.md": b" \n",
        "lines.jsonl": b'{"id": "a", "text": "Towels are in the tower."}\n{"id": "b", "text": "Keys at the desk."}\n',
        "bad.jsonl": b'{"id": "a"}\n',
    }
    ids = [upload(client, name, content) for name, content in files.items()]
    gone = upload(client, "gone.txt", "gone")
    batch = client.vector_stores.file_batches.create(store, file_ids=[*ids, gone])
    assert (batch.status, batch.file_counts.in_progress) == ("in_progress", 7)
    with writing(database):
        name = Cabinet(database, home, 1).find(gone, OPEN).stored_as
    (home / "files" / name).unlink()
    assert work(database, home, embedder) == [Ingested(completed=1, failed=6)]
    batch = client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store)
    assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == ("completed", 1, 6)
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store, filter="failed", limit=2)
    errors = {file.id: file.last_error for file in listed}  # the client pages by itself
    codes = {name: error.code for name, file_id in zip(files, ids, strict=True) if (error := errors.get(file_id))}
    assert codes == {
        "program.exe": "unsupported_file",
        "broken.pdf": "invalid_file",
        "latin.txt": "invalid_file",
        "empty.md": "invalid_file",
        "bad.jsonl": "invalid_file",
    }
    assert errors[gone] is not None
    assert [file.status for file in client.vector_stores.files.list(store, filter="completed")] == ["completed"]
    assert found(client, store, "Where are the towels?")[0] == "lines.jsonl"
    content = client.vector_stores.files.content(ids[4], vector_store_id=store)
    assert [piece.text for piece in content] == ["Towels are in the tower.", "Keys at the desk."]


def test_a_cancelled_batch_goes_no_further(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = client.vector_stores.create(name="cancelled").id
    ids = [upload(client, f"{name}", text) for name, text in TEXTS.items()]
    batch = client.vector_stores.file_batches.create(
        store, files=[{"file_id": file_id, "attributes": {"n": n}} for n, file_id in enumerate(ids)]
    )
    added = ingestion.add_documents

    def cancel_then_add(*arguments: Any) -> Any:  # the client cancels while the first file is embedded
        state = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
        assert (state.status, state.file_counts.cancelled) == ("cancelled", 3)
        return added(*arguments)

    monkeypatch.setattr(ingestion, "add_documents", cancel_then_add)
    assert work(database, home, embedder) == [Ingested(left=1)]
    batch = client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store)
    assert (batch.status, batch.file_counts.cancelled, batch.file_counts.in_progress) == ("cancelled", 3, 0)
    assert found(client, store, "cats") == []
    again = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
    assert again == batch
    monkeypatch.undo()
    client.vector_stores.files.create(file_id=ids[0], vector_store_id=store)
    work(database, home, embedder)
    assert found(client, store, "cats") == ["cats.md"]


def test_a_killed_job_goes_on_and_a_lost_one_is_told(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = client.vector_stores.create(name="killed").id
    ids = [upload(client, name, text) for name, text in TEXTS.items()]
    client.vector_stores.file_batches.create(store, file_ids=ids)
    added, calls = ingestion.add_documents, []

    def die_at_the_second(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return added(*arguments)

    monkeypatch.setattr(ingestion, "add_documents", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        ingest(database, home, embedder, store, lambda *_: None)
    counts = client.vector_stores.retrieve(store).file_counts
    assert (counts.completed, counts.in_progress) == (1, 2)
    assert ingest(database, home, embedder, store, lambda *_: None) == Ingested(completed=2)
    assert len(calls) == 4
    late = upload(client, "late.txt", "late")
    client.vector_stores.files.create(file_id=late, vector_store_id=store)
    with database.connect() as connection:
        assert len(list_jobs(connection)) == 1  # the job of before still waits, and does for this one too
    with writing(database) as connection:
        connection.execute(update(jobs_table).values(status="failed", error="the worker died 3 times"))
    file = client.vector_stores.files.retrieve(late, vector_store_id=store)
    assert file.status == "failed"
    assert file.last_error is not None
    assert (file.last_error.code, "died 3 times" in file.last_error.message) == ("server_error", True)


def test_files_leave_a_store_and_deleted_ones_leave_no_trace(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder
) -> None:
    store, ids = filled(client, database, home, embedder)
    domain = client.vector_stores.retrieve(store).bakeoff["domain"]  # type: ignore[attr-defined]
    other = client.vector_stores.create(metadata={"domain": domain}).id
    client.vector_stores.files.create(file_id=ids["cats.md"], vector_store_id=other)
    work(database, home, embedder)
    gone = client.vector_stores.files.delete(ids["cats.md"], vector_store_id=store)
    assert (gone.id, gone.deleted, gone.object) == (ids["cats.md"], True, "vector_store.file.deleted")
    assert "cats.md" in found(client, store, "cats")  # the other store over the domain holds it still
    client.vector_stores.files.delete(ids["cats.md"], vector_store_id=other)
    assert "cats.md" not in found(client, store, "cats")
    assert client.files.retrieve(ids["cats.md"]).filename == "cats.md"
    with pytest.raises(NotFoundError):
        client.vector_stores.files.retrieve(ids["cats.md"], vector_store_id=store)
    client.files.delete(ids["bikes.txt"])
    assert [file.id for file in client.vector_stores.files.list(store)] == [ids["sauna.html"]]
    client.files.delete(ids["cats.md"])
    roll_back(database, domain, 2)  # the epoch that held cats and bikes
    assert set(found(client, store, "cats and bicycles")) <= {"sauna.html"}
    assert b"12 pounds" not in (home / "bakeoff.db").read_bytes()


def test_a_store_takes_its_own_domain_along_and_no_other(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder
) -> None:
    def domains() -> set[str]:
        with database.connect() as connection:
            return {domain.name for domain in list_domains(connection)}

    own, _ = filled(client, database, home, embedder)
    assert domains() == {DOMAIN, "house-rules"}
    second = client.vector_stores.create(name="House rules!")
    assert second.bakeoff["domain"] == "house-rules-2"  # type: ignore[attr-defined]
    nameless = client.vector_stores.create(name="日本")
    assert nameless.bakeoff["domain"].startswith("vs-")  # type: ignore[attr-defined]
    for store in (own, second.id, nameless.id):
        deleted = client.vector_stores.delete(store)
        assert (deleted.id, deleted.deleted, deleted.object) == (store, True, "vector_store.deleted")
    assert domains() == {DOMAIN}
    bound, ids = filled(client, database, home, embedder, metadata={"domain": DOMAIN, "for": "guests"})
    assert found(client, bound, "What does parking cost?", max_num_results=1) == ["Parking"]
    assert "bikes.txt" in found(client, bound, "bicycles")
    client.vector_stores.delete(bound)
    with database.connect() as connection:
        assert document_ids(connection, DOMAIN) == {"parking", "pets", "breakfast", "wifi", "pool", "taxi"}
    assert client.files.retrieve(ids["cats.md"]).id == ids["cats.md"]
    with pytest.raises(NotFoundError):
        client.vector_stores.retrieve(bound)
    with writing(database) as connection:
        ensure_domain(connection, "bare")
    client.vector_stores.delete(client.vector_stores.create(metadata={"domain": "bare"}).id)
    assert domains() == {DOMAIN, "bare"}
    first = client.vector_stores.create(name="handed on").id
    heir = client.vector_stores.create(metadata={"domain": "handed-on"}).id
    client.vector_stores.delete(first)
    assert domains() == {DOMAIN, "bare", "handed-on"}
    client.vector_stores.delete(heir)
    assert domains() == {DOMAIN, "bare"}
    with pytest.raises(BadRequestError) as caught:
        client.vector_stores.create(metadata={"domain": "nowhere"})
    assert caught.value.param == "metadata.domain"


def test_a_store_deleted_while_it_is_filled_leaves_nothing(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = client.vector_stores.create(name="short lived").id
    client.vector_stores.files.create(file_id=upload(client, "cats.md", TEXTS["cats.md"]), vector_store_id=store)
    added = ingestion.add_documents

    def delete_then_add(*arguments: Any) -> Any:
        client.vector_stores.delete(store)
        return added(*arguments)

    monkeypatch.setattr(ingestion, "add_documents", delete_then_add)
    assert work(database, home, embedder) == [Ingested(left=1)]
    with database.connect() as connection:
        assert [domain.name for domain in list_domains(connection)] == [DOMAIN]
    with pytest.raises(NotFound):
        ingest(database, home, embedder, store, lambda *_: None)


def test_a_store_is_changed_and_expires_when_it_is_not_used(
    client: OpenAI, database: Engine, home: Path, embedder: Embedder
) -> None:
    store, ids = filled(client, database, home, embedder)
    changed = client.vector_stores.update(
        store, name="Rules", metadata={"a": "b"}, expires_after={"anchor": "last_active_at", "days": 2}
    )
    assert (changed.name, changed.metadata) == ("Rules", {"a": "b"})
    assert changed.expires_after is not None
    assert changed.expires_at == (changed.last_active_at or 0) + 2 * 86_400
    assert client.vector_stores.update(store).name == "Rules"
    with pytest.raises(BadRequestError) as caught:
        client.vector_stores.update(store, metadata={"domain": DOMAIN})
    assert caught.value.param == "metadata.domain"

    def age(days: float) -> None:
        with writing(database) as connection:
            past = datetime.now(UTC) - timedelta(days=days)
            connection.execute(update(vector_stores_table).values(last_active_at=past))

    age(1.9)
    assert found(client, store, "cats")
    assert (client.vector_stores.retrieve(store).last_active_at or 0) > time.time() - 60
    age(2.1)
    assert client.vector_stores.retrieve(store).status == "expired"
    for attempt in (
        lambda: client.vector_stores.search(store, query="cats"),
        lambda: client.vector_stores.files.create(file_id=ids["cats.md"], vector_store_id=store),
    ):
        with pytest.raises(BadRequestError, match="expired"):
            attempt()
    Cabinet(database, home, 1).sweep(leftovers=True)
    assert client.vector_stores.retrieve(store).file_counts.total == 0
    with database.connect() as connection:
        assert document_ids(connection, "house-rules") == set()
    assert client.vector_stores.update(store, expires_after=None).status == "completed"  # type: ignore[arg-type]


def test_stores_come_in_pages(client: OpenAI) -> None:
    assert client.vector_stores.list().data == []
    ids = [client.vector_stores.create(name=f"s{number}").id for number in range(5)]
    assert [store.id for store in client.vector_stores.list(limit=2)] == ids[::-1]
    page = client.vector_stores.list(limit=2, order="asc", before=ids[3])
    assert ([store.id for store in page.data], page.has_more) == (ids[1:3], True)
    with pytest.raises(BadRequestError):
        client.vector_stores.list(limit=101)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("", {"name": "x" * 257}, 400, "name"),
        ("", {"name": "a\x00b"}, 400, "name"),
        ("", {"metadata": {"k" * 65: "v"}}, 400, None),
        ("", {"metadata": {str(n): "v" for n in range(17)}}, 400, "metadata"),
        ("", {"metadata": {"a": 1}}, 400, None),
        ("", {"colour": "red"}, 400, None),
        ("", {"expires_after": {"anchor": "last_active_at", "days": 366}}, 400, "expires_after.days"),
        ("", {"expires_after": {"anchor": "created_at", "days": 1}}, 400, "expires_after.anchor"),
        ("", {"file_ids": ["file-none"]}, 404, "file_ids"),
        ("", {"chunking_strategy": {"type": "magic"}}, 400, "chunking_strategy.type"),
        (
            "",
            {
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 0},
                }
            },
            400,
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        (
            "",
            {
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 256, "chunk_overlap_tokens": 9},
                }
            },
            400,
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        ("/files", {"file_id": "file-none"}, 404, "file_id"),
        ("/files", {"file_id": "a\x00b"}, 404, "file_id"),
        ("/files", {"file_id": "file-none", "attributes": {"a": None}}, 400, None),
        ("/files", {"file_id": "file-none", "attributes": {"a": "x" * 513}}, 400, None),
        ("/files/file-none", {"attributes": {}}, 404, "file_id"),
        ("/files/file-none", {}, 400, "attributes"),
        ("/file_batches", {}, 400, "file_ids"),
        ("/file_batches", {"file_ids": []}, 400, "file_ids"),
        ("/file_batches", {"file_ids": ["a"], "files": [{"file_id": "a"}]}, 400, "files"),
        ("/file_batches", {"files": [{"file_id": "file-none"}]}, 404, "files"),
        ("/file_batches/vsfb_none/cancel", {}, 404, "batch_id"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    shared_store: str, path: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    base = shared_store.rsplit("/", 1)[0] if not path else shared_store
    answer = httpx.post(base + path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "invalid_request_error"), error
    if param is not None:
        assert error["param"] == param, error


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[str]:
    """The address of a store of a service that no test changes."""
    home = tmp_path_factory.mktemp("shared")
    with running(create_app(Settings(home=home), generator=ScriptedGenerator(), embedder=embedder)) as url:
        yield f"{url}/v1/vector_stores/{client_of(url).vector_stores.create().id}"


@pytest.mark.parametrize("path", ["", "/files", "/files/file-x", "/files/file-x/content", "/file_batches/b"])
@pytest.mark.parametrize("store", ["vs_none", "%00", "a%2Fb", "x" * 300, "'; drop table files; --"])
def test_a_store_that_is_not_there_is_not_found(shared_store: str, store: str, path: str) -> None:
    answer = httpx.get(shared_store.rsplit("/", 1)[0] + f"/{store}{path}")
    assert answer.status_code == 404


def test_our_own_chunk_sizes_are_taken(shared_store: str) -> None:
    sizes = {"max_chunk_size_tokens": 256, "chunk_overlap_tokens": 0}
    body = {"chunking_strategy": {"type": "static", "static": sizes}}
    assert httpx.post(shared_store.rsplit("/", 1)[0], json=body).status_code == 200


def test_keys_share_nothing_but_what_everyone_may_see(
    home: Path, database: Engine, embedder: Embedder, scripted: ScriptedGenerator
) -> None:
    with database.begin() as connection:
        _hr, hr_key = create_key(connection, "hr", ["hr"], manages=True)
        _, staff_key = create_key(connection, "staff", [], manages=True)
        _, asking_key = create_key(connection, "asking", ["hr"])
    with running(create_app(Settings(home=home), generator=scripted, embedder=embedder)) as url:
        owner, staff, asking = (client_of(url, key) for key in (hr_key, staff_key, asking_key))
        store, ids = filled(owner, database, home, embedder, metadata={"domain": DOMAIN})
        assert "cats.md" in found(owner, store, "cats")
        for other in (staff, asking):
            for attempt in (
                lambda other=other: other.vector_stores.retrieve(store),
                lambda other=other: other.vector_stores.search(store, query="cats"),
                lambda other=other: other.vector_stores.files.list(store),
                lambda other=other: other.vector_stores.files.content(ids["cats.md"], vector_store_id=store),
            ):
                with pytest.raises(NotFoundError):
                    attempt()
            assert other.vector_stores.list().data == []
        with pytest.raises(PermissionDeniedError):
            asking.vector_stores.create()
        theirs = staff.vector_stores.create(metadata={"domain": DOMAIN}).id
        assert not set(TEXTS) & set(found(staff, theirs, "cats and bicycles", max_num_results=50))
        with pytest.raises(NotFoundError):
            staff.vector_stores.files.create(file_id=ids["cats.md"], vector_store_id=theirs)
        question: list[Any] = [{"role": "user", "content": "Where do cats of guests sleep?"}]
        asking.chat.completions.create(model=f"{DOMAIN}/rag", messages=question)
        assert "sleep in the winter garden" in str(scripted.asked[-1][0])
        staff.chat.completions.create(model=f"{DOMAIN}/rag", messages=question)
        assert "sleep in the winter garden" not in str(scripted.asked[-1][0])
    with database.connect() as connection:
        groups = load_all_groups(connection, DOMAIN)
    assert {groups[file_id] for file_id in ids.values()} == {("hr",)}
