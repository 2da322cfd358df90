"""A stand-in for vLLM that answers at once: what a gateway adds is then all that is measured.

    python -m benchmarks.upstream --port 9000 --probe HOME/probes/base-DIGEST.json

A bare asyncio protocol: it reads a request by its headers, and writes bytes that were made beforehand. What
`service.vllm` wants proved before it sends traffic (the chat template, the base model's log-probabilities) it reads
from the probe that a real vLLM would have to reproduce.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import click
import msgspec

from bakeoff.probes import Probe

MODEL = "smollm2-135m-instruct"
REPLY = "Yes, there is free parking behind the house for every guest, all day long."
_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_USAGE = {"prompt_tokens": 20, "completion_tokens": 16, "total_tokens": 36}


def whole_reply() -> bytes:
    """The completion, as a response on the wire."""
    choice = {"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop", "logprobs": None}
    facts = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}
    return _json({**facts, "choices": [choice], "usage": _USAGE})


def streamed_reply(num_chunks: int, per_write: int) -> list[bytes]:
    """The same as a stream: what is written at once, piece by piece."""

    def frame(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        return _event({"choices": choices})

    def _event(facts: dict[str, Any]) -> bytes:
        common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        return b"data: " + json.dumps({**common, **facts}).encode() + b"\n\n"

    words = REPLY.split()
    frames = [frame({"role": "assistant", "content": ""})]
    frames += [frame({"content": words[number % len(words)] + " "}) for number in range(num_chunks)]
    frames += [frame({"content": ""}, "stop"), _event({"choices": [], "usage": _USAGE}), b"data: [DONE]\n\n"]
    parts = [b"".join(frames[start : start + per_write]) for start in range(0, len(frames), per_write)]
    return [f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts] + [b"0\r\n\r\n"]


class Upstream(asyncio.Protocol):
    """One connection; requests on it are answered one after the other."""

    def __init__(self, answer: Callable[[str, bytes], bytes | list[bytes]]) -> None:
        self._answer = answer
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that has come in whole."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            found = head.find(b"content-length:")
            length = int(head[found + 15 :].split(b"\r\n", 1)[0]) if found >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            body, path = self._data[end + 4 : end + 4 + length], self._data.split(b" ", 2)[1].decode()
            self._data = self._data[end + 4 + length :]
            answer = self._answer(path, body)
            if isinstance(answer, bytes):
                self._transport.write(answer)
            else:
                for part in (_STREAM_HEAD, *answer):
                    self._transport.write(part)


def _json(facts: Any) -> bytes:
    body = json.dumps(facts).encode()
    return _HEAD.format(kind="application/json", length=len(body)).encode() + body


def _answerer(probe: Probe, num_chunks: int, per_write: int) -> Callable[[str, bytes], bytes | list[bytes]]:
    whole, streamed = whole_reply(), streamed_reply(num_chunks, per_write)
    scores = {
        ((*pair.prompt, *pair.target[:place]), token): pair.base[place]
        for pair in probe.pairs
        for place, token in enumerate(pair.target)
    }
    ids = {_key(turn.content for turn in each.messages): each.ids for each in probe.conversations}

    def tokenize(body: bytes) -> bytes:
        return _json({"tokens": ids[_key(turn["content"] for turn in json.loads(body)["messages"])]})

    def score(body: bytes) -> bytes:
        asked = json.loads(body)
        [token] = asked["logprob_token_ids"]
        found = {f"token_id:{token}": scores[tuple(asked["prompt"]), token]}
        return _json({"choices": [{"logprobs": {"top_logprobs": [found]}}]})

    def answer(path: str, body: bytes) -> bytes | list[bytes]:
        if path.endswith("/chat/completions"):
            return streamed if b'"stream":true' in body.replace(b" ", b"") else whole
        if path.endswith("/models"):
            return _json({"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 8192}]})
        if path.endswith("/completions"):
            return score(body)
        return tokenize(body) if path.endswith("/tokenize") else _json({"version": "stand-in"})

    return answer


def _key(contents: Iterable[str]) -> tuple[str, ...]:
    """Contents without spaces: the client breaks control tokens with one, so that nobody can write them."""
    return tuple(content.replace(" ", "") for content in contents)


@click.command()
@click.option("--port", default=9000, show_default=True)
@click.option("--probe", required=True, type=click.Path(exists=True, path_type=Path), help="Of the base model.")
@click.option("--chunks", default=200, show_default=True, help="Chunks of text in a streamed answer.")
@click.option("--per-write", default=1, show_default=True, help="Chunks in one write to the socket.")
def main(port: int, probe: Path, chunks: int, per_write: int) -> None:
    """Answer on 127.0.0.1 until killed."""
    answer = _answerer(msgspec.json.decode(probe.read_bytes(), type=Probe), chunks, per_write)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Upstream(answer), "127.0.0.1", port)
        await server.serve_forever()

    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())


if __name__ == "__main__":
    main()
