"""The `llm` command, with three lines of extra-openai-models.yaml or with none."""

import json
from pathlib import Path

import pytest
from live_service import DOMAIN, Live
from real_clients import DOGS, PARKING, Client, Show, guide, needs, open_client

pytestmark = needs("llm")
BRIEFLY = ("-o", "temperature", "0", "-o", "max_tokens", "24")


@pytest.fixture(scope="module")
def llm(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Client:
    client = open_client("llm", tmp_path_factory.mktemp("llm"))
    (client.home / "extra-openai-models.yaml").write_text(
        "".join(
            f"- model_id: {DOMAIN}-{mode}\n  model_name: {DOMAIN}/{mode}\n  api_base: {live.url}/v1\n{more}"
            for mode, more in (("rag", ""), ("hybrid", "  supports_schema: true\n"))
        )
    )
    return client


def ask(llm: Client, *words: str, fails: bool = False) -> str:
    return llm.run("llm", *words, fails=fails, LLM_USER_PATH=str(llm.home)).strip()


def test_the_lines_of_the_guide(live: Live, tmp_path: Path, show: Show) -> None:
    llm = open_client("llm", tmp_path)
    show(f"version {llm.version('llm')}")
    models, commands = guide("llm", live.url)
    (llm.home / "extra-openai-models.yaml").write_text(models)
    said = llm.run("bash", "-euc", commands, LLM_USER_PATH=str(llm.home))
    assert f"\n{DOMAIN}/hybrid\n" in said
    show(f"the guide's lines: {said.strip().splitlines()}")


def test_answers_streamed_and_whole_and_logs_tokens_and_citations(llm: Client, show: Show) -> None:
    streamed = ask(llm, "-m", f"{DOMAIN}-rag", *BRIEFLY, PARKING)
    whole = ask(llm, "-m", f"{DOMAIN}-rag", *BRIEFLY, "--no-stream", PARKING)
    assert streamed == whole != ""
    show(f"prompt, streamed and with --no-stream: {whole!r}")
    [log] = json.loads(ask(llm, "logs", "-n", "1", "--json"))
    assert log["input_tokens"] > 200
    assert 0 < log["output_tokens"] <= 24
    annotations = log["response_json"]["choices"][0]["message"]["annotations"]
    assert "A and B Guest House" in annotations[0]["url_citation"]["title"]
    show(f"logs: {log['input_tokens']} tokens in, {log['output_tokens']} out, {len(annotations)} citations")


def test_continues_a_conversation_under_a_system_prompt(llm: Client, show: Show) -> None:
    ask(llm, "-m", f"{DOMAIN}-hybrid", *BRIEFLY, "-s", "Answer in one sentence.", PARKING)
    answer = ask(llm, "-c", *BRIEFLY, "--no-stream", "And breakfast?")
    [log] = json.loads(ask(llm, "logs", "-n", "1", "--json"))
    titles = [item["url_citation"]["title"] for item in log["response_json"]["choices"][0]["message"]["annotations"]]
    assert answer
    assert any("A and B Guest House" in title for title in titles), "the follow-up is searched with what it refers to"
    show(f"-c, --system: {answer!r}")


def test_answers_in_the_form_of_a_schema(llm: Client, show: Show) -> None:
    schema = ("--schema", "available bool, free bool")
    answer = json.loads(ask(llm, "-m", f"{DOMAIN}-hybrid", "-o", "temperature", "0", *schema, PARKING))
    assert set(answer) == {"available", "free"}
    show(f"{' '.join(schema)}: {answer}")


def test_lists_and_asks_an_endpoint_it_was_never_told_about(llm: Client, live: Live, show: Show) -> None:
    models = ask(llm, "openai", "endpoint", f"{live.url}/v1", "--models").split()
    assert {f"{DOMAIN}/{mode}" for mode in ("base", "few-shot", "fine-tuned", "rag", "hybrid")} <= set(models)
    answer = ask(llm, "openai", "endpoint", f"{live.url}/v1", DOGS, "-m", f"{DOMAIN}/hybrid", *BRIEFLY)
    assert answer
    show(f"openai endpoint URL --models: {len(models)} models; -m {DOMAIN}/hybrid: {answer!r}")


def test_says_what_is_wrong_with_the_model_name(llm: Client, live: Live, show: Show) -> None:
    said = ask(llm, "openai", "endpoint", f"{live.url}/v1", DOGS, "-m", "nowhere/rag", fails=True)
    assert "domain 'nowhere' does not exist" in said
    show("a wrong model: exit status 1, with the service's own sentence")
