"""Our service over a real vLLM, through the unmodified `openai` package, in every mode."""

from collections.abc import Iterator

import pytest
from live_service import DOMAIN
from openai import OpenAI
from scripted_service import running

from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from service.app import create_app

pytestmark = pytest.mark.vllm

MODES = ["base", "few-shot", "fine-tuned", "rag", "hybrid"]


@pytest.fixture(scope="module")
def url(settings: Settings, promoted: str, embedder: Embedder) -> Iterator[str]:
    with running(create_app(settings, embedder=embedder)) as address:
        yield address


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_streams_and_collects_the_same(url: str, mode: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", _strict_response_validation=True, timeout=300, max_retries=0)
    question = [{"role": "user", "content": "Does Saffron Brasserie serve liquor?"}]
    how = {"model": f"{DOMAIN}/{mode}", "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(messages=question, **how)  # type: ignore[call-overload]
    chunks = list(
        client.chat.completions.create(  # type: ignore[call-overload]
            messages=question, stream=True, stream_options={"include_usage": True}, **how
        )
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == streamed != ""
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 0
    assert whole.usage.prompt_tokens > (300 if mode in ("rag", "hybrid") else 10)
    assert whole.system_fingerprint.startswith("vllm/0.")
