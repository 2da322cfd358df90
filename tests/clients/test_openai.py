"""The `openai` package on chat completions and models, every response checked strictly against its own types."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from live_service import DOMAIN, Live
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from real_clients import DOGS, PARKING, Show, guide

MESSAGES: list[Any] = [{"role": "user", "content": PARKING}]
ASK: dict[str, Any] = {"model": f"{DOMAIN}/rag", "messages": MESSAGES, "temperature": 0, "max_tokens": 32}
OPTIONS: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": 120, "_strict_response_validation": True}


class Parking(BaseModel):
    available: bool
    free: bool


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live.url}/v1", **OPTIONS) as client:
        yield client


@pytest.fixture
async def async_client(live: Live) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{live.url}/v1", **OPTIONS) as client:
        yield client


def test_the_lines_of_the_guide(live: Live, show: Show) -> None:
    [program] = guide("openai", live.url)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert f"{live.url}/domains/{DOMAIN}/documents/" in done.stdout
    show(f"the guide's lines: {done.stdout.strip()[-80:]!r}")


def test_an_answer_with_usage_and_citations_that_can_be_opened(client: OpenAI, show: Show) -> None:
    show(f"version {openai.__version__}, strict response validation")
    completion = client.chat.completions.create(**ASK)
    [choice] = completion.choices
    usage = completion.usage
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 200
    citations = [item.url_citation for item in choice.message.annotations or []]
    assert any("A and B Guest House" in citation.title for citation in citations)
    page = httpx.get(citations[0].url)
    assert page.status_code == 200
    assert citations[0].title in page.text
    show(f"chat.completions.create: {choice.message.content!r}, {usage.total_tokens} tokens")
    show(f"citations: {len(citations)} url_citation, the first opens {citations[0].title!r}")


def test_streams_say_the_same(client: OpenAI, show: Show) -> None:
    whole = client.chat.completions.create(**ASK).choices[0].message.content
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole
    assert len([text for text in texts if text]) > 3
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []
    show(f"stream=True: the same answer in {len(chunks)} chunks, the last one with usage")
    with client.chat.completions.stream(**ASK) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole
    assert {"chunk", "content.delta", "content.done"} <= kinds
    show(f"chat.completions.stream(): events {', '.join(sorted(kinds))}")


@pytest.mark.anyio
async def test_asynchronously_several_at_once(async_client: AsyncOpenAI, show: Show) -> None:
    asks = [{**ASK, "messages": [{"role": "user", "content": question}]} for question in (PARKING, DOGS)]
    both = await asyncio.gather(*(async_client.chat.completions.create(**ask) for ask in asks))
    answers = [completion.choices[0].message.content for completion in both]
    assert all(answers)
    assert answers[0] != answers[1]
    stream = await async_client.chat.completions.create(**asks[0], stream=True)
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(texts) == answers[0]
    show(f"AsyncOpenAI: two at once {answers}, and a stream of {len(texts)} chunks")


def test_raw_headers(client: OpenAI, show: Show) -> None:
    raw = client.chat.completions.with_raw_response.create(**ASK)
    assert raw.headers["x-request-id"] == raw.request_id
    assert int(raw.headers["openai-processing-ms"]) > 0
    assert raw.parse().choices[0].message.content
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        lines = [line for line in response.iter_lines() if line]
        assert response.headers["content-type"].startswith("text/event-stream")
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert client.models.list()._request_id
    show(f"with_raw_response: x-request-id {raw.request_id}, {raw.headers['openai-processing-ms']} ms")
    show(f"with_streaming_response: {len(lines)} data lines, [DONE] last")


def test_a_request_id_of_the_clients_own_comes_back(client: OpenAI, show: Show) -> None:
    headers = {"x-request-id": "mine-123"}
    assert client.models.with_raw_response.list(extra_headers=headers).headers["x-request-id"] == "mine-123"
    show("extra_headers: a client's own x-request-id comes back")


def test_errors_are_of_the_packages_types(client: OpenAI, live: Live, show: Show) -> None:
    with pytest.raises(openai.NotFoundError, match="domain 'nowhere' does not exist") as missing:
        client.chat.completions.create(**{**ASK, "model": "nowhere/rag"})
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert missing.value.request_id
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}]
    with pytest.raises(openai.BadRequestError, match="image_url"):
        client.chat.completions.create(**{**ASK, "messages": image})
    with pytest.raises(openai.BadRequestError, match="temprature"):
        client.chat.completions.create(**ASK, extra_body={"temprature": 0})
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**ASK, logit_bias={"1": 5})
    assert refused.value.param == "logit_bias"
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.001).chat.completions.create(**ASK)
    show("errors: NotFoundError, BadRequestError with param, APITimeoutError")


def test_choices_stops_seeds_and_logprobs(client: OpenAI, show: Show) -> None:
    warm = {**ASK, "temperature": 1.0, "max_tokens": 12, "seed": 7}
    several = client.chat.completions.create(**warm, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    again = client.chat.completions.create(**warm, n=3)
    assert [c.message.content for c in several.choices] == [c.message.content for c in again.choices]
    assert len({choice.message.content for choice in several.choices}) > 1
    show("n=3 with a seed: three answers, the same again")
    stopped = client.chat.completions.create(**ASK, stop=[" Guest"]).choices[0]
    assert stopped.finish_reason == "stop"
    assert "Guest" not in (stopped.message.content or "")
    show(f"stop: {stopped.message.content!r}")
    logprobs = client.chat.completions.create(**ASK, logprobs=True).choices[0].logprobs
    assert logprobs is not None
    tokens = logprobs.content or []
    assert len(tokens) > 3
    assert all(token.logprob <= 0 for token in tokens)
    show(f"logprobs: {len(tokens)} tokens, the first {tokens[0].token!r} at {tokens[0].logprob:.3f}")


def test_parse_into_a_class(client: OpenAI, show: Show) -> None:
    parsed = client.chat.completions.parse(**{**ASK, "max_tokens": 64}, response_format=Parking)
    assert isinstance(parsed.choices[0].message.parsed, Parking)
    show(f"chat.completions.parse: {parsed.choices[0].message.parsed!r}")


def test_a_conversation_goes_on_with_the_packages_own_message(client: OpenAI, show: Show) -> None:
    first = client.chat.completions.create(**ASK).choices[0].message
    messages = [*MESSAGES, first, {"role": "user", "content": "And breakfast?"}]
    second = client.chat.completions.create(**{**ASK, "messages": messages}).choices[0].message
    assert second.content
    assert any("A and B Guest House" in item.url_citation.title for item in second.annotations or [])
    show(f"a follow-up after the package's own message object: {second.content!r}")


def test_models(client: OpenAI, live: Live, show: Show) -> None:
    names = [model.id for model in client.models.list()]
    assert {f"{DOMAIN}/{mode}" for mode in ("base", "few-shot", "fine-tuned", "rag", "hybrid")} <= set(names)
    assert client.models.retrieve(f"{DOMAIN}/hybrid@{live.adapter}").owned_by == "bakeoff"
    show(f"models.list: {', '.join(names)}; models.retrieve of one pinned to its adapter")
