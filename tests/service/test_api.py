"""The OpenAI routes, asked by the unmodified `openai` package over a real socket."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from scripted_service import DOMAIN, ScriptedGenerator
from small_adapters import write_small_adapter

from bakeoff.adapters import register_adapter
from bakeoff.database import open_database
from bakeoff.promotions import promote_adapter
from bakeoff.settings import Settings

QUESTION: list[Any] = [{"role": "user", "content": "What does parking cost?"}]


@pytest.fixture
def client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def wait_for(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_an_answer_has_text_usage_and_citations(client: OpenAI, url: str) -> None:
    completion = client.chat.completions.create(model=f"{DOMAIN}/rag", messages=QUESTION, temperature=0)
    [choice] = completion.choices
    assert choice.message.content == "Yes, for 10 pounds [1]. "
    assert choice.finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (20, 5)
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 4
    annotations = choice.message.annotations or []
    assert [annotation.type for annotation in annotations] == ["url_citation"] * 5
    first, others = annotations[0].url_citation, annotations[1:]
    assert (first.start_index, first.end_index, first.title) == (19, 22, "Parking")
    assert all((other.url_citation.start_index, other.url_citation.end_index) == (0, 0) for other in others)
    page = httpx.get(first.url)
    assert page.status_code == 200
    assert "10 pounds per night" in page.text


def test_a_stream_says_the_same_and_cites_on_its_last_content(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=f"{DOMAIN}/rag", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Yes, for 10 pounds [1]. "
    assert chunks[0].choices[0].delta.role == "assistant"
    last = chunks[-2].choices[0]
    assert last.finish_reason == "stop"
    assert last.delta.annotations[0]["url_citation"]["start_index"] == 19  # type: ignore[attr-defined]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 25
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_ends_with_done(url: str) -> None:
    body = {"model": f"{DOMAIN}/base", "messages": QUESTION, "stream": True}
    response = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    frames = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    assert all("usage" not in json.loads(frame) for frame in frames[:-1])


def test_each_mode_sends_what_its_table_row_says(client: OpenAI, scripted: ScriptedGenerator) -> None:
    for mode in ("base", "few-shot", "rag"):
        client.chat.completions.create(model=f"{DOMAIN}/{mode}", messages=QUESTION)
    base, few_shot, rag = (messages for messages, _, _ in scripted.asked)
    assert [message.role for message in base] == ["system", "user"]
    assert f"Question: {QUESTION[0]['content']}" in base[-1].content
    assert [message.role for message in few_shot] == ["system", *["user", "assistant"] * 2, "user"]
    assert "[1]\n> Parking behind the hotel" in rag[-1].content


def test_metadata_names_the_task_and_the_prompt_follows(client: OpenAI, scripted: ScriptedGenerator) -> None:
    for mode in ("base", "rag", "few-shot"):
        client.chat.completions.create(
            model=f"{DOMAIN}/{mode}", messages=QUESTION, metadata={"task": "classification", "ours": "1"}
        )
    base, rag, few_shot = (messages for messages, _, _ in scripted.asked)
    for messages in (base, rag):
        assert "Name the category of the message" in messages[-1].content
        assert messages[-1].content.endswith(f"Message: {QUESTION[0]['content']}\nCategory:")
    assert "[1]\n> Parking behind the hotel" in rag[-1].content
    assert [message.role for message in few_shot] == ["system", "user"]  # no training example is of this task


def test_sampling_parameters_reach_the_engine(client: OpenAI, scripted: ScriptedGenerator) -> None:
    client.chat.completions.create(
        model=f"{DOMAIN}/base",
        messages=QUESTION,
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop=["\n"],
        user="u",
        metadata={"a": "b"},
    )
    sampling = scripted.asked[0][2]
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (7, 0.5, 0.9)
    assert (sampling.seed, sampling.stop) == (3, ("\n",))


def test_a_conversation_reaches_the_engine_whole(client: OpenAI, scripted: ScriptedGenerator) -> None:
    parts: Any = [{"type": "text", "text": "And in"}, {"type": "text", "text": "summer?"}]
    client.chat.completions.create(
        model=f"{DOMAIN}/base",
        messages=[
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": "Is the pool open?"},
            {"role": "assistant", "content": "No."},
            {"role": "user", "content": parts},
        ],
    )
    messages = scripted.asked[0][0]
    assert messages[0].content.endswith("Be short.")
    assert [message.content for message in messages[1:3]] == ["Is the pool open?", "No."]
    assert "Question: And in\nsummer?" in messages[3].content


@pytest.mark.parametrize(
    ("change", "status", "param", "said"),
    [
        ({"model": "hotel/auto"}, 404, "model", "Modes: base"),
        ({"model": "nowhere/rag"}, 404, "model", "domain 'nowhere' does not exist"),
        ({"model": "rag"}, 404, "model", "<domain>/<mode>"),
        ({"temperature": 9}, 400, "temperature", "<= 2"),
        ({"max_tokens": 0}, 400, "max_tokens", "below 1"),
        ({"top_p": 0}, 400, "top_p", "> 0"),
        ({"messages": []}, 400, "messages", "length"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "messages", "empty"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages", "tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, 400, "messages", "not supported"),
        ({"messages": [{"role": "function", "content": "x"}]}, 400, "messages[0].role", "function"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages", "image_url"),
        ({"n": 0}, 400, "n", ">= 1"),
        ({"n": 17}, 400, "n", "<= 16"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "describe a function"),
        ({"logprobs": True}, 400, "logprobs", "not supported"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format", "not supported"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop", "up to 4"),
        ({"metadata": {"task": "poetry"}}, 400, "metadata", "Tasks: answer, classification"),
        ({"metadata": {"task": 3}}, 400, "metadata[...]", "Expected `str`"),
        ({"messages": [{"role": "user", "content": "too long"}]}, 400, "messages", "9000"),
        ({"messages": [{"role": "user", "content": "engine down"}]}, 503, None, "stopped"),
        ({"model": "hotel/hybrid"}, 409, "model", "bakeoff train --domain hotel"),
        ({"model": "hotel/hybrid@0123456789abcdef"}, 404, "model", "bakeoff adapters list"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_answered_is_refused_by_name(
    shared_url: str, change: dict[str, Any], status: int, param: str | None, said: str, stream: bool
) -> None:
    body = {"model": f"{DOMAIN}/base", "messages": QUESTION, "stream": stream, **change}
    response = httpx.post(f"{shared_url}/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param), error
    assert said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers.get("x-should-retry") == ("false" if status == 409 else None)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"model": 5}', b"[" * 100_000])
def test_a_body_that_is_no_request_gets_an_error_body(shared_url: str, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{shared_url}/v1/chat/completions", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_unknown_addresses_and_methods_get_an_error_body(url: str) -> None:
    assert httpx.get(f"{url}/v1/nothing").json()["error"]["message"]
    response = httpx.get(f"{url}/v1/embeddings")
    assert (response.status_code, response.json()["error"]["type"]) == (405, "invalid_request_error")


def test_the_openai_package_raises_its_own_errors(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nowhere/rag", messages=QUESTION)
    with pytest.raises(openai.ConflictError, match="bakeoff train"):
        client.chat.completions.create(model=f"{DOMAIN}/fine-tuned", messages=QUESTION)


def test_a_stream_that_fails_midway_carries_the_error(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=f"{DOMAIN}/base", messages=[{"role": "user", "content": "fail midway"}], stream=True
    )
    with pytest.raises(openai.APIError, match="engine has stopped"):
        list(stream)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_generation(url: str, scripted: ScriptedGenerator, stream: bool) -> None:
    body = {"model": f"{DOMAIN}/base", "messages": [{"role": "user", "content": "for ever"}], "stream": stream}
    with httpx.Client() as client:
        try:
            with client.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=0.5) as response:
                next(response.iter_lines())
        except httpx.ReadTimeout:
            assert not stream
    wait_for(lambda: scripted.num_closed == 1)


def test_models_are_listed_with_what_their_answers_depend_on(client: OpenAI) -> None:
    models = {model.id: model.model_extra or {} for model in client.models.list()}
    modes = [f"{DOMAIN}/{mode}" for mode in ("base", "few-shot", "fine-tuned", "rag", "hybrid")]
    assert list(models) == [*modes, "all-minilm-l6-v2"]
    assert models[f"{DOMAIN}/rag"]["bakeoff"]["ready"] is True
    assert "bakeoff train" in models[f"{DOMAIN}/hybrid"]["bakeoff"]["reason"]
    one = client.models.retrieve(f"{DOMAIN}/rag")
    assert one.id == f"{DOMAIN}/rag"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nowhere/rag")


def test_an_adapter_promoted_while_it_runs_answers_without_a_restart(
    client: OpenAI, scripted: ScriptedGenerator, home: Path, model_dir: Path
) -> None:
    digest = write_small_adapter(home, model_dir, DOMAIN)
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        register_adapter(connection, DOMAIN, digest)
        promote_adapter(connection, DOMAIN, digest, None, "no gate here")
    engine.dispose()
    wait_for(lambda: scripted.loaded == [digest])
    client.chat.completions.create(model=f"{DOMAIN}/hybrid", messages=QUESTION)
    client.chat.completions.create(model=f"{DOMAIN}/fine-tuned@{digest[:8]}", messages=QUESTION)
    assert [adapter for _, adapter, _ in scripted.asked] == [digest] * 2


def test_a_document_is_found_as_soon_as_it_is_added(client: OpenAI, home: Path, embedder: Any) -> None:
    from bakeoff.records import Document
    from retrieval.store import add_documents

    engine = open_database(Settings(home=home).url, home)
    add_documents(engine, DOMAIN, [Document("sauna", "Sauna", "The sauna costs 5 pounds.")], embedder, lambda *_: None)
    engine.dispose()
    ask: list[Any] = [{"role": "user", "content": "What does the sauna cost?"}]
    completion = client.chat.completions.create(model=f"{DOMAIN}/rag", messages=ask)
    extra = completion.model_extra or {}
    assert extra["bakeoff"]["passages"][0]["document_id"] == "sauna"


def test_the_openapi_document_describes_the_answer(url: str) -> None:
    schema = httpx.get(f"{url}/schema/openapi.json").json()
    route = schema["paths"]["/v1/chat/completions"]["post"]
    assert route["operationId"] == "CreateChatCompletion"
    assert "ChatCompletion" in json.dumps(route["responses"]["200"])
