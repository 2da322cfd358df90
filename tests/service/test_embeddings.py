"""Embeddings, asked by the unmodified `openai` package, strictly parsed."""

from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI

from retrieval.embedder import Embedder

MODEL = "all-minilm-l6-v2"
TEXTS = ["What does parking cost?", "Dogs are welcome."]


@pytest.fixture
def loose(able_url: str) -> OpenAI:
    """The package as it comes: it asks for base64, which its own strict parse does not know."""
    return OpenAI(base_url=f"{able_url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("model", [MODEL, "ada"])
def test_vectors_are_those_that_the_service_searches_by(loose: OpenAI, embedder: Embedder, model: str) -> None:
    answer = loose.embeddings.create(model=model, input=TEXTS)
    assert answer.model == MODEL
    assert [one.index for one in answer.data] == [0, 1]
    assert np.array_equal(np.array([one.embedding for one in answer.data], np.float32), embedder.embed(TEXTS))
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(embedder.count_tokens(TEXTS))


def test_both_encodings_say_the_same(loose: OpenAI, able_client: OpenAI, able_url: str) -> None:
    body = {"model": MODEL, "input": TEXTS[0], "encoding_format": "base64", "dimensions": 384}
    assert isinstance(httpx.post(f"{able_url}/v1/embeddings", json=body).json()["data"][0]["embedding"], str)
    packed = loose.embeddings.create(model=MODEL, input=TEXTS[0])
    plain = able_client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="float")
    assert packed.data[0].embedding == plain.data[0].embedding


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["x", " "]}, 400, "input"),
        ({"input": [1, 2]}, 400, "input"),
        ({"input": [[1, 2]]}, 400, "input"),
        ({"input": ["x"] * 2049}, 400, "input"),
        ({"input": "word " * 600}, 400, "input"),
        ({"input": 5}, 400, "input"),
        ({"dimensions": 5}, 400, "dimensions"),
        ({"encoding_format": "int8"}, 400, "encoding_format"),
        ({"nonsense": 5}, 400, "nonsense"),
        ({"model": "hotel/rag"}, 404, "model"),
        ({"model": "text-embedding-3-small"}, 404, "model"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(
    shared_url: str, change: dict[str, Any], status: int, param: str
) -> None:
    response = httpx.post(f"{shared_url}/v1/embeddings", json={"model": MODEL, "input": "x", **change})
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text
