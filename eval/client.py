"""Asks a service over HTTP, as any OpenAI client does, and takes the time at this end.

In: a model name and a question. Out: a `Reply` with the text, the passages and citations, the token counts and two
times. A `Failure` says that this answer did not come; `EngineDown` says that none will.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Struct

from bakeoff.errors import BakeoffError, EngineDown, NotFound
from bakeoff.records import Message

TIMEOUT = httpx.Timeout(300.0, connect=10.0)
"""Seconds. A slow CPU reads a long prompt for tens of seconds before the first token."""


class Failure(Exception):
    """One answer that did not come; the run goes on."""

    def __init__(self, message: str, is_outage: bool = False) -> None:
        super().__init__(message)
        self.is_outage = is_outage
        """Whether the service, rather than this question, seems to be the cause."""


class Reply(Struct, frozen=True):
    """What came back for one question."""

    text: str
    passages: tuple[dict[str, Any], ...]
    citations: tuple[dict[str, Any], ...]
    latency_ms: float
    first_token_ms: float | None
    """None when no text came."""
    prompt_tokens: int | None
    completion_tokens: int | None
    adapter: str | None
    epoch: int | None
    evidence: float | None = None
    """How likely a passage holds the answer, as the service says; None in modes without retrieval."""
    abstained: bool = False
    """Whether the service declined by itself, asking no model."""


class _Citation(Struct):
    url_citation: dict[str, Any]


class _Delta(Struct):
    content: str | None = None
    annotations: list[_Citation] | None = None


class _Choice(Struct):
    delta: _Delta


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Evidence(Struct):
    adapter: str | None = None
    epoch: int | None = None
    passages: tuple[dict[str, Any], ...] = ()
    evidence: float | None = None
    abstained: bool = False


class _Chunk(Struct):
    """The part of a stream's event that is read here; the rest is passed over."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    bakeoff: _Evidence | None = None
    error: dict[str, Any] | None = None


def open_client(url: str, api_key: str = "") -> httpx.Client:
    """A client of the service at this base address, with or without `/v1`. Close it after use."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    base = url.rstrip("/").removesuffix("/v1")
    return httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT, trust_env=False)


def describe_model(client: httpx.Client, model: str) -> dict[str, Any]:
    """Return what the service says of a model: the `bakeoff` object of `GET /v1/models/{model}`.

    Raises:
        EngineDown: nothing answers at the address.
        NotFound: the service has no such model.
        BakeoffError: any other refusal, in the service's words.
    """
    try:
        response = client.get(f"/v1/models/{quote(model, safe='')}")
    except httpx.TransportError as error:
        raise EngineDown(_say_down(client, error)) from error
    if response.status_code != httpx.codes.OK:
        kind = NotFound if response.status_code == httpx.codes.NOT_FOUND else BakeoffError
        raise kind(f"the service at {client.base_url} says of model {model}: {_error_message(response)}")
    facts = response.json().get("bakeoff")
    return facts if isinstance(facts, dict) else {}


def ask_model(
    client: httpx.Client, model: str, conversation: Sequence[Message], max_tokens: int, seed: int, task: str = "answer"
) -> Reply:
    """Ask one question, greedily, and read the stream to its end.

    Args:
        conversation: ends with the question.
        task: what it asks for; see `bakeoff.tasks`.

    Raises:
        EngineDown: nothing listens at the address.
        Failure: the service refused, broke off, or sent something else than a chat completion.
    """
    body = {
        "model": model,
        "messages": conversation,
        "temperature": 0,
        "seed": seed,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "metadata": {"task": task},
    }
    started = time.perf_counter()
    try:
        with client.stream("POST", "/v1/chat/completions", json=msgspec.to_builtins(body)) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise Failure(_error_message(response), response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR)
            return _read_stream(response.iter_lines(), started)
    except httpx.ConnectError as error:
        raise EngineDown(_say_down(client, error)) from error
    except httpx.TransportError as error:
        raise Failure(f"the connection broke: {type(error).__name__}: {error}", is_outage=True) from error


def _read_stream(lines: Iterator[str], started: float) -> Reply:
    texts: list[str] = []
    citations: list[dict[str, Any]] = []
    usage, evidence = _Usage(), _Evidence()
    first_token_ms: float | None = None
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            break
        try:
            chunk = msgspec.json.decode(data, type=_Chunk)
        except msgspec.MsgspecError as error:
            raise Failure(f"the stream holds an event that is no chat completion chunk: {error}") from error
        if chunk.error is not None:
            raise Failure(str(chunk.error.get("message", chunk.error)))
        usage = chunk.usage or usage
        evidence = chunk.bakeoff or evidence
        for choice in chunk.choices:
            if choice.delta.content:
                texts.append(choice.delta.content)
                if first_token_ms is None:
                    first_token_ms = _elapsed_ms(started)
            citations += [annotation.url_citation for annotation in choice.delta.annotations or ()]
    else:
        raise Failure("the stream ended before [DONE]", is_outage=True)
    return Reply(
        "".join(texts),
        evidence.passages,
        tuple(citations),
        _elapsed_ms(started),
        first_token_ms,
        usage.prompt_tokens,
        usage.completion_tokens,
        evidence.adapter,
        evidence.epoch,
        evidence.evidence,
        evidence.abstained,
    )


def _elapsed_ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)


def _error_message(response: httpx.Response) -> str:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    return f"HTTP {response.status_code}: {message}"


def _say_down(client: httpx.Client, error: httpx.TransportError) -> str:
    return (
        f"no service answers at {client.base_url} ({error}); start it with bakeoff serve, then run the same command "
        "again: what is answered is kept"
    )
