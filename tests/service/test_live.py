"""The whole path with real models: five modes answer through the `openai` package, as trained and as measured."""

import json
from typing import Any

import httpx
import pytest
from live_service import DOMAIN, Live
from openai import OpenAI

from bakeoff.modes import MODES

QUESTION: list[Any] = [{"role": "user", "content": "Is there free parking at A and B Guest House?"}]


@pytest.fixture(scope="module")
def client(live: Live) -> OpenAI:
    return OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_says_the_same_whole_and_as_a_stream(client: OpenAI, live: Live, mode: str) -> None:
    ask: dict[str, Any] = {"model": f"{DOMAIN}/{mode}", "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens > 20
    evidence = (whole.model_extra or {})["bakeoff"]
    assert len(evidence["passages"]) == (5 if MODES[mode].uses_retrieval else 0)
    assert evidence["adapter"] == (live.adapter if MODES[mode].uses_adapter else None)


def test_a_repeated_prompt_is_not_computed_twice(client: OpenAI) -> None:
    ask: dict[str, Any] = {"model": f"{DOMAIN}/rag", "messages": QUESTION, "temperature": 0, "max_tokens": 4}
    client.chat.completions.create(**ask)
    usage = client.chat.completions.create(**ask).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens_details.cached_tokens or 0) > usage.prompt_tokens // 2


def test_a_prompt_beyond_the_window_is_refused_with_both_numbers(live: Live) -> None:
    body = {"model": f"{DOMAIN}/base", "messages": [{"role": "user", "content": "parking " * 9000}]}
    response = httpx.post(f"{live.url}/v1/chat/completions", json=body, timeout=60)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert any(number in error["message"] for number in ("8192", "8,192"))


def test_the_same_seed_gives_the_same_scores(live: Live) -> None:
    words = ["eval", "--domain", DOMAIN, "--limit", "4", "--injections", "2", "--url", live.url]
    first = live.run(*words)
    assert live.run(*words)["run"] == first["run"], "a finished run is not done twice"
    fresh = live.run(*words, "--fresh")
    assert fresh["run"] != first["run"]
    for mode in MODES:
        for metric in ("token_f1", "exact_match", "rouge_l", "polarity", "key_values", "recall_at_5"):
            assert fresh["modes"][mode][metric] == first["modes"][mode][metric]
    answers, again = (
        [json.loads(line) for line in (live.home / "runs" / DOMAIN / run / "answers.jsonl").read_text().splitlines()]
        for run in (first["run"], fresh["run"])
    )
    assert len(answers) == 4 * len(MODES)
    assert [answer["completion"] for answer in answers] == [answer["completion"] for answer in again]
    report = httpx.get(f"{live.url}/reports/{DOMAIN}/latest")
    assert report.status_code == 200
    assert "fine-tuned" in report.text
    assert [first["injection"][mode]["n"] for mode in ("rag", "hybrid")] == [2, 2]
    assert [domain["name"] for domain in live.run("domains", "list")["domains"]] == [DOMAIN]
    assert "Instructions in passages obeyed by rag" in report.text
    assert "Knowing when it does not know" in report.text


@pytest.mark.parametrize("seed", [-5, 10**20, 0])
def test_any_seed_repeats_itself_and_harms_no_one(client: OpenAI, seed: int) -> None:
    ask: dict[str, Any] = {"model": f"{DOMAIN}/base", "messages": QUESTION, "temperature": 1, "max_tokens": 8}
    first, second = (client.chat.completions.create(**ask, seed=seed).choices[0].message.content for _ in range(2))
    assert first == second


def test_ask_prints_the_answer_with_its_passages(live: Live) -> None:
    answer = live.run("ask", QUESTION[0]["content"], "--domain", DOMAIN, "--mode", "hybrid", "--url", live.url)
    assert set(answer) == {"answer", "mode", "citations", "passages", "usage"}
    assert answer["mode"] == "hybrid"
    assert len(answer["passages"]) == 5
    assert {citation["url"].split("/")[2] for citation in answer["citations"]} == {live.url.split("/")[2]}


def test_a_pinned_adapter_answers_and_an_unknown_one_does_not(client: OpenAI, live: Live) -> None:
    pinned = client.models.retrieve(f"{DOMAIN}/hybrid@{live.adapter}")
    assert (pinned.model_extra or {})["bakeoff"]["adapter"] == live.adapter
    response = httpx.get(f"{live.url}/v1/models/{DOMAIN}/hybrid@ffffffffffffffff")
    assert response.status_code == 404
