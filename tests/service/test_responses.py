"""The Responses API, asked by the unmodified `openai` package over a real socket, every answer parsed strictly."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from scripted_service import DOMAIN, ScriptedGenerator, running
from sqlalchemy import select

from bakeoff.database import open_database
from bakeoff.keys import create_key
from bakeoff.records import Delta, Message, Sampling, TokenLogprob, ToolCallPiece
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from retrieval.store import remove_documents
from retrieval.tuning import Tuning, save_tuning
from service.app import create_app
from service.openai.vector_stores.records import Entry, Store, insert_store, put_entries, update_store
from service.tables import answers_table, stored_objects_table

RAG = f"{DOMAIN}/rag"
BASE = f"{DOMAIN}/base"
PARKING = "What does parking cost?"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a day",
    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
    "strict": False,
}


class AbleGenerator(ScriptedGenerator):
    """Calls a tool twice, writes JSON where it has to, and stops at the length."""

    async def stream(
        self,
        messages: Sequence[Message],
        adapter: str | None,
        sampling: Sampling,
        salt: str = "",
        *,
        whole: bool = False,
    ) -> AsyncGenerator[Delta, None]:
        self.asked.append((tuple(messages), adapter, sampling))
        if sampling.tools and messages[-1].role == "user":
            yield Delta("Let me see. ")
            for index, day in enumerate(("today", "tomorrow")):
                yield Delta("", tool_calls=(ToolCallPiece(index, f"call_{index}", "weather", '{"day": '),))
                yield Delta("", tool_calls=(ToolCallPiece(index, arguments=f'"{day}"}}'),))
            yield Delta("", "tool_calls", prompt_tokens=9, completion_tokens=8)
            return
        text = '{"cost": 10}' if sampling.json_schema is not None else self.reply
        words = [f"{word} " for word in text.split()][: sampling.max_tokens]
        for word in words:
            token = TokenLogprob(word, -0.5, tuple(word.encode()), (TokenLogprob("No", -1.5, (78, 111)),))
            if not sampling.top_logprobs:
                token = TokenLogprob(word, -0.5, tuple(word.encode()))
            yield Delta(word, logprobs=() if sampling.top_logprobs is None else (token,))
        is_cut = len(words) < len(text.split())
        yield Delta("", "length" if is_cut else "stop", prompt_tokens=9, completion_tokens=len(words))


def strict(url: str, **options: Any) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, _strict_response_validation=True, **options)


@pytest.fixture
def client(url: str) -> OpenAI:
    return strict(url)


@pytest.fixture(scope="module")
def able(
    filled_home: Path, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[OpenAI, AbleGenerator]]:
    """A service whose engine heeds everything."""
    home = shutil.copytree(filled_home, tmp_path_factory.mktemp("able") / "home")
    generator = AbleGenerator(frozenset({"tools", "response_format", "logprobs", "top_logprobs"}))
    with running(create_app(Settings(home=home), generator=generator, embedder=embedder)) as url:
        yield strict(url), generator


def wait_for(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def types(events: Sequence[Any]) -> list[str]:
    return [event.type.removeprefix("response.") for event in events]


def test_an_answer_has_text_usage_and_file_citations(client: OpenAI) -> None:
    response = client.responses.create(model=RAG, input=PARKING, temperature=0, user="u", metadata={"a": "b"})
    assert response.output_text == "Yes, for 10 pounds [1]. "
    assert (response.status, response.object, response.model) == ("completed", "response", RAG)
    assert response.id.startswith("resp_")
    assert response.completed_at is not None
    [message] = response.output
    assert message.type == "message"
    assert message.id.startswith("msg_")
    [content] = message.content
    assert content.type == "output_text"
    [citation] = content.annotations
    assert citation.type == "file_citation"
    assert (citation.file_id, citation.filename, citation.index) == ("parking", "Parking", 19)
    usage = response.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (20, 5, 25)
    assert usage.input_tokens_details.cached_tokens == 4
    assert (response.temperature, response.metadata, response.user) == (0, {"a": "b"}, "u")
    assert (response.model_extra or {})["bakeoff"]["passages"][0]["document_id"] == "parking"


def test_a_mode_without_retrieval_cites_nothing(client: OpenAI) -> None:
    [message] = client.responses.create(model=BASE, input=PARKING).output
    assert message.type == "message"
    assert message.content[0].annotations == []  # type: ignore[union-attr]


def test_a_stream_has_openais_events_in_openais_order(client: OpenAI) -> None:
    events = list(client.responses.create(model=RAG, input=PARKING, stream=True))
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 5,
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final: Any = events[-1]
    assert text == final.response.output_text == "Yes, for 10 pounds [1]. "
    assert final.response.output[0].content[0].annotations[0].index == 19


def test_a_stored_response_is_read_and_streamed_again_as_it_was(client: OpenAI, url: str) -> None:
    events = list(client.responses.create(model=RAG, input=PARKING, stream=True))
    final: Any = events[-1]
    assert client.responses.retrieve(final.response.id) == final.response
    assert list(client.responses.retrieve(final.response.id, stream=True)) == events
    assert list(client.responses.retrieve(final.response.id, stream=True, starting_after=6)) == events[7:]
    frames = httpx.get(f"{url}/v1/responses/{final.response.id}?stream=true&starting_after=12")
    assert frames.headers["content-type"].startswith("text/event-stream")
    assert frames.text.startswith("event: response.completed\ndata: {")


def test_the_packages_own_stream_helper_follows(client: OpenAI) -> None:
    with client.responses.stream(model=RAG, input=PARKING) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == snapshots[-1] == "Yes, for 10 pounds [1]. "


def test_an_asynchronous_client_is_answered_too(url: str) -> None:
    async def ask() -> tuple[str, list[str]]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", _strict_response_validation=True) as client:
            stream = await client.responses.create(model=BASE, input=PARKING, stream=True)
            events = [event async for event in stream]
            return (await client.responses.create(model=BASE, input=PARKING)).output_text, types(events)

    text, kinds = asyncio.run(ask())
    assert text == "Yes, for 10 pounds [1]. "
    assert kinds[-1] == "completed"


def test_a_conversation_goes_on_and_instructions_do_not(client: OpenAI, scripted: ScriptedGenerator) -> None:
    first = client.responses.create(model=BASE, input=PARKING, instructions="Be rude.")
    second = client.responses.create(model=BASE, input="And in summer?", previous_response_id=first.id)
    client.responses.create(model=BASE, input="And at night?", previous_response_id=second.id, instructions="Be kind.")
    assert second.previous_response_id == first.id
    assert (first.instructions, second.instructions) == ("Be rude.", None)
    assert "Be rude." in scripted.asked[0][0][0].content
    messages = scripted.asked[-1][0]
    assert "Be rude." not in messages[0].content
    assert "Be kind." in messages[0].content
    assert [(message.role, message.content) for message in messages[1:-1]] == [
        ("user", PARKING),
        ("assistant", "Yes, for 10 pounds [1]. "),
        ("user", "And in summer?"),
        ("assistant", "Yes, for 10 pounds [1]. "),
    ]
    assert "And at night?" in messages[-1].content


def test_a_deleted_response_breaks_its_chain_and_says_so(client: OpenAI) -> None:
    first = client.responses.create(model=BASE, input=PARKING)
    second = client.responses.create(model=BASE, input="And in summer?", previous_response_id=first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="there is no response"):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError, match=f"{first.id}.*was deleted") as refused:
        client.responses.create(model=BASE, input="And now?", previous_response_id=second.id)
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError, match="to go on from"):
        client.responses.create(model=BASE, input="And now?", previous_response_id=first.id)
    assert len(client.responses.input_items.list(second.id).data) == 1


def test_what_is_not_to_be_stored_is_not(client: OpenAI) -> None:
    response = client.responses.create(model=BASE, input=PARKING, store=False)
    assert (response.model_extra or {})["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_input_items_are_listed_in_pages(client: OpenAI) -> None:
    first = client.responses.create(model=BASE, input=PARKING)
    second = client.responses.create(
        model=BASE,
        input=[{"role": "developer", "content": "Be short."}, {"role": "user", "content": "And in summer?"}],
        previous_response_id=first.id,
    )
    items = list(client.responses.input_items.list(second.id, limit=1))
    texts = [item.content[0].text for item in items]  # type: ignore[union-attr]
    assert texts == ["And in summer?", "Be short.", "Yes, for 10 pounds [1]. ", PARKING]
    assert items[2].type == "message"
    assert items[2].role == "assistant"
    page = client.responses.input_items.list(second.id, order="asc", limit=3)
    assert [item.id for item in page.data] == [item.id for item in reversed(items[1:])]
    assert page.has_more
    assert [item.id for item in page.get_next_page().data] == [items[0].id]
    assert len({item.id for item in items}) == 4
    for refused in ({"after": "msg_none"}, {"limit": 0}, {"limit": 101}):
        with pytest.raises(openai.APIStatusError) as error:
            client.responses.input_items.list(second.id, **refused)  # type: ignore[arg-type]
        assert error.value.param == next(iter(refused))


def test_every_form_of_message_reaches_the_model(client: OpenAI, scripted: ScriptedGenerator) -> None:
    earlier = client.responses.create(model=BASE, input="Is the pool open?")
    items: Any = [
        {"type": "message", "role": "system", "content": "Be short."},
        {"type": "item_reference", "id": earlier.output[0].id},
        {"role": "user", "content": [{"type": "input_text", "text": "Hello"}, {"type": "input_text", "text": "there"}]},
        {**earlier.output[0].model_dump(exclude_none=True)},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]},
        {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["pool"], "results": None},
        {"role": "user", "content": PARKING},
    ]
    client.responses.create(model=BASE, input=items)
    messages = scripted.asked[-1][0]
    assert messages[0].content.endswith("Be short.")
    assert [message.content for message in messages[1:-1]] == [
        "Yes, for 10 pounds [1]. ",
        "Hello\nthere",
        "Yes, for 10 pounds [1]. ",
        "I will not.",
    ]


def test_an_answer_is_written_down_like_every_other(client: OpenAI, home: Path) -> None:
    response = client.responses.create(model=RAG, input=PARKING, user="u", metadata={"a": "b"})
    engine = open_database(Settings(home=home).url, home)

    def rows() -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(select(answers_table).where(answers_table.c.id == response.id)))

    wait_for(lambda: bool(rows()))
    [row] = rows()
    assert (row.route, row.completion, row.user, row.metadata) == ("responses", response.output_text, "u", {"a": "b"})
    engine.dispose()


def test_functions_are_called_and_their_outputs_read(able: tuple[OpenAI, AbleGenerator]) -> None:
    client, generator = able
    response = client.responses.create(
        model=BASE, input="How is the weather?", tools=[WEATHER], tool_choice="required", parallel_tool_calls=True
    )
    sampling = generator.asked[-1][2]
    function = {key: WEATHER[key] for key in ("name", "description", "parameters", "strict")}
    assert sampling.tools == ({"type": "function", "function": function},)
    assert sampling.tool_choice == "required"
    message, *calls = response.output
    assert message.type == "message"
    assert [call.type for call in calls] == ["function_call"] * 2
    assert [json.loads(call.arguments)["day"] for call in calls] == ["today", "tomorrow"]  # type: ignore[union-attr]
    assert response.tools[0].type == "function"
    outputs: Any = [
        {"type": "function_call_output", "call_id": "call_0", "output": "sunny"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "rain"}]},
        {"role": "user", "content": "So?"},
    ]
    client.responses.create(model=BASE, input=outputs, previous_response_id=response.id)
    asked = generator.asked[-1][0]
    [assistant] = [message for message in asked if message.role == "assistant"]
    assert [call.id for call in assistant.tool_calls] == ["call_0", "call_1"]
    assert [m.content for m in asked if m.role == "tool"] == ["sunny", "rain"]
    with pytest.raises(openai.BadRequestError, match="no function_call with call_id 'call_9'"):
        client.responses.create(
            model=BASE, input=[{"type": "function_call_output", "call_id": "call_9", "output": "x"}]
        )


def test_calls_are_streamed_one_after_the_other(able: tuple[OpenAI, AbleGenerator]) -> None:
    client, _ = able
    events: list[Any] = list(
        client.responses.create(model=BASE, input="How is the weather?", tools=[WEATHER], stream=True)
    )
    call = ["output_item.added", *["function_call_arguments.delta"] * 2, "function_call_arguments.done"]
    assert types(events)[2:] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        *[*call, "output_item.done"] * 2,
        "completed",
    ]
    assert [event.arguments for event in events if event.type == "response.function_call_arguments.done"] == [
        '{"day": "today"}',
        '{"day": "tomorrow"}',
    ]
    assert list(client.responses.retrieve(events[-1].response.id, stream=True)) == events


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", None),
        ({"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
            "required",
        ),
    ],
)
def test_the_choice_of_tools_is_heeded(able: tuple[OpenAI, AbleGenerator], choice: Any, sent: Any) -> None:
    client, generator = able
    other = {**WEATHER, "name": "other"}
    response = client.responses.create(model=BASE, input="Hi?", tools=[WEATHER, other], tool_choice=choice)
    sampling = generator.asked[-1][2]
    assert sampling.tool_choice == sent
    names = [tool["function"]["name"] for tool in sampling.tools]
    assert names == {"none": [], "allowed_tools": ["weather"]}.get(
        choice if isinstance(choice, str) else choice["type"], ["weather", "other"]
    )
    assert response.model_dump(mode="json", exclude_none=True)["tool_choice"] == choice


def test_log_probabilities_come_with_the_text(able: tuple[OpenAI, AbleGenerator]) -> None:
    client, generator = able
    asked: Any = {"model": BASE, "input": PARKING, "include": ["message.output_text.logprobs"]}
    [message] = client.responses.create(**asked, top_logprobs=1).output
    assert generator.asked[-1][2].top_logprobs == 1
    logprobs = message.content[0].logprobs  # type: ignore[union-attr]
    assert [token.token for token in logprobs or []] == ["Yes, ", "for ", "10 ", "pounds ", "[1]. "]
    assert logprobs is not None
    assert logprobs[0].top_logprobs[0].logprob == -1.5
    events: list[Any] = list(client.responses.create(**asked, stream=True))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert [delta.logprobs[0].token for delta in deltas] == [token.token for token in logprobs]
    assert deltas[0].logprobs[0].top_logprobs == []
    assert list(client.responses.retrieve(events[-1].response.id, stream=True)) == events


def test_a_schema_is_kept_to(able: tuple[OpenAI, AbleGenerator]) -> None:
    class Price(BaseModel):
        cost: int

    client, generator = able
    response = client.responses.parse(model=BASE, input=PARKING, text_format=Price)
    assert response.output_parsed == Price(cost=10)
    assert (generator.asked[-1][2].json_schema or {})["required"] == ["cost"]
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"
    client.responses.create(model=BASE, input=PARKING, text={"format": {"type": "json_object"}})
    assert generator.asked[-1][2].json_schema == {"type": "object"}


def test_a_cut_answer_is_incomplete(able: tuple[OpenAI, AbleGenerator]) -> None:
    client, generator = able
    generator.reply = "word " * 30
    try:
        response = client.responses.create(model=BASE, input=PARKING, max_output_tokens=16)
        events: list[Any] = list(client.responses.create(model=BASE, input=PARKING, max_output_tokens=16, stream=True))
    finally:
        generator.reply = ScriptedGenerator().reply
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text == "word " * 16
    assert response.output[0].status == "incomplete"  # type: ignore[union-attr]
    assert response.completed_at is None
    assert types(events)[-1] == "incomplete"
    assert list(client.responses.retrieve(events[-1].response.id, stream=True)) == events


def test_a_stream_that_fails_midway_says_so(client: OpenAI) -> None:
    events: list[Any] = list(client.responses.create(model=BASE, input="fail midway", stream=True))
    assert types(events)[-2:] == ["output_text.delta", "failed"]
    failed = events[-1].response
    assert (failed.status, failed.error.code, failed.error.message) == (
        "failed",
        "server_error",
        "the engine has stopped",
    )
    assert failed.output_text == "Yes, "
    wait_for(lambda: _status(client, failed.id) == "failed")
    assert list(client.responses.retrieve(failed.id, stream=True)) == events
    with pytest.raises(openai.InternalServerError, match="engine has stopped"):
        client.responses.create(model=BASE, input="fail midway")


def _status(client: OpenAI, response_id: str) -> str | None:
    try:
        return client.responses.retrieve(response_id).status
    except openai.NotFoundError:
        return None


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_answer(url: str, scripted: ScriptedGenerator, stream: bool) -> None:
    body = {"model": BASE, "input": "for ever", "stream": stream}
    first = ""
    with httpx.Client() as client:
        try:
            with client.stream("POST", f"{url}/v1/responses", json=body, timeout=0.5) as response:
                lines = (line for line in response.iter_lines() if line.startswith("data: "))
                first = next(lines).removeprefix("data: ")
                next(line for line in lines if "output_text.delta" in line)
        except httpx.ReadTimeout:
            assert not stream
    wait_for(lambda: scripted.num_closed == 1)
    if stream:
        response_id = json.loads(first)["response"]["id"]
        wait_for(lambda: _status(strict(url), response_id) == "cancelled")
        assert strict(url).responses.retrieve(response_id).output_text.startswith("Yes, more ")


def test_deltas_are_padded_where_the_client_asks(client: OpenAI) -> None:
    for options in ({"include_obfuscation": True}, {"include_obfuscation": False}):
        events: list[Any] = list(
            client.responses.create(model=BASE, input=PARKING, stream=True, stream_options=options)  # type: ignore[call-overload]
        )
        deltas = [event for event in events if event.type == "response.output_text.delta"]
        sizes = {len(event.delta) + len((event.model_extra or {}).get("obfuscation", "")) for event in deltas}
        assert (sizes == {16}) is options["include_obfuscation"]


def make_store(home: Path, domain: str, store_id: str) -> None:
    """A vector store over a domain; in it, the document about parking stands for a file with attributes."""
    engine = open_database(Settings(home=home).url, home)
    now = datetime.now(UTC)
    with engine.begin() as connection:
        insert_store(connection, Store(store_id, "", domain, False, "s", "", {}, now, now, None))
        for file_id, floor in (("parking", 0), ("pool", 1)):
            entry = Entry(store_id, file_id, None, now, "completed", None, {"floor": floor}, {"type": "other"}, 9)
            put_entries(connection, [entry])
    engine.dispose()


def test_file_search_shows_what_the_mode_searches(client: OpenAI, home: Path) -> None:
    make_store(home, DOMAIN, "vs_1")
    tool: Any = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    events: list[Any] = list(client.responses.create(model=RAG, input=PARKING, tools=[tool], stream=True))
    assert types(events)[:8] == [
        "created",
        "in_progress",
        "output_item.added",
        "file_search_call.in_progress",
        "file_search_call.searching",
        "file_search_call.completed",
        "output_item.done",
        "output_item.added",
    ]
    call, message = events[-1].response.output
    assert (call.type, call.queries, call.results) == ("file_search_call", [PARKING], None)
    assert message.content[0].annotations[0].file_id == "parking"
    stored = client.responses.retrieve(events[-1].response.id, include=["file_search_call.results"])
    found: Any = stored.output[0]
    assert found.results[0].file_id == "parking"
    assert found.results[0].attributes == {"floor": 0}
    assert list(client.responses.retrieve(stored.id, stream=True)) == events


def test_a_stored_response_quotes_no_document_that_is_gone(client: OpenAI, home: Path) -> None:
    make_store(home, DOMAIN, "vs_1")
    tool: Any = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    include: Any = ["file_search_call.results"]
    response = client.responses.create(model=RAG, input=PARKING, tools=[tool], include=include)
    quote = "Parking behind the hotel"
    assert client.responses.retrieve(response.id, include=include) == response
    assert response.model_dump_json().count(quote) == 2
    engine = open_database(Settings(home=home).url, home)
    with engine.connect() as connection:
        of_this = stored_objects_table.c.id == response.id
        row = connection.execute(select(stored_objects_table).where(of_this)).one()
    assert quote not in json.dumps([row.body, row.input])
    remove_documents(engine, DOMAIN, ["parking"])
    engine.dispose()
    again = client.responses.retrieve(response.id, include=include)
    assert quote not in again.model_dump_json()
    assert len(again.output[0].results) == 4  # type: ignore[union-attr, arg-type]
    assert again.output_text == response.output_text


def test_an_abstention_cites_nothing(home: Path, embedder: Embedder) -> None:
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        save_tuning(connection, DOMAIN, Tuning(threshold=1.0, embedder=embedder.name))
    engine.dispose()
    settings = Settings(home=home, abstention="Nobody knows [1].")
    with running(create_app(settings, generator=ScriptedGenerator(), embedder=embedder)) as url:
        events: list[Any] = list(strict(url).responses.create(model=RAG, input=PARKING, stream=True))
    response = events[-1].response
    assert (response.status, response.output_text) == ("completed", "Nobody knows [1].")
    assert response.output[0].content[0].annotations == []
    assert response.model_extra["bakeoff"]["abstained"] is True


def test_file_search_narrows_the_search(client: OpenAI, home: Path, scripted: ScriptedGenerator) -> None:
    make_store(home, DOMAIN, "vs_1")

    def search(**options: Any) -> list[str]:
        tool: Any = {"type": "file_search", "vector_store_ids": ["vs_1"], **options}
        response: Any = client.responses.create(
            model=RAG, input=PARKING, tools=[tool], include=["file_search_call.results"]
        )
        assert scripted.asked[-1][0][-1].content.count("\n> ") == len(response.output[0].results)
        return [result.file_id for result in response.output[0].results]

    assert len(search()) == 5
    assert search(max_num_results=2)[0] == "parking"
    assert len(search(max_num_results=2)) == 2
    assert search(filters={"type": "eq", "key": "floor", "value": 1}) == ["pool"]
    compound = {"type": "or", "filters": [{"type": "gte", "key": "floor", "value": 0}]}
    assert search(filters=compound) == ["parking", "pool"]
    assert search(ranking_options={"score_threshold": 1.0}) == []
    assert search(filters={"type": "eq", "key": "floor", "value": 9}) == []


def test_file_search_searches_no_other_domain(client: OpenAI, home: Path) -> None:
    make_store(home, DOMAIN, "vs_1")
    tool: Any = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    with pytest.raises(openai.BadRequestError, match=f"ask the model '{DOMAIN}/rag'") as refused:
        client.responses.create(model=BASE, input=PARKING, tools=[tool])
    assert refused.value.param == "tools"
    with pytest.raises(openai.NotFoundError, match="no vector store 'vs_2'") as missing:
        client.responses.create(model=RAG, input=PARKING, tools=[{**tool, "vector_store_ids": ["vs_2"]}])
    assert missing.value.param == "tools"
    with open_database(Settings(home=home).url, home).begin() as connection:
        update_store(connection, "vs_1", expires_after_days=1, last_active_at=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(openai.BadRequestError, match="has expired"):
        client.responses.create(model=RAG, input=PARKING, tools=[tool])


def test_filters_of_file_search_are_checked(client: OpenAI, home: Path) -> None:
    make_store(home, DOMAIN, "vs_1")
    tool: Any = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    with pytest.raises(openai.BadRequestError, match="nested 8 deep"):
        client.responses.create(model=RAG, input=PARKING, tools=[{**tool, "filters": _deep(40)}])
    with pytest.raises(openai.BadRequestError, match="filters"):
        client.responses.create(model=RAG, input=PARKING, tools=[{**tool, "filters": {"type": "and", "filters": []}}])


def test_the_response_of_another_key_is_not_there(home: Path, embedder: Embedder) -> None:
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        secrets = [create_key(connection, name)[1] for name in ("ann", "bob")]
    engine.dispose()
    app = create_app(Settings(home=home), generator=ScriptedGenerator(), embedder=embedder)
    with running(app) as url:
        ann, bob = (strict(url).with_options(api_key=secret) for secret in secrets)
        response = ann.responses.create(model=BASE, input=PARKING)
        assert ann.responses.retrieve(response.id).id == response.id
        for refused in (
            lambda: bob.responses.retrieve(response.id),
            lambda: bob.responses.delete(response.id),
            lambda: bob.responses.cancel(response.id),
            lambda: bob.responses.input_items.list(response.id),
        ):
            with pytest.raises(openai.NotFoundError, match=f"there is no response '{response.id}'"):
                refused()
        with pytest.raises(openai.BadRequestError, match="no response"):
            bob.responses.create(model=BASE, input="And?", previous_response_id=response.id)
        reference: Any = [{"type": "item_reference", "id": response.output[0].id}]
        with pytest.raises(openai.BadRequestError, match="there is no item"):
            bob.responses.create(model=BASE, input=[*reference, {"role": "user", "content": "And?"}])
        assert ann.responses.retrieve(response.id).id == response.id


def test_only_background_responses_are_cancelled(client: OpenAI) -> None:
    response = client.responses.create(model=BASE, input=PARKING)
    with pytest.raises(openai.BadRequestError, match="not made in the background"):
        client.responses.cancel(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_none")


def test_tokens_are_counted_as_the_engine_counts(client: OpenAI, scripted: ScriptedGenerator) -> None:
    counted = client.responses.input_tokens.count(model=RAG, input=PARKING, instructions="Be short.")
    assert counted.input_tokens == 20
    messages, _, sampling = scripted.asked[-1]
    assert sampling.max_tokens == 1
    assert "Be short." in messages[0].content
    assert "[1]\n> Parking behind the hotel" in messages[-1].content


def test_a_compacted_conversation_can_be_gone_on_from(client: OpenAI, scripted: ScriptedGenerator) -> None:
    first = client.responses.create(model=BASE, input=PARKING)
    compacted = client.responses.compact(model=BASE, input="And in summer?", previous_response_id=first.id)
    text = scripted.asked[-1][0][-1].content
    assert "Summarise the text" in text
    assert f"User: {PARKING}\nAssistant: Yes, for 10 pounds [1]. \nUser: And in summer?" in text
    assert compacted.usage.total_tokens == 25
    [item] = compacted.output
    again: Any = [item.model_dump(exclude_none=True), {"role": "user", "content": "And at night?"}]
    client.responses.create(model=BASE, input=again)
    messages = scripted.asked[-1][0]
    assert [message.content for message in messages if message.role == "user"][:2] == [PARKING, "And in summer?"]
    assert messages[0].content.endswith("Summary of what was answered so far: Yes, for 10 pounds [1].")
    for content in ("", "bakeoff-1:", "bakeoff-1:e30=", "bakeoff-1:%%%", "gAAAA"):
        forged: Any = [{"type": "compaction", "encrypted_content": content}, {"role": "user", "content": "And?"}]
        with pytest.raises(openai.BadRequestError, match="compaction"):
            client.responses.create(model=BASE, input=forged)


def _deep(depth: int) -> Any:
    nested: Any = {"type": "and", "filters": []}
    for _ in range(depth):
        nested = {"type": "and", "filters": [nested]}
    return nested


@pytest.mark.parametrize(
    ("change", "status", "param", "said"),
    [
        ({"model": None}, 400, "model", "missing"),
        ({"model": "nowhere/rag"}, 404, "model", "does not exist"),
        ({"model": f"{DOMAIN}/hybrid"}, 409, "model", "bakeoff train"),
        ({"input": None}, 400, "input", "empty"),
        ({"input": []}, 400, "input", "empty"),
        ({"input": " "}, 400, "input", "empty message"),
        ({"input": [{"role": "user", "content": "a"}] * 2001}, 400, "input", "at most 2000"),
        ({"input": [{"role": "user"}]}, 400, "input", "input[0]: Object missing required field `content`"),
        ({"input": [{"role": "tool", "content": "a"}]}, 400, "input", "input[0]: Invalid enum value 'tool'"),
        ({"input": [{"role": "user", "content": "a", "nonsense": 1}]}, 400, "input", "nonsense"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, 400, "input", "image"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, 400, "input", "parts of type None"),
        ({"input": [{"type": "reasoning", "summary": []}]}, 400, "input", "'reasoning' are not read"),
        ({"input": [{"type": ["x"]}]}, 400, "input", "are not read"),
        ({"input": [{"type": "item_reference", "id": "msg_x"}]}, 400, "input", "there is no item 'msg_x'"),
        ({"input": [{"type": "item_reference", "id": "%00'"}]}, 400, "input", "there is no item"),
        ({"input": "too long"}, 400, "input", "9000"),
        ({"input": "engine down"}, 503, None, "stopped"),
        ({"nonsense": 1}, 400, "nonsense", "nonsense"),
        ({"previous_response_id": "resp_x"}, 400, "previous_response_id", "no response 'resp_x'"),
        ({"temperature": 3}, 400, "temperature", "<= 2"),
        ({"max_output_tokens": 1}, 400, "max_output_tokens", ">= 16"),
        ({"top_logprobs": 21}, 400, "top_logprobs", "<= 20"),
        ({"top_logprobs": 2}, 400, "include", "not supported"),
        ({"include": ["message.output_text.logprobs"]}, 400, "include", "not supported"),
        ({"include": ["nonsense"]}, 400, "include[0]", "nonsense"),
        ({"metadata": {str(number): "x" for number in range(17)}}, 400, "metadata", "length <= 16"),
        ({"metadata": {"task": "poetry"}}, 400, "metadata", "Tasks: answer"),
        ({"text": {"format": {"type": "json_object"}}}, 400, "text.format", "not supported"),
        ({"text": {"format": {"type": "json_schema"}}}, 400, "text.format", "name and schema"),
        ({"text": {"verbosity": "low"}}, 400, "text.verbosity", "not supported"),
        ({"tools": [WEATHER]}, 400, "tools", "not supported"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools", "web_search"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, 400, "tools", "mcp"),
        ({"tools": [{}]}, 400, "tools", "tools[0] has no type"),
        ({"tools": [{**WEATHER, "name": "a b"}]}, 400, "tools", "tools[0]"),
        ({"tools": [{"type": "file_search"}]}, 400, "tools", "vector_store_ids"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["a"], "filters": _deep(40)}]}, 404, "tools", "'a'"),
        ({"tool_choice": "required"}, 400, "tool_choice", "no tools"),
        ({"tool_choice": "sometimes"}, 400, "tool_choice", "sometimes"),
        ({"tool_choice": {"type": "function", "name": "x"}}, 400, "tool_choice", "'x'"),
        ({"tool_choice": {"type": "function", "name": ["x"]}}, 400, "tool_choice", "function"),
        ({"tool_choice": {}}, 400, "tool_choice", "None"),
        ({"conversation": "conv_1"}, 400, "conversation", "not supported"),
        ({"background": True}, 400, "background", "not supported"),
        ({"truncation": "auto"}, 400, "truncation", "not supported"),
        ({"reasoning": {"effort": "high"}}, 400, "reasoning", "not supported"),
        ({"service_tier": "priority"}, 400, "service_tier", "not supported"),
        ({"prompt": {"id": "x"}}, 400, "prompt", "not supported"),
        ({"moderation": {"model": "x"}}, 400, "moderation", "not supported"),
        ({"context_management": [{"type": "compaction"}]}, 400, "context_management", "not supported"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_refused_by_name(
    shared_url: str, change: dict[str, Any], status: int, param: str | None, said: str, stream: bool
) -> None:
    body = {"model": BASE, "input": PARKING, "stream": stream, **change}
    response = httpx.post(f"{shared_url}/v1/responses", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param), error
    assert said in error["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"reasoning": {"effort": "none", "summary": None}},
        {"truncation": "disabled", "background": False, "service_tier": "auto"},
        {"prompt_cache_key": "k", "safety_identifier": "s", "user": "u", "include": ["reasoning.encrypted_content"]},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": False, "max_tool_calls": 3},
        {"tools": [WEATHER], "tool_choice": "none"},
        {"text": {"format": {"type": "text"}, "verbosity": "medium"}, "metadata": None, "top_logprobs": 0},
    ],
)
def test_what_changes_no_answer_is_accepted(shared_url: str, change: dict[str, Any]) -> None:
    response = strict(shared_url).responses.create(**{"model": BASE, "input": PARKING, "store": False, **change})
    assert response.status == "completed"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"model": 5}', b'{"input":' + b"[" * 90_000]
)
@pytest.mark.parametrize("path", ["", "/input_tokens", "/compact"])
def test_a_body_that_is_no_request_gets_an_error_body(shared_url: str, content: bytes, path: str) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{shared_url}/v1/responses{path}", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_tools_that_nest_deeply_are_refused(shared_url: str) -> None:
    nested = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    body = b'{"model":"%b","input":"x","text":{"format":%b}}' % (BASE.encode(), nested)
    response = httpx.post(f"{shared_url}/v1/responses", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400


@pytest.mark.parametrize("response_id", ["resp_none", "..%2f..", "x" * 3000, "%00", "'; drop table", "é"])
def test_ids_of_nothing_are_not_found(shared_url: str, response_id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        response = httpx.request(method, f"{shared_url}/v1/responses/{response_id}{path}")
        assert response.status_code == 404, (method, path, response.text)
        assert response.json()["error"]["message"]


def test_a_lenient_service_names_what_it_ignored(home: Path, embedder: Embedder) -> None:
    app = create_app(Settings(home=home), generator=ScriptedGenerator(), embedder=embedder, lenient=True)
    with running(app) as url:
        client = strict(url)
        raw = client.responses.with_raw_response.create(
            model=BASE,
            input=PARKING,
            background=True,
            conversation="c",
            previous_response_id="resp_none",
            tools=[{**WEATHER, "defer_loading": True}],
            top_logprobs=1,
        )
        response = raw.parse()
        assert response.status == "completed"
        assert (response.background, response.previous_response_id) == (False, None)
        assert client.responses.create().status == "completed"
        assert client.responses.cancel(response.id).id == response.id
        ignored = raw.headers.get("x-bakeoff-ignored", "").split(", ")
        assert {"background", "conversation", "previous_response_id", "tools", "include"} <= set(ignored)
