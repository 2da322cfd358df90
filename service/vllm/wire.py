"""vLLM's chat wire: what is asked becomes one JSON body, the bytes that come back become deltas.

Frames are decoded straight into typed structs, each into one delta, as many as a read has brought.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from bakeoff.chat_template import defuse
from bakeoff.errors import EngineDown
from bakeoff.records import Delta, FinishReason, Message, Sampling, TokenLogprob, ToolCallPiece
from service.vllm.refusals import Refusal, to_error

EXTRAS = frozenset(
    {
        "allowed_token_ids",
        "bad_words",
        "ignore_eos",
        "include_stop_str_in_output",
        "min_p",
        "min_tokens",
        "repetition_detection",
        "repetition_penalty",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop_token_ids",
        "structured_outputs",
        "thinking_token_budget",
        "top_k",
    }
)
"""Sampling parameters of vLLM that clients may send by name. It ignores what it does not know, so no others pass."""

NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Said with every request: vLLM would take what is missing from the model's generation config."""

_DATA = b"data: "
_DONE = b"[DONE]"
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "repetition": "stop",
}


class _Logprob(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list["_Logprob"] = []


class _Logprobs(Struct):
    content: list[_Logprob] | None = None


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    index: int | None = None
    """Its place in the list, in an answer that is not streamed."""
    id: str | None = None
    function: _Function | None = None


class _Piece(Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    delta: _Piece | None = None
    message: _Piece | None = None
    """In place of `delta`, in an answer that is not streamed."""
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Frame(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Refusal | None = None


_decode = msgspec.json.Decoder(_Frame).decode


def encode_request(
    messages: Sequence[Message],
    model: str,
    sampling: Sampling,
    cache_salt: str,
    control_tokens: Iterable[str],
    *,
    is_streamed: bool = True,
) -> bytes:
    """The body of a chat completion.

    Args:
        messages: as rendered; control tokens written out in them are broken, as everywhere.
        model: vLLM's name of the base model, or an adapter's digest.
        sampling: greedy at temperature 0.
        cache_salt: of the prefix cache.
        control_tokens: of the base model's tokenizer.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [_encode_message(message, control_tokens) for message in messages],
        "max_completion_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "cache_salt": cache_salt,
        **NEUTRAL,
        **sampling.extras,
    }
    if is_streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.logit_bias:
        body["logit_bias"] = sampling.logit_bias
    if sampling.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    if sampling.json_schema is not None:
        schema = {"name": "answer", "schema": sampling.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if sampling.tools:
        body |= {"tools": sampling.tools, "tool_choice": sampling.tool_choice or "auto"}
    return msgspec.json.encode(body)


def encode_messages(messages: Sequence[Message], control_tokens: Iterable[str]) -> list[dict[str, Any]]:
    """Messages in vLLM's form, with the control tokens written out in them broken."""
    return [_encode_message(message, control_tokens) for message in messages]


def _encode_message(message: Message, control_tokens: Iterable[str]) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": message.role, "content": defuse(message.content, control_tokens)}
    if message.tool_calls:
        encoded["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": defuse(call.arguments, control_tokens)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        encoded["tool_call_id"] = message.tool_call_id
    return encoded


class AnswerReader:
    """The bytes of one streamed answer -> deltas. The last, with the counts, comes from `finish`."""

    def __init__(self, url: str) -> None:
        """Begin.

        Args:
            url: of the server, for what it may have to say.
        """
        self._url = url
        self._rest = b""
        self._held = Delta("")
        self._finish: FinishReason | None = None
        self._usage: _Usage | None = None

    def feed(self, content: bytes) -> list[Delta]:
        """The deltas that these bytes complete.

        Raises:
            EngineDown: the engine has stopped in the middle.
            BadInput: it refuses to go on.
        """
        *lines, self._rest = (self._rest + content if self._rest else content).split(b"\n")
        deltas: list[Delta] = []
        for line in lines:
            if not line.startswith(_DATA):
                continue
            data = line[len(_DATA) :]
            if data.startswith(_DONE):
                break
            deltas += self._take_frame(data)
        return deltas

    def finish(self, engine_seconds: float) -> Delta:
        """The last delta.

        Raises:
            EngineDown: the answer was cut off before its end.
        """
        usage = self._usage
        if self._finish is None or usage is None:
            raise EngineDown(f"the vLLM server at {self._url} broke off in the middle of an answer")
        details = usage.prompt_tokens_details
        return Delta(
            self._held.text,
            self._finish,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=(details.cached_tokens or 0) if details is not None else 0,
            logprobs=self._held.logprobs,
            tool_calls=self._held.tool_calls,
            engine_seconds=engine_seconds,
        )

    def _take_frame(self, data: bytes) -> list[Delta]:
        frame = self._read(data)
        if frame.usage is not None:
            self._usage = frame.usage
        deltas = map(self._take, frame.choices)
        return [delta for delta in deltas if delta is not None]

    def _read(self, data: bytes) -> _Frame:
        try:
            frame = _decode(data)
        except msgspec.DecodeError as error:
            raise EngineDown(f"the vLLM server at {self._url} sent what is no chunk of an answer: {error}") from error
        if frame.error is not None:
            raise to_error(frame.error, self._url)
        return frame

    def _take(self, choice: _Choice) -> Delta | None:
        piece = choice.delta or choice.message or _Piece()
        delta = Delta(
            piece.content or "",
            logprobs=_to_logprobs(choice.logprobs) if choice.logprobs is not None else (),
            tool_calls=tuple(map(_to_call, range(len(piece.tool_calls)), piece.tool_calls)) if piece.tool_calls else (),
        )
        if choice.finish_reason is None:
            return delta if delta.text or delta.tool_calls or delta.logprobs else None
        if choice.finish_reason not in _FINISH:
            raise EngineDown(f"the vLLM server at {self._url} ended an answer with {choice.finish_reason!r}")
        self._finish, self._held = _FINISH[choice.finish_reason], delta
        return None


class WholeReader(AnswerReader):
    """The bytes of an answer that comes in one piece -> one delta, from `finish`."""

    def feed(self, content: bytes) -> list[Delta]:
        """Keep the bytes."""
        self._rest += content
        return []

    def finish(self, engine_seconds: float) -> Delta:
        """The whole answer.

        Raises:
            EngineDown: it was cut off before its end.
        """
        self._take_frame(self._rest)
        return super().finish(engine_seconds)


def _to_call(place: int, call: _Call) -> ToolCallPiece:
    function = call.function or _Function()
    return ToolCallPiece(
        place if call.index is None else call.index, call.id or "", function.name or "", function.arguments or ""
    )


def _to_logprobs(logprobs: _Logprobs) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(one.token, one.logprob, _bytes(one), tuple(map(_plain, sorted(one.top_logprobs, key=_likeliest))))
        for one in logprobs.content or ()
    )


def _likeliest(logprob: _Logprob) -> float:
    return -logprob.logprob  # vLLM puts the chosen token first


def _plain(logprob: _Logprob) -> TokenLogprob:
    return TokenLogprob(logprob.token, logprob.logprob, _bytes(logprob))


def _bytes(logprob: _Logprob) -> tuple[int, ...]:
    return tuple(logprob.token.encode() if logprob.bytes is None else logprob.bytes)
