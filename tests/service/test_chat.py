"""Chat completions in every form, asked by the unmodified `openai` package over a real socket, strictly parsed."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from scripted_service import DOMAIN, ScriptedGenerator, running

from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from service.app import create_app

QUESTION: list[Any] = [{"role": "user", "content": "What does parking cost?"}]
REPLY = "Yes, for 10 pounds [1]. "
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def ask(client: OpenAI, **changes: Any) -> Any:
    body: dict[str, Any] = {"model": f"{DOMAIN}/base", "messages": QUESTION, **changes}
    return client.chat.completions.create(**body)


def test_several_choices_come_in_one_answer_and_their_seeds_differ(
    able_client: OpenAI, able: ScriptedGenerator
) -> None:
    able.asked.clear()
    completion = ask(able_client, n=3, seed=2**31 - 2)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert {choice.message.content for choice in completion.choices} == {REPLY}
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (20, 15)
    assert completion.usage.completion_tokens_details.reasoning_tokens == 0
    assert sorted(sampling.seed for _, _, sampling in able.asked) == [0, 2**31 - 2, 2**31 - 1]


def test_a_stream_of_several_choices_names_each_and_counts_all(able_client: OpenAI) -> None:
    chunks = list(ask(able_client, n=2, stream=True, stream_options={"include_usage": True}))
    texts = ["", ""]
    for chunk in chunks[:-1]:
        assert chunk.usage is None
        assert "usage" in chunk.model_fields_set
        [choice] = chunk.choices
        assert choice.logprobs is None
        texts[choice.index] += choice.delta.content or ""
    assert texts == [REPLY, REPLY]
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant", "assistant"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 10
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_every_text_arrives_as_it_was_said(able_client: OpenAI, able: ScriptedGenerator) -> None:
    able.reply = 'a"b \\n \u2028 \U0001f600 \x00 </script> {"choices": 1} data: [DONE]'
    try:
        chunks = list(ask(able_client, stream=True))
    finally:
        able.reply = REPLY
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said.split() == ['a"b', "\\n", "\U0001f600", "\x00", "</script>", '{"choices":', "1}", "data:", "[DONE]"]


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_belong_to_the_text(able_client: OpenAI, stream: bool) -> None:
    answer = ask(able_client, logprobs=True, top_logprobs=2, stream=stream)
    if stream:
        tokens = [token for chunk in answer for choice in chunk.choices for token in _tokens(choice)]
    else:
        tokens = _tokens(answer.choices[0])
    assert "".join(token.token for token in tokens) == REPLY
    assert bytes(tokens[0].bytes) == b"Yes, "
    assert [other.token for other in tokens[0].top_logprobs] == ["other0 ", "other1 "]
    assert tokens[0].logprob == -0.5


def _tokens(choice: Any) -> list[Any]:
    return choice.logprobs.content if choice.logprobs else []


def test_tools_are_offered_called_and_answered(able_client: OpenAI, able: ScriptedGenerator) -> None:
    choice = ask(able_client, tools=[WEATHER], tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == (
        "call_weather",
        "weather",
        {"city": "Skye"},
    )
    assert able.asked[-1][2].tool_choice == "required"
    ask(able_client, messages=[*QUESTION, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}])
    messages = able.asked[-1][0]
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool"]
    assert "Question: What does parking cost?" in messages[1].content
    assert messages[2].tool_calls[0].arguments == '{"city": "Skye"}'
    assert (messages[3].content, messages[3].tool_call_id) == ("rain", "call_weather")


def test_calls_are_streamed_in_pieces(able_client: OpenAI) -> None:
    pieces = [
        piece
        for chunk in ask(able_client, tools=[WEATHER], parallel_tool_calls=False, stream=True)
        for choice in chunk.choices
        for piece in choice.delta.tool_calls or []
    ]
    assert (pieces[0].id, pieces[0].type, pieces[0].function.name) == ("call_weather", "function", "weather")
    assert "".join(piece.function.arguments or "" for piece in pieces) == '{"city": "Skye"}'


@pytest.mark.parametrize("changes", [{"tools": []}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_no_tools_are_offered_where_none_may_be_called(
    able_client: OpenAI, able: ScriptedGenerator, changes: dict[str, Any]
) -> None:
    assert ask(able_client, **changes).choices[0].message.content == REPLY
    assert able.asked[-1][2].tools == ()


def test_forms_of_an_answer_reach_the_engine(able_client: OpenAI, able: ScriptedGenerator) -> None:
    class Price(BaseModel):
        pounds: int

    ask(able_client, response_format={"type": "json_object"})
    assert able.asked[-1][2].json_schema == {"type": "object"}
    ask(able_client, response_format={"type": "text"})
    assert able.asked[-1][2].json_schema is None
    able.reply = '{"pounds":10}'
    try:
        parsed = able_client.chat.completions.parse(model=f"{DOMAIN}/base", messages=QUESTION, response_format=Price)
    finally:
        able.reply = REPLY
    assert parsed.choices[0].message.parsed == Price(pounds=10)
    schema = able.asked[-1][2].json_schema
    assert schema is not None
    assert schema["properties"]["pounds"]["type"] == "integer"


def test_penalties_biases_and_the_engines_own_parameters_reach_it(able_client: OpenAI, able: ScriptedGenerator) -> None:
    ask(
        able_client,
        frequency_penalty=-2,
        presence_penalty=0.5,
        logit_bias={"7": -100, "8": 0},
        extra_body={"top_k": 5, "structured_outputs": {"regex": "a+"}, "min_p": 0, "repetition_penalty": 1},
    )
    sampling = able.asked[-1][2]
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.logit_bias) == (-2, 0.5, {"7": -100})
    assert sampling.extras == {"top_k": 5, "structured_outputs": {"regex": "a+"}}


def test_what_changes_no_answer_is_accepted(able_client: OpenAI, able: ScriptedGenerator) -> None:
    completion = ask(
        able_client,
        safety_identifier="s",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        service_tier="default",
        modalities=["text"],
        prediction={"type": "content", "content": "Yes"},
        reasoning_effort="none",
        verbosity="medium",
        seed=-(2**62),
        stop=None,
        function_call="none",
        store=False,
        user="u" * 200,
    )
    assert completion.choices[0].message.content == REPLY
    assert completion.system_fingerprint == "scripted:none"


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "What does parking cost?"}],
        [{"role": "system", "content": "Be short."}, {"role": "assistant", "content": "What does parking cost?"}],
        [{"role": "user", "content": "What does parking cost?"}, {"role": "assistant", "content": "It costs"}],
        [{"role": "assistant", "content": None, "refusal": "No."}, *QUESTION],
        [{"role": "assistant", "content": ""}, {**QUESTION[0], "name": "Ann"}],
    ],
)
@pytest.mark.parametrize("mode", ["rag", "few-shot"])
def test_the_question_is_found_wherever_it_stands(
    able_client: OpenAI, able: ScriptedGenerator, messages: list[Any], mode: str
) -> None:
    ask(able_client, model=f"{DOMAIN}/{mode}", messages=messages)
    rendered = able.asked[-1][0]
    [asked] = [message for message in rendered if "Question: What does parking cost?" in message.content]
    assert asked.role == "user"
    assert mode == "few-shot" or "[1]\n> Parking behind the hotel" in asked.content


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"messages": [{"role": "user", "content": "x", "nonsense": 1}]}, "messages[0].nonsense"),
        ({"top_k": 2}, "top_k"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"tools": [WEATHER]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"function_call": {"name": "x"}}, "function_call"),
        ({"audio": {"voice": "a", "format": "wav"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"moderation": {}}, "moderation"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"metadata": {"k": "v" * 513}}, "metadata[...]"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"user": "u" * 201}, "user"),
        ({"stop": [""]}, "stop"),
        ({"seed": 1.5}, "seed"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"messages": [{"role": "assistant", "audio": {"id": "x"}}]}, "messages"),
    ],
)
def test_what_the_engine_cannot_heed_is_refused_by_name(shared_url: str, change: dict[str, Any], param: str) -> None:
    response = httpx.post(
        f"{shared_url}/v1/chat/completions", json={"model": f"{DOMAIN}/base", "messages": QUESTION, **change}
    )
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"logit_bias": {"token": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"tools": [WEATHER], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": []}, {"role": "tool", "content": "x"}]},
            "messages",
        ),
    ],
)
def test_what_is_wrong_in_itself_is_refused_by_every_engine(able_url: str, change: dict[str, Any], param: str) -> None:
    response = httpx.post(
        f"{able_url}/v1/chat/completions", json={"model": f"{DOMAIN}/base", "messages": QUESTION, **change}
    )
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text


def test_a_lenient_service_names_what_it_ignored(shared_home: Path, embedder: Embedder) -> None:
    app = create_app(Settings(home=shared_home), generator=ScriptedGenerator(), embedder=embedder, lenient=True)
    body = {"model": f"{DOMAIN}/base", "messages": QUESTION, "logprobs": True, "max_tokens": 0, "verbosity": "low"}
    with running(app) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["x-bakeoff-ignored"] == "verbosity, max_tokens, logprobs"
    assert response.json()["choices"][0]["logprobs"] is None


def test_an_alias_answers_as_the_model_that_it_stands_for(able_client: OpenAI) -> None:
    assert ask(able_client, model="gpt-4o-mini").model == f"{DOMAIN}/rag"
    with pytest.raises(openai.NotFoundError):
        ask(able_client, model="ada")


def test_a_slow_first_token_begins_the_stream_and_keeps_it_alive(able_url: str) -> None:
    body = {"model": f"{DOMAIN}/base", "messages": [{"role": "user", "content": "first slow"}], "stream": True}
    start = time.monotonic()
    with httpx.stream("POST", f"{able_url}/v1/chat/completions", json=body) as response:
        began_after = time.monotonic() - start
        lines = [line for line in response.iter_lines() if line]
    assert began_after < 0.5
    assert lines[:2] == [": keep-alive"] * 2
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith((":", "data: ")) for line in lines)


def test_a_stream_that_fails_midway_ends_with_the_error_and_done(able_url: str) -> None:
    body = {"model": f"{DOMAIN}/base", "messages": [{"role": "user", "content": "fail midway"}], "stream": True}
    response = httpx.post(f"{able_url}/v1/chat/completions", json=body)
    *_, error, done = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert json.loads(error)["error"]["code"] == "engine_down"
    assert done == "[DONE]"
