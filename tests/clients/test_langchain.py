"""LangChain's `ChatOpenAI` and `OpenAIEmbeddings`: the program beside this file, told the base URL and no more."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from live_service import DOMAIN, Live
from real_clients import DOGS, PARKING, Client, Show, guide, needs, open_client

from bakeoff.settings import Settings

pytestmark = needs("langchain")

Run = Callable[[str], Any]


@pytest.fixture(scope="module")
def langchain(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return open_client("langchain", tmp_path_factory.mktemp("langchain"))


@pytest.fixture
def run(langchain: Client, live: Live) -> Run:
    """Runs one function of the program."""
    words = (f"{live.url}/v1", DOMAIN, Settings().embedder, PARKING, DOGS)
    return lambda feature: json.loads(langchain.run("python", "langchain_program.py", feature, *words))


def test_the_lines_of_the_guide(langchain: Client, live: Live, show: Show) -> None:
    show(f"langchain-openai {langchain.version('langchain-openai')}")
    [program] = guide("LangChain", live.url)
    answer = langchain.run("python", "-c", program).strip()
    assert answer
    show(f"the guide's lines: {answer!r}")


def test_chat_whole_and_streamed(run: Run, show: Show) -> None:
    found = run("invoke")
    whole, streamed = found["whole"], found["streamed"]
    assert whole["text"] == streamed["text"] != ""
    assert whole["metadata"]["finish_reason"] == "stop"
    assert whole["metadata"]["model_name"] == f"{DOMAIN}/rag"
    assert whole["usage"]["input_tokens"] == streamed["usage"]["input_tokens"] > 200
    show(f"ChatOpenAI.invoke: {whole['text']!r}, {whole['usage']['total_tokens']} tokens")
    assert streamed["chunks"] > 3
    show(f"ChatOpenAI.stream: the same in {streamed['chunks']} chunks, usage included")


def test_a_batch(run: Run, show: Show) -> None:
    answers = run("batch")
    assert len(set(answers)) == 2
    assert all(answers)
    show(f"ChatOpenAI.batch: {answers}")


def test_a_chain(run: Run, show: Show) -> None:
    chain = run("chain")
    assert chain["text"] == chain["streamed"] == chain["async"] != ""
    show(f"prompt | model | parser, by invoke, stream and ainvoke: {chain['text']!r}")


def test_a_follow_up_after_its_own_message(run: Run, show: Show) -> None:
    answer = run("conversation")
    assert answer
    show(f"a follow-up after its own AIMessage: {answer!r}")


def test_structured_output(run: Run, show: Show) -> None:
    found = run("structured")
    assert set(found) == {"available", "free"}
    assert all(isinstance(value, bool) for value in found.values())
    show(f"with_structured_output of a pydantic class: {found}")


def test_logprobs(run: Run, show: Show) -> None:
    values = run("logprobs")
    assert len(values) > 3
    assert all(value <= 0 for value in values)
    show(f"bind(logprobs=True): {len(values)} tokens")


def test_the_responses_api(run: Run, show: Show) -> None:
    answer = run("responses")
    assert answer["text"] == answer["streamed"] != ""
    assert len(answer["cited"]) == len(re.findall(r"\[\d\]", answer["text"]))
    show(f"use_responses_api, whole and streamed: {answer['text']!r}, {len(answer['cited'])} cited in content_blocks")


def test_embeddings_find_by_meaning(run: Run, show: Show) -> None:
    assert run("embeddings") == {"nearest": ["Parking costs 10 pounds a night."], "dimensions": 384}
    show("OpenAIEmbeddings in an InMemoryVectorStore: 'Where do I leave my car?' finds the parking")


def test_refusals_name_what_is_refused(run: Run, show: Show) -> None:
    missing, refused = run("wrong_model"), run("tools")
    assert missing["code"] == "model_not_found"
    assert "domain 'nowhere' does not exist" in missing["message"]
    assert refused["param"] == "tools"
    show(f"a wrong model: {missing['message']!r}")
    show(f"bind_tools, which the embedded engine cannot: {refused['message']!r}")
