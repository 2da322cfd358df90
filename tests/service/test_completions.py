"""The older completions, asked by the unmodified `openai` package, strictly parsed."""

from typing import Any

import httpx
import pytest
from openai import OpenAI
from scripted_service import DOMAIN, ScriptedGenerator

PROMPT = "What does parking cost?"
REPLY = "Yes, for 10 pounds [1]. "


def ask(client: OpenAI, **changes: Any) -> Any:
    return client.completions.create(**{"model": f"{DOMAIN}/base", "prompt": PROMPT, **changes})


def test_a_prompt_is_a_question_to_the_mode(able_client: OpenAI, able: ScriptedGenerator) -> None:
    completion = ask(able_client, model=f"{DOMAIN}/rag", temperature=0)
    [choice] = completion.choices
    assert (completion.object, completion.id[:5], choice.finish_reason) == ("text_completion", "cmpl-", "stop")
    assert choice.text == REPLY
    assert completion.model_extra["bakeoff"][0]["passages"][0]["title"] == "Parking"
    messages, _, sampling = able.asked[-1]
    assert f"Question: {PROMPT}" in messages[-1].content
    assert (sampling.max_tokens, sampling.temperature) == (16, 0)


def test_every_prompt_has_its_choices(able_client: OpenAI) -> None:
    completion = ask(able_client, prompt=["one?", "two?"], n=2, best_of=2, echo=True)
    assert [(choice.index, choice.text) for choice in completion.choices] == [
        (0, f"one?{REPLY}"),
        (1, f"one?{REPLY}"),
        (2, f"two?{REPLY}"),
        (3, f"two?{REPLY}"),
    ]
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (40, 20)


def test_a_stream_says_the_same(able_url: str) -> None:
    loose = OpenAI(base_url=f"{able_url}/v1", api_key="none")  # its strict parse knows no chunk before the last
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(ask(loose, prompt=["one?", "two?"], echo=True, **options))
    texts = ["", ""]
    for chunk in chunks[:-1]:
        assert chunk.usage is None
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [f"one?{REPLY}", f"two?{REPLY}"]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 10)


def test_log_probabilities_stand_at_their_place_in_the_text(able_client: OpenAI) -> None:
    logprobs = ask(able_client, logprobs=2).choices[0].logprobs
    assert "".join(logprobs.tokens) == REPLY
    assert logprobs.text_offset[:3] == [0, 5, 9]
    assert set(logprobs.top_logprobs[0]) == {"other0 ", "other1 ", "Yes, "}
    assert logprobs.token_logprobs[0] == -0.5


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_p": 0.5}, "min_p"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_cannot_be_heeded_is_refused_by_name(shared_url: str, change: dict[str, Any], param: str) -> None:
    body = {"model": f"{DOMAIN}/base", "prompt": PROMPT, **change}
    response = httpx.post(f"{shared_url}/v1/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text
