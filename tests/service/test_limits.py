"""What is refused for being too much, and what every answer carries, over a real socket; buckets and places by hand."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai import OpenAI
from scripted_service import DOMAIN, ScriptedGenerator, running

import service.edge.middleware
from bakeoff.database import open_database, writing
from bakeoff.errors import TooBusy
from bakeoff.keys import create_key
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from service.app import create_app
from service.edge.limits import Buckets, Places

QUESTION: list[Any] = [{"role": "user", "content": "What does parking cost?"}]
BODY: dict[str, Any] = {"model": f"{DOMAIN}/base", "messages": QUESTION}
FOR_EVER = {**BODY, "stream": True, "messages": [{"role": "user", "content": "for ever"}]}


@contextmanager
def limited(home: Path, embedder: Embedder, **settings: Any) -> Iterator[str]:
    app = create_app(Settings(home=home, **settings), generator=ScriptedGenerator(), embedder=embedder)
    with running(app) as address:
        yield address


def ask(url: str, **change: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json={**BODY, **change}, timeout=30)


def test_every_answer_carries_the_headers_that_clients_read(shared_url: str) -> None:
    for response in (ask(shared_url), ask(shared_url, n=-1), httpx.get(f"{shared_url}/v1/nothing")):
        assert response.headers["x-request-id"].startswith("req_")
        assert response.headers["openai-version"] == "2020-10-01"
        assert int(response.headers["openai-processing-ms"]) >= 0
        assert "x-bakeoff-ignored" not in response.headers
    for given, is_kept in ((b"abc-1.2:3_X", True), (b"x" * 128, True), (b"x" * 129, False), (b"a b", False)):
        kept = httpx.get(f"{shared_url}/health/live", headers={b"x-request-id": given}).headers["x-request-id"]
        assert (kept == given.decode()) is is_kept
    client = OpenAI(base_url=f"{shared_url}/v1", api_key="none")
    raw = client.chat.completions.with_raw_response.create(model=f"{DOMAIN}/base", messages=QUESTION)
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_sizes_are_limited_by_name(home: Path, embedder: Embedder) -> None:
    with limited(home, embedder, max_messages=3, max_message_chars=100, max_body_mib=1) as url:
        assert ask(url, messages=QUESTION * 3).status_code == 200
        for messages in (QUESTION * 4, [{"role": "user", "content": "x" * 101}]):
            refused = ask(url, messages=messages)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
        for stream in (True, False):
            refused = ask(url, messages=[{"role": "user", "content": "x" * 2**20}], stream=stream)
            assert (refused.status_code, refused.json()["error"]["type"]) == (413, "invalid_request_error")


def test_an_answer_that_takes_too_long_is_ended(home: Path, embedder: Embedder) -> None:
    with limited(home, embedder, answer_timeout_s=0.5) as url:
        slow = ask(url, messages=FOR_EVER["messages"])
        assert (slow.status_code, slow.json()["error"]["code"]) == (504, "timeout")
        assert slow.headers["x-should-retry"] == "false"
        assert "0.5 s" in slow.json()["error"]["message"]
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        stream = client.chat.completions.create(**FOR_EVER)
        with pytest.raises(openai.APIError, match=r"0\.5 s"):
            list(stream)


def test_the_line_is_bounded_and_says_when_to_come_again(home: Path, embedder: Embedder) -> None:
    with limited(home, embedder, max_running=1, max_waiting=1) as url, httpx.Client(timeout=30) as client:
        with client.stream("POST", f"{url}/v1/chat/completions", json=FOR_EVER) as running_one:
            events = running_one.iter_lines()  # closes the stream when it is let go of
            next(events)
            waited: list[httpx.Response] = []
            waiting = threading.Thread(target=lambda: waited.append(ask(url)))
            waiting.start()
            while "bakeoff_questions_waiting 1.0" not in httpx.get(f"{url}/metrics").text:
                time.sleep(0.02)
            refused = ask(url)
            error = refused.json()["error"]
            assert (refused.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "queue_full")
            assert 1 <= int(refused.headers["retry-after"]) <= 120
            assert httpx.get(f"{url}/v1/models").status_code == 200
            assert not waited
        waiting.join(20)
        assert waited[0].status_code == 200
        assert ask(url).status_code == 200


def test_who_leaves_the_line_holds_nobody_up(home: Path, embedder: Embedder) -> None:
    with limited(home, embedder, max_running=1, max_waiting=1) as url, httpx.Client(timeout=30) as client:
        with client.stream("POST", f"{url}/v1/chat/completions", json=FOR_EVER) as running_one:
            events = running_one.iter_lines()  # closes the stream when it is let go of
            next(events)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=0.3)
            deadline = time.monotonic() + 10
            while "bakeoff_questions_waiting 0.0" not in httpx.get(f"{url}/metrics").text:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert ask(url).status_code == 200


def test_a_key_has_a_limit_of_its_own(home: Path, embedder: Embedder) -> None:
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        limited_key = create_key(connection, "limited", requests_per_minute=2)[1]
        free_key = create_key(connection, "free")[1]
    engine.dispose()
    with limited(home, embedder) as url:
        get = lambda key: httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})
        first, second, third = (get(limited_key) for _ in range(3))
        assert [response.status_code for response in (first, second, third)] == [200, 200, 429]
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-reset-requests"].endswith("s")
        assert third.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(third.headers["retry-after"]) <= 30
        assert "x-ratelimit-limit-requests" not in get(free_key).headers
        client = OpenAI(base_url=f"{url}/v1", api_key=limited_key, max_retries=0)
        with pytest.raises(openai.RateLimitError):
            client.models.list()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/fine_tuning/jobs"])
def test_a_body_that_drips_is_ended(shared_url: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(service.edge.middleware, "BODY_WITHIN_S", 0.4)
    host, port = urlsplit(shared_url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        answer = b""
        while b"}}" not in answer and (part := connection.recv(4096)):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert "did not come in time" in json.loads(answer.split(b"\r\n\r\n")[1])["error"]["message"]


def test_a_bucket_fills_evenly() -> None:
    now = 1000.0
    buckets = Buckets(clock=lambda: now)
    for remaining in (59, 58, 57):
        allowance, refusal = buckets.take("a", 60)
        assert (allowance.remaining, refusal) == (remaining, None)
    for _ in range(57):
        buckets.take("a", 60)
    allowance, refusal = buckets.take("a", 60)
    assert refusal is not None
    assert (allowance.remaining, refusal.retry_after_s) == (0, 1)
    assert buckets.take("b", 60)[1] is None
    now += 2.5
    assert [buckets.take("a", 60)[1] is None for _ in range(3)] == [True, True, False]
    now += 1000
    assert buckets.take("a", 60)[0].remaining == 59


@pytest.mark.anyio
async def test_places_are_given_in_order_and_come_back() -> None:
    places = Places(1, 2)
    never = asyncio.Event().wait
    assert await places.enter(never)
    order: list[str] = []

    async def wait(name: str) -> None:
        assert await places.enter(never)
        order.append(name)
        places.leave(30.0)

    waiting = [asyncio.create_task(wait(name)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(TooBusy):
        await places.enter(never)
    assert places.retry_after_s() == 3  # two in line and the newcomer, a second each until something was measured
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert places.num_waiting == 1
    places.leave(30.0)
    await waiting[1]
    assert order == ["b"]
    assert (places.num_running, places.num_waiting) == (0, 0)
    assert places.retry_after_s() == pytest.approx(7, abs=1)
    for _ in range(100):
        places.num_running += 1
        places.leave(1000.0)
    assert places.retry_after_s() == 120


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions"])
def test_another_spelling_of_a_path_passes_by_no_limit(home: Path, embedder: Embedder, path: str) -> None:
    """The router reads them all as the same route, so the limit of a key has to as well."""
    engine = open_database(Settings(home=home).url, home)
    with writing(engine) as connection:
        _, secret = create_key(connection, "slow", requests_per_minute=1)
    engine.dispose()
    headers = {"authorization": f"Bearer {secret}"}
    with limited(home, embedder) as url:
        statuses = [httpx.post(url + path, json=BODY, headers=headers).status_code for _ in range(2)]
    assert statuses == [200, 429]
