"""The `openai` package on the other routes: completions, embeddings, responses, files and vector stores."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from live_service import DOMAIN, Live
from openai import OpenAI
from real_clients import PARKING, Show

from bakeoff.settings import Settings

OPTIONS: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": 120}


@pytest.fixture(scope="module")
def chat_answer(client: OpenAI) -> str:
    """What chat completions say to the question that the other routes are asked too."""
    messages: list[Any] = [{"role": "user", "content": PARKING}]
    ask: dict[str, Any] = {"model": f"{DOMAIN}/rag", "messages": messages, "temperature": 0, "max_tokens": 32}
    return client.chat.completions.create(**ask).choices[0].message.content or ""


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live.url}/v1", _strict_response_validation=True, **OPTIONS) as client:
        yield client


@pytest.fixture(scope="module")
def lenient(live: Live) -> Iterator[OpenAI]:
    """For the two calls whose answers from OpenAI itself the package's types do not fit.

    A stream of completions says null where there is no finish reason yet; embeddings, which the package asks for in
    base64, are strings until it has decoded them.
    """
    with OpenAI(base_url=f"{live.url}/v1", **OPTIONS) as client:
        yield client


def test_completions(client: OpenAI, lenient: OpenAI, chat_answer: str, show: Show) -> None:
    ask: dict[str, Any] = {"model": f"{DOMAIN}/rag", "prompt": PARKING, "temperature": 0, "max_tokens": 32}
    whole = client.completions.create(**ask)
    assert whole.choices[0].text == chat_answer
    chunks = list(lenient.completions.create(**ask, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    show(f"completions.create: {whole.choices[0].text!r}, and in {len(chunks)} chunks")


def test_embeddings_find_by_meaning(client: OpenAI, lenient: OpenAI, show: Show) -> None:
    texts = ["Where do I leave my car?", "The pool opens in May.", "Parking costs 10 pounds a night."]
    model = Settings().embedder
    vectors = np.array([item.embedding for item in lenient.embeddings.create(model=model, input=texts).data])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    pool, parking = vectors[1:] @ vectors[0]
    assert parking > pool + 0.1
    floats = client.embeddings.create(model=model, input=texts, encoding_format="float")
    assert np.allclose([item.embedding for item in floats.data], vectors, atol=1e-5)
    assert floats.usage.prompt_tokens > 10
    show(
        f"embeddings.create: {vectors.shape[1]} dimensions; {texts[0]!r} is nearer to {texts[2]!r} than to {texts[1]!r}"
    )
    show("encoding_format float and base64: the same vectors")


def test_responses_in_turns(client: OpenAI, chat_answer: str, show: Show) -> None:
    ask: dict[str, Any] = {"model": f"{DOMAIN}/rag", "temperature": 0, "max_output_tokens": 32}
    first = client.responses.create(**ask, input=PARKING)
    assert first.status == "completed"
    assert first.output_text == chat_answer
    assert first.usage is not None
    assert first.usage.input_tokens > 200
    show(f"responses.create: {first.output_text!r}, {first.usage.total_tokens} tokens")
    with client.responses.stream(**ask, input=PARKING) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == first.output_text
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") > 3
    show(f"responses.stream: {len(kinds)} events of {len(set(kinds))} kinds, the same answer")
    second = client.responses.create(**ask, input="And breakfast?", previous_response_id=first.id)
    assert second.output_text
    show(f"previous_response_id: {second.output_text!r}")
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    show("responses.retrieve, responses.delete")


@pytest.fixture
def worker(live: Live) -> Iterator[None]:
    """Runs the jobs that the service orders; `bakeoff serve` starts one by itself, the tests' service does not."""
    command = [sys.executable, "-m", "bakeoff.cli.main", "worker", "--until-eof"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "BAKEOFF_HOME": str(live.home)})
    yield
    process.communicate(timeout=60)


@pytest.mark.usefixtures("worker")
def test_file_search_fills_and_asks_a_domain_of_its_own(client: OpenAI, show: Show) -> None:
    text = (
        b"# Berths\n\nA berth at Northpier costs 31 pounds a night.\n\n# Fuel\n\nDiesel is sold from 8:00 to 17:00.\n"
    )
    store = client.vector_stores.create(name="Marina handbook")
    try:
        options: dict[str, Any] = {"poll_interval_ms": 250, "attributes": {"year": 2026}}
        file = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("handbook.md", text), **options
        )
        assert (file.status, file.last_error) == ("completed", None)
        assert client.files.content(file.id).read() == text
        show(f"vector_stores.files.upload_and_poll: {file.status}, {client.files.retrieve(file.id).bytes} bytes")
        newer: Any = {"type": "gt", "key": "year", "value": 2025}
        [found] = client.vector_stores.search(store.id, query="What does a berth cost?", filters=newer).data
        assert (found.file_id, found.filename) == (file.id, "handbook.md")
        assert "31 pounds" in found.content[0].text
        later: Any = {"type": "gt", "key": "year", "value": 2026}
        assert client.vector_stores.search(store.id, query="What does a berth cost?", filters=later).data == []
        show(f"vector_stores.search with a filter: {found.filename}, score {found.score:.2f}")
        question: list[Any] = [{"role": "user", "content": "What does a berth at Northpier cost?"}]
        ask: dict[str, Any] = {"model": "marina-handbook/rag", "messages": question, "temperature": 0}
        answer = client.chat.completions.create(**ask, max_tokens=32).choices[0].message
        assert "31" in (answer.content or "")
        assert answer.annotations
        show(f"chat with marina-handbook/rag: {answer.content!r}")
        client.files.delete(file.id)
    finally:
        client.vector_stores.delete(store.id)
    assert not [model.id for model in client.models.list() if model.id.startswith("marina-handbook")]
    show("vector_stores.delete: its domain is gone")
