"""The numbers and the log lines of real requests; neither says what was asked, answered, or with which key."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from scripted_service import DOMAIN, ScriptedGenerator, running

from bakeoff.database import open_database
from bakeoff.keys import create_key
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from service.app import create_app
from service.edge.request_log import JsonFormatter, writers

SECRET = "zebra-secret"  # noqa: S105 - what must not be found in a log


class Lines:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def take(self, line: bytes) -> None:
        self.texts.append(line.decode())

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        while len(self.texts) < count:
            assert time.monotonic() < deadline, self.texts
            time.sleep(0.01)
        return [json.loads(text) for text in self.texts]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    writers.append(lines.take)
    yield lines
    writers.remove(lines.take)


class Measured(ScriptedGenerator):
    def measure(self) -> dict[str, float]:
        return {"prefix_cache_hit_rate": 0.25}


def ask(url: str, content: str = SECRET, **change: Any) -> httpx.Response:
    body = {"model": f"{DOMAIN}/base", "messages": [{"role": "user", "content": content}], **change}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers={"x-request-id": "mine"})


def read(url: str) -> Callable[..., float]:
    text = httpx.get(f"{url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, (name, labels, text)
        return sum(found)

    return value


def test_a_line_says_who_asked_what_and_how_it_went(url: str, home: Path, lines: Lines) -> None:
    answer = ask(url)
    [line] = lines.wait_for(1)
    assert line["request_id"] == "mine"
    assert (line["method"], line["path"], line["status"], line["outcome"]) == (
        "POST",
        "/v1/chat/completions",
        200,
        "complete",
    )
    assert (line["model"], line["mode"], line["answer"]) == (f"{DOMAIN}/base", "base", answer.json()["id"])
    assert (line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]) == (20, 4, 5)
    assert line["bytes"] == len(answer.content)
    assert 0 < line["first_token_ms"] <= line["ms"] < 10_000
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        key, secret = create_key(connection, "k")
    engine.dispose()
    assert ask(url).status_code == 401
    headers = {"authorization": f"Bearer {secret}"}
    httpx.get(f"{url}/v1/models/{DOMAIN}/rag", headers=headers)
    httpx.get(f"{url}/domains/{DOMAIN}/documents/{SECRET}", headers=headers)
    httpx.get(f"{url}/{SECRET}?q={SECRET}", headers=headers)
    refused, model, page, nothing = lines.wait_for(5)[1:]
    assert (refused["status"], "key" in refused) == (401, False)
    assert (model["path"], model["key"]) == ("/v1/models/{model}", key.id)
    assert page["path"].startswith("/domains/{domain}")
    assert (nothing["status"], nothing["path"]) == (404, "")
    for text in lines.texts:
        assert SECRET not in text
        assert secret not in text
        assert "pounds" not in text


@pytest.mark.parametrize(
    ("content", "stream", "status", "outcome", "error"),
    [
        ("x", True, 200, "complete", ""),
        ("fail midway", True, 200, "failed", "EngineDown"),
        ("engine down", False, 503, "failed", "EngineDown"),
        ("too long", False, 400, "failed", "ContextTooLong"),
    ],
)
def test_a_stream_is_logged_at_its_end_with_its_outcome(
    url: str, lines: Lines, content: str, stream: bool, status: int, outcome: str, error: str
) -> None:
    ask(url, content, stream=stream)
    [line] = lines.wait_for(1)
    assert (line["status"], line["outcome"], line.get("error", "")) == (status, outcome, error)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_logged_as_such(url: str, lines: Lines, stream: bool) -> None:
    body = {"model": f"{DOMAIN}/base", "messages": [{"role": "user", "content": "for ever"}], "stream": stream}
    try:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=0.5) as response:
            next(response.iter_lines())
    except httpx.ReadTimeout:
        assert not stream
    [line] = lines.wait_for(1)
    assert line["outcome"] == "left"


def test_the_numbers_follow_the_requests(home: Path, embedder: Embedder) -> None:
    with running(create_app(Settings(home=home), generator=Measured(), embedder=embedder)) as url:
        ask(url)
        ask(url, model=f"{DOMAIN}/rag", stream=True)
        ask(url, model=f"{SECRET}/rag")
        value = read(url)
        route = "/v1/chat/completions"
        assert value("bakeoff_requests_total", route=route, status="200", mode="base", outcome="complete") == 1
        assert value("bakeoff_requests_total", route=route, status="200", mode="rag") == 1
        assert value("bakeoff_requests_total", route=route, status="404", mode="") == 1
        assert value("bakeoff_request_seconds_count", route=route) == 3
        assert value("bakeoff_first_token_seconds_count", mode="rag") == 1
        assert value("bakeoff_tokens_total", kind="prompt", domain=DOMAIN, mode="rag") == 20
        assert value("bakeoff_tokens_total", kind="cached", domain=DOMAIN) == 8
        assert value("bakeoff_tokens_total", kind="completion", mode="base") == 5
        assert value("bakeoff_requests_in_flight") == 1  # this one
        assert (value("bakeoff_questions_running"), value("bakeoff_questions_waiting")) == (0, 0)
        assert value("bakeoff_ledger_written_total") + value("bakeoff_ledger_waiting") == 2
        assert value("bakeoff_engine", what="prefix_cache_hit_rate") == 0.25
        assert SECRET not in httpx.get(f"{url}/metrics").text


def test_other_log_lines_are_json_on_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("service.x", logging.ERROR, "x.py", 1, "what\nhappened %s", ("here",), info)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    parsed = json.loads(text)
    assert (parsed["level"], parsed["logger"], parsed["message"]) == ("error", "service.x", "what\nhappened here")
    assert "ValueError" in parsed["traceback"]
