"""What vLLM answers -> deltas: typed frames, streamed or in one piece."""

import msgspec
from msgspec import Struct

from bakeoff.errors import EngineDown
from bakeoff.records import Delta, FinishReason, TokenLogprob, ToolCallPiece
from service.vllm.refusals import Refusal, to_error

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
