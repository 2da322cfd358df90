"""What vLLM says when it will not or cannot answer -> our errors."""

import re

import msgspec
from msgspec import Struct

from bakeoff.errors import BadInput, BakeoffError, ContextTooLong, EngineDown

BAD_REQUEST = 400
NOT_FOUND = 404
TOO_MANY = 429
SERVER_ERROR = 500

_TOO_LONG = re.compile(
    r"maximum context length|cannot be greater than max_model_len|longer than the maximum model length"
)
_SUFFIX = re.compile(r" \(parameter=[^)]*\)$")
_PARAMS = {"input_text": "messages", "input_tokens": "messages", "max_completion_tokens": "max_tokens"}
"""vLLM's names of parameters that our clients know by another."""


class Refusal(Struct, frozen=True):
    """The `error` of vLLM's error body, and of an error frame inside a stream."""

    message: str = ""
    type: str = ""
    param: str | None = None
    code: int = 0


class _Body(Struct, frozen=True):
    error: Refusal | None = None
    detail: object = None


class ModelLost(EngineDown):
    """The server does not know the model it was asked for: it was started anew."""


_decoder = msgspec.json.Decoder(_Body)


def read_refusal(status: int, content: bytes) -> Refusal:
    """The words of vLLM; or the body as it is, where something in between has answered."""
    try:
        body = _decoder.decode(content)
    except msgspec.DecodeError:
        body = _Body()
    message = content[:200].decode(errors="replace") if body.detail is None else str(body.detail)
    found = body.error or Refusal(message.strip() or "no word")
    return found if found.code else msgspec.structs.replace(found, code=status)


def to_error(refusal: Refusal, url: str) -> BakeoffError:
    """The error to raise for a refusal."""
    message = _SUFFIX.sub("", refusal.message)
    param = _PARAMS.get(refusal.param or "", refusal.param)
    if refusal.code == NOT_FOUND and refusal.param == "model":
        return ModelLost(f"the vLLM server at {url} does not serve it: {message}")
    if _TOO_LONG.search(message):
        return ContextTooLong(message, param=param or "messages")
    if BAD_REQUEST <= refusal.code < SERVER_ERROR and refusal.code not in (401, 403, 404, 408, TOO_MANY):
        return BadInput(message, param=param)
    return EngineDown(f"the vLLM server at {url} cannot answer now ({refusal.code}: {message})")
