"""Chat completions that are kept: listed, retrieved, changed and deleted through the `openai` package."""

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from scripted_service import DOMAIN
from sqlalchemy import select, update

from bakeoff.database import open_database
from bakeoff.errors import NotFound
from bakeoff.settings import Settings
from retrieval.permissions import change_grants
from service.callers import Caller
from service.openai.chat.stored import StoredCompletions
from service.tables import stored_objects_table

QUESTION: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What does parking cost?"}]}]


@pytest.fixture
def client(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, _strict_response_validation=True)


def keep(client: OpenAI, mode: str = "rag", **metadata: str) -> Any:
    return client.chat.completions.create(
        model=f"{DOMAIN}/{mode}", messages=QUESTION, store=True, metadata=metadata, temperature=0
    )


def test_a_kept_completion_is_retrieved_as_it_was_answered(client: OpenAI) -> None:
    kept = keep(client, team="a")
    found = client.chat.completions.retrieve(kept.id)
    assert found == kept
    assert found.metadata == {"team": "a"}


def test_a_passage_is_read_again_and_left_out_once_the_caller_may_not_see_it(client: OpenAI, home: Path) -> None:
    kept = keep(client)
    engine = open_database(Settings(home=home).url, home)
    with engine.connect() as connection:
        assert "10 pounds per night" not in str(connection.execute(select(stored_objects_table.c.body)).scalar())
    passages = client.chat.completions.retrieve(kept.id).bakeoff["passages"]  # type: ignore[attr-defined]
    assert passages == kept.bakeoff["passages"]
    assert "10 pounds per night" in passages[0]["text"]
    change_grants(engine, DOMAIN, ["parking"], grant=["staff"], revoke=["everyone"])
    left = client.chat.completions.retrieve(kept.id).bakeoff["passages"]  # type: ignore[attr-defined]
    assert [passage["document_id"] for passage in left] == [one["document_id"] for one in passages[1:]]
    engine.dispose()


def test_a_streamed_completion_is_kept_too(client: OpenAI) -> None:
    body: dict[str, Any] = {"model": f"{DOMAIN}/base", "messages": QUESTION}
    chunks = list(client.chat.completions.create(**body, stream=True, store=True))
    found = client.chat.completions.retrieve(chunks[0].id)
    assert found.choices[0].message.content == "Yes, for 10 pounds [1]. "
    assert found.usage is not None
    assert found.usage.total_tokens == 25


def test_only_what_was_asked_to_be_kept_is(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=f"{DOMAIN}/base", messages=QUESTION)
    with pytest.raises(openai.NotFoundError, match="store: true"):
        client.chat.completions.retrieve(completion.id)
    assert client.chat.completions.list().data == []


def test_lists_come_in_pages_and_are_searched_by_model_and_metadata(client: OpenAI) -> None:
    kept = [
        keep(client, mode, team=team, n=str(n)).id
        for n, (mode, team) in enumerate([("rag", "a"), ("base", "b"), ("rag", "b")])
    ]
    assert [one.id for one in client.chat.completions.list(limit=2)] == kept, "the package turns the pages"
    first = client.chat.completions.list(limit=2)
    assert ([one.id for one in first.data], first.has_more) == (kept[:2], True)
    assert [one.id for one in client.chat.completions.list(order="desc", after=kept[1]).data] == kept[:1]
    assert [one.id for one in client.chat.completions.list(model=f"{DOMAIN}/rag").data] == [kept[0], kept[2]]
    assert [one.id for one in client.chat.completions.list(metadata={"team": "b", "n": "2"}).data] == kept[2:]
    with pytest.raises(openai.NotFoundError, match="nothing in this list"):
        client.chat.completions.list(after="chatcmpl-none")
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.chat.completions.list(limit=0)


def test_metadata_can_be_changed_and_the_rest_cannot(client: OpenAI, url: str) -> None:
    kept = keep(client, team="a")
    changed = client.chat.completions.update(kept.id, metadata={"team": "b"})
    assert changed.metadata == {"team": "b"}
    assert client.chat.completions.retrieve(kept.id).metadata == {"team": "b"}
    with pytest.raises(openai.BadRequestError, match="choices"):
        client.chat.completions.update(kept.id, metadata={}, extra_body={"choices": []})


def test_its_messages_are_listed(client: OpenAI, url: str) -> None:
    kept = keep(client)
    loose = OpenAI(base_url=f"{url}/v1", api_key="none")  # OpenAI's own types know no other role than the assistant's
    [message] = loose.chat.completions.messages.list(kept.id).data
    assert message.id == f"{kept.id}-0"
    assert (message.role, message.content) == ("user", None)
    assert message.content_parts is not None
    assert message.content_parts[0].text == "What does parking cost?"  # type: ignore[union-attr]


def test_a_deleted_completion_is_gone(client: OpenAI) -> None:
    kept = keep(client)
    assert client.chat.completions.delete(kept.id).deleted is True
    for call in (client.chat.completions.retrieve, client.chat.completions.delete):
        with pytest.raises(openai.NotFoundError):
            call(kept.id)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.update(kept.id, metadata={})
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.messages.list(kept.id)


def test_another_keys_completions_are_not_there(client: OpenAI, home: Path) -> None:
    kept = keep(client, team="a")
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        connection.execute(update(stored_objects_table).values(owner="key_one"))
    stored = StoredCompletions(engine)
    assert [head.id for head in stored.list_heads(Caller(key_id="key_one"), None, {})] == [kept.id]
    other = Caller(key_id="key_two")
    assert stored.list_heads(other, None, {}) == []
    for refused in (
        lambda: stored.read(other, [kept.id]),
        lambda: stored.read_messages(other, kept.id),
        lambda: stored.change(other, kept.id, {}),
        lambda: stored.delete(other, kept.id),
    ):
        with pytest.raises(NotFound):
            refused()
    assert stored.read(Caller(key_id="key_one"), [kept.id])[0]["metadata"] == {"team": "a"}
    engine.dispose()
