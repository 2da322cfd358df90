"""What retrieval changes at the service's border: groups, abstention, follow-up questions, an index that follows."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from scripted_service import DOMAIN, ScriptedGenerator
from sqlalchemy import Engine

from bakeoff.database import open_database
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from retrieval.permissions import change_grants
from retrieval.store import add_documents, remove_documents
from retrieval.tuning import Tuning, save_tuning

QUESTION: list[Any] = [{"role": "user", "content": "What does parking cost?"}]


@pytest.fixture
def client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def database(home: Path) -> Engine:
    return open_database(Settings(home=home).url, home)


def found(client: OpenAI, *questions: str) -> list[str]:
    messages: list[Any] = []
    for question in questions:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}]
    completion = client.chat.completions.create(model=f"{DOMAIN}/rag", messages=messages[:-1])
    return [passage["document_id"] for passage in completion.bakeoff["passages"]]  # type: ignore[attr-defined]


def test_what_everyone_may_not_see_is_nowhere_from_the_next_request_on(
    client: OpenAI, url: str, database: Engine
) -> None:
    assert found(client, QUESTION[0]["content"])[0] == "parking"
    page = f"{url}/domains/{DOMAIN}/documents/parking"
    assert httpx.get(page).status_code == 200
    assert "6 documents" in httpx.get(url).text
    change_grants(database, DOMAIN, ["parking"], revoke=["everyone"], grant=["staff"])
    assert "parking" not in found(client, QUESTION[0]["content"])
    assert httpx.get(page).status_code == 404
    assert "5 documents" in httpx.get(url).text
    change_grants(database, DOMAIN, ["parking"], grant=["everyone"])
    assert found(client, QUESTION[0]["content"])[0] == "parking"


def test_weak_evidence_is_answered_with_one_sentence_and_no_model(
    client: OpenAI, database: Engine, embedder: Embedder, scripted: ScriptedGenerator
) -> None:
    with database.begin() as connection:
        save_tuning(connection, DOMAIN, Tuning(threshold=1.0, embedder=embedder.name))
    for mode, abstains in (("rag", True), ("few-shot", False)):
        scripted.asked.clear()
        completion = client.chat.completions.create(model=f"{DOMAIN}/{mode}", messages=QUESTION)
        message = completion.choices[0].message
        evidence: dict[str, Any] = completion.bakeoff  # type: ignore[attr-defined]
        assert (message.content == Settings().abstention, evidence["abstained"], not scripted.asked) == (abstains,) * 3
        assert (not message.annotations) is True
        assert (evidence["evidence"] is not None) is abstains
    stream = client.chat.completions.create(model=f"{DOMAIN}/rag", messages=QUESTION, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == Settings().abstention


def test_a_follow_up_question_is_searched_with_what_it_refers_to(client: OpenAI) -> None:
    assert found(client, "When is the swimming pool closed?", "And is it heated?")[0] == "pool"
    assert found(client, "How long does a taxi to the station take?", "What does it cost?")[0] == "taxi"


def test_a_new_tuning_shows_in_the_models_facts(client: OpenAI, database: Engine, embedder: Embedder) -> None:
    def facts(mode: str) -> dict[str, Any]:
        return client.models.retrieve(f"{DOMAIN}/{mode}").bakeoff  # type: ignore[attr-defined,no-any-return]

    before = facts("rag")["retrieval"]
    assert facts("base")["retrieval"] is None
    assert facts("rag")["retrieval"] == before
    with database.begin() as connection:
        save_tuning(connection, DOMAIN, Tuning(threshold=0.5, embedder=embedder.name))
    assert facts("rag")["retrieval"] != before


def test_documents_are_found_and_gone_within_a_second(client: OpenAI, database: Engine, embedder: Embedder) -> None:
    found(client, "warm up, please")
    start = time.monotonic()
    sauna = Document("sauna", "Sauna", "The sauna opens at noon.")
    add_documents(database, DOMAIN, [sauna], embedder, lambda *_: None)
    assert found(client, "When does the sauna open?")[0] == "sauna"
    remove_documents(database, DOMAIN, ["sauna"])
    assert "sauna" not in found(client, "When does the sauna open?")
    assert time.monotonic() - start < 4  # two edits and two answers, on a machine that may be busy
