"""Every route as OpenAI describes it: each answer strictly parsed by the `openai` package, and held against its schema.

`Wire` sees every answer on its way to the client; each test ends by asking whether its whole group was seen.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai_description import Operation, check_answer, events, operations
from scripted_service import DOMAIN, ScriptedGenerator, running
from small_adapters import write_small_adapter
from sqlalchemy import Engine

from bakeoff.adapters import register_adapter
from bakeoff.database import open_database, writing
from bakeoff.settings import Settings
from bakeoff.worker.claims import claim_job, end_job
from retrieval.embedder import Embedder
from service.app import create_app
from service.openai.vector_stores.ingestion import ingest

EMBEDDER = Settings().embedder
RAG = f"{DOMAIN}/rag"
ASK: dict[str, Any] = {"model": RAG, "messages": [{"role": "user", "content": "What does parking cost?"}]}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
LINE = {"messages": [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At noon."}]}


class Wire:
    """The client of a service, and every answer that came to it."""

    def __init__(self, url: str) -> None:
        self.seen: set[Operation] = set()
        self.last: httpx.Response | None = None
        http = httpx.Client(event_hooks={"response": [self._look]}, timeout=30)
        self.client = OpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http, _strict_response_validation=True
        )

    @property
    def loose(self) -> OpenAI:
        """The client as applications have it, for what its strict parse does not know."""
        return self.client.with_options(_extra_kwargs={"_strict_response_validation": False})

    @property
    def answer(self) -> httpx.Response:
        """The last one."""
        assert self.last is not None
        return self.last

    def _look(self, answer: httpx.Response) -> None:
        self.last = answer
        self.seen.add(check_answer(answer))


@pytest.fixture
def wire(home: Path, embedder: Embedder) -> Iterator[Wire]:
    able = ScriptedGenerator(frozenset({"logprobs", "top_logprobs", "tools", "response_format"}))
    with running(create_app(Settings(home=home), generator=able, embedder=embedder)) as url:
        yield Wire(url)


@pytest.fixture
def database(home: Path) -> Iterator[Engine]:
    engine = open_database(Settings(home=home).url, home)
    yield engine
    engine.dispose()


def test_chat_completions(wire: Wire) -> None:
    chat = wire.client.chat.completions
    plain = chat.create(**ASK)
    assert plain.id.startswith("chatcmpl-") and plain.created > 1.7e9 and plain.system_fingerprint
    assert plain.usage is not None and plain.usage.prompt_tokens_details is not None
    assert plain.usage.prompt_tokens_details.cached_tokens == 4
    full = chat.create(**ASK, n=2, logprobs=True, top_logprobs=2, seed=1, stop="x", metadata={"a": "b"}, user="u")
    assert [choice.index for choice in full.choices] == [0, 1] and full.choices[0].logprobs is not None
    [called] = chat.create(**ASK, tools=[TOOL]).choices
    assert called.finish_reason == "tool_calls" and called.message.tool_calls

    chunks = list(chat.create(**ASK, n=2, stream=True, stream_options={"include_usage": True}, logprobs=True))
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and chunks[-2].usage is None
    assert {chunk.id for chunk in chunks} == {chunks[0].id} and chunks[0].id.startswith("chatcmpl-")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1] if chunk.choices[0].index == 0)
    assert list(chat.create(**ASK, stream=True, tools=[TOOL]))
    assert list(chat.create(**ASK, stream=True))[-1].usage is None

    stored = [chat.create(**ASK, store=True, metadata={"number": str(number)}).id for number in range(3)]
    asked = {"role": "assistant", "content": "What does parking cost?"}
    kept = chat.create(model=RAG, messages=[asked], store=True).id  # type: ignore[list-item]
    assert [one.id for one in chat.list(limit=2)] == [*stored, kept]
    assert chat.list(limit=2).has_more and not chat.list(after=stored[-1]).has_more
    assert chat.retrieve(kept).id == kept
    assert chat.update(kept, metadata={"new": "yes"}).metadata == {"new": "yes"}
    assert [message.content for message in chat.messages.list(kept)] == [asked["content"]]
    assert chat.delete(kept).deleted
    with pytest.raises(openai.NotFoundError):
        chat.retrieve(kept)
    assert wire.seen >= operations("chat")


def test_a_stream_that_fails_midway_says_so_in_an_error_of_the_usual_form(wire: Wire) -> None:
    messages: list[Any] = [{"role": "user", "content": "fail midway"}]
    with pytest.raises(openai.APIError, match="engine has stopped"):
        list(wire.client.chat.completions.create(model=RAG, messages=messages, stream=True))
    *_, error, done = events(wire.answer.text)
    assert json.loads(error)["error"]["type"] == "server_error" and done == "[DONE]"
    *_, last = wire.client.responses.create(model=RAG, input="fail midway", stream=True)
    assert last.type == "response.failed" and last.response.error is not None


def test_completions(wire: Wire) -> None:
    whole = wire.client.completions.create(model=RAG, prompt=["Parking?", "Pool?"], n=2, logprobs=2)
    assert whole.id.startswith("cmpl-") and [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    options: Any = {"stream_options": {"include_usage": True}}
    # As in OpenAI's own, parts of the stream have no finish_reason, which the strict parse does not take.
    chunks = list(wire.loose.completions.create(model=RAG, prompt="Parking?", stream=True, **options))
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert wire.seen >= operations("completions")


def test_embeddings_and_models(wire: Wire, home: Path, database: Engine, model_dir: Path) -> None:
    floats = wire.client.embeddings.create(model=EMBEDDER, input=["a", "b"], encoding_format="float")
    coded = wire.loose.embeddings.create(model=EMBEDDER, input="a")  # base64, which the strict parse forgets
    assert [one.index for one in floats.data] == [0, 1]
    assert coded.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-6)
    digest = write_small_adapter(home, model_dir, DOMAIN)
    with writing(database) as connection:
        register_adapter(connection, DOMAIN, digest)
    assert RAG in [model.id for model in wire.client.models.list()]
    assert wire.client.models.retrieve(RAG).id == RAG
    assert wire.client.models.delete(f"{DOMAIN}/fine-tuned@{digest}").deleted
    with pytest.raises(openai.NotFoundError):
        wire.client.models.retrieve(f"{DOMAIN}/fine-tuned@{digest}")
    assert wire.seen >= operations("embeddings") | operations("models")


def test_files(wire: Wire) -> None:
    files = wire.client.files
    made = [files.create(file=(f"{number}.txt", b"text"), purpose="assistants").id for number in range(3)]
    assert all(file_id.startswith("file-") for file_id in made)
    timed = files.create(
        file=("a.jsonl", b"{"), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert timed.status == "error" and timed.expires_at == timed.created_at + 3600
    assert [file.id for file in files.list(limit=2, order="asc")] == [*made, timed.id]
    assert files.retrieve(made[0]).bytes == 4 and files.content(made[0]).read() == b"text"
    assert files.delete(made[0]).deleted
    with pytest.raises(openai.NotFoundError):
        files.retrieve(made[0])
    assert wire.seen >= operations("files")


def test_responses(wire: Wire) -> None:
    responses = wire.client.responses
    include: Any = ["file_search_call.results"]
    store = wire.client.vector_stores.create(metadata={"domain": DOMAIN}).id
    asked: dict[str, Any] = {"model": RAG, "input": "What does parking cost?", "include": include}
    asked["tools"] = [{"type": "file_search", "vector_store_ids": [store]}]
    first = responses.create(**asked, instructions="Be brief.", metadata={"a": "b"})
    assert first.id.startswith("resp_") and first.output[0].type == "file_search_call"
    second = responses.create(model=f"{DOMAIN}/base", input="And for dogs?", previous_response_id=first.id)
    assert [item.type for item in second.output] == ["message"]
    function: Any = {"type": "function", "strict": False, **TOOL["function"]}
    called = responses.create(model=RAG, input="Weather?", tools=[function])
    assert called.output[-1].type == "function_call"
    streamed = list(responses.create(**asked, stream=True, top_logprobs=1))
    assert [event.sequence_number for event in streamed] == list(range(len(streamed)))
    assert streamed[-1].type == "response.completed"
    assert list(responses.create(model=RAG, input="Weather?", tools=[function], stream=True))
    replayed = list(responses.retrieve(first.id, stream=True, include=include))
    assert replayed[-1].type == "response.completed" and replayed[-1].response.output == first.output
    assert responses.retrieve(second.id) == second
    items = responses.input_items.list(second.id, limit=2, order="asc")
    assert items.has_more and len(list(items)) == 4
    assert responses.input_tokens.count(model=RAG, input="What does parking cost?").input_tokens > 10
    assert responses.compact(model=RAG, input="What does parking cost?").id.startswith("resp_")
    with pytest.raises(openai.BadRequestError):
        responses.cancel(first.id)
    responses.delete(first.id)
    for again in (responses.retrieve, responses.delete, responses.cancel):
        with pytest.raises(openai.NotFoundError, match="there is no response"):
            again(first.id)
    assert wire.seen >= operations("responses")


def test_fine_tuning_jobs(wire: Wire, database: Engine) -> None:
    jobs = wire.client.fine_tuning.jobs
    line = json.dumps(LINE)
    file_id = wire.client.files.create(file=("t.jsonl", f"{line}\n{line}".encode()), purpose="fine-tune").id
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    job = jobs.create(model=RAG, training_file=file_id, method=method, suffix="x", seed=7, metadata={"a": "b"})
    assert job.id.startswith("ftjob-") and job.status == "queued"
    other = jobs.create(model=RAG, training_file=file_id)
    assert jobs.pause(other.id).status == "queued"
    assert jobs.resume(other.id).status == "queued"
    assert jobs.cancel(other.id).status == "cancelled"
    with writing(database) as connection:
        assert claim_job(connection, "worker", is_heavy=True) is not None
    assert jobs.retrieve(job.id).status == "running"
    result = {"adapter": "0" * 64, "step": 5, "train_loss": 1.5, "validation_loss": 1.75, "tokens": 100}
    with writing(database) as connection:
        assert end_job(connection, "worker", job.id, "succeeded", result=result)
    done = jobs.retrieve(job.id)
    assert done.fine_tuned_model == f"{DOMAIN}/fine-tuned@{'0' * 64}" and done.trained_tokens == 100
    assert [one.id for one in jobs.list(limit=1)] == [other.id, job.id]
    assert jobs.list(limit=1).has_more
    assert all(event.id.startswith("ftevent-") for event in jobs.list_events(job.id, limit=1))
    [checkpoint] = jobs.checkpoints.list(job.id)
    assert checkpoint.id.startswith("ftckpt_") and checkpoint.metrics.valid_loss == 1.75
    assert wire.seen >= operations("fine_tuning/jobs")


def test_vector_stores(wire: Wire, home: Path, database: Engine, embedder: Embedder) -> None:
    stores = wire.client.vector_stores
    ids = [
        wire.client.files.create(file=(name, b"Bicycles are rented at the gate."), purpose="assistants").id
        for name in ("a.txt", "b.txt", "c.exe")
    ]
    store = stores.create(name="Rules", metadata={"a": "b"}, expires_after={"anchor": "last_active_at", "days": 1})
    assert store.id.startswith("vs_") and store.expires_at is not None
    entry = stores.files.create(file_id=ids[0], vector_store_id=store.id, attributes={"n": 1, "b": True, "s": "x"})
    assert entry.status == "in_progress"
    batch = stores.file_batches.create(vector_store_id=store.id, file_ids=ids[1:])
    assert batch.id.startswith("vsfb_") and batch.file_counts.total == 2
    ingest(database, home, embedder, store.id, lambda *_: None)
    assert stores.file_batches.retrieve(batch.id, vector_store_id=store.id).file_counts.failed == 1
    listed = stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=1)
    assert listed.has_more and {file.status for file in listed} == {"completed", "failed"}
    assert stores.file_batches.cancel(batch.id, vector_store_id=store.id).status == "completed"
    files = stores.files
    assert [file.id for file in files.list(store.id, filter="failed")] == [ids[2]]
    assert files.retrieve(ids[2], vector_store_id=store.id).last_error is not None
    assert files.update(ids[0], vector_store_id=store.id, attributes={"n": 2}).attributes == {"n": 2}
    [page] = files.content(ids[0], vector_store_id=store.id)
    assert page.text is not None and "Bicycles" in page.text
    filters: Any = {"type": "eq", "key": "n", "value": 2}
    hits = list(stores.search(store.id, query=["bicycles", "gate"], filters=filters))
    assert [(hit.file_id, hit.attributes) for hit in hits] == [(ids[0], {"n": 2})], hits
    assert files.delete(ids[0], vector_store_id=store.id).deleted
    assert stores.update(store.id, name="Other", expires_after=None).name == "Other"
    assert stores.retrieve(store.id).file_counts.total == 2
    empty = stores.create()
    assert [each.id for each in stores.list(limit=1, order="asc")] == [store.id, empty.id]
    assert stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        stores.retrieve(store.id)
    assert wire.seen >= operations("vector_stores")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/chat/completions", b"{", 400),
        ("POST", "/chat/completions", b'{"model": "none/rag", "messages": [{"role": "user", "content": "a"}]}', 404),
        ("POST", "/chat/completions", b'{"model": "hotel/rag", "messages": [], "magic": 1}', 400),
        ("POST", "/embeddings", b'{"model": "gpt", "input": "a"}', 404),
        ("POST", "/files", b"no form", 400),
        ("GET", "/files?limit=0", b"", 400),
        ("GET", "/vector_stores?after=vs_none", b"", 404),
        ("DELETE", "/models/none", b"", 404),
        ("POST", "/fine_tuning/jobs", b'{"model": "hotel/rag", "training_file": "file-none"}', 400),
        ("DELETE", "/chat/completions", b"", 405),
    ],
)
def test_every_error_has_the_usual_form(shared_url: str, method: str, path: str, body: bytes, status: int) -> None:
    answer = httpx.request(method, f"{shared_url}/v1{path}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    if status != 405:  # an address that OpenAI has, in a way that it has not
        check_answer(answer)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
