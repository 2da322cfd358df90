"""What single tokens stand for: bytes, for log-probabilities; and the whole vocabulary, for grammars.

GenAI holds an answer to a JSON schema only if it has a tokenizer of its own; the one of transformers is converted once
and kept beside the folded weights.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bakeoff.no_telemetry import TELEMETRY_BLOCKED
from bakeoff.records import TokenLogprob
from service.embedded.manifest import written_at_once

# isort: split
from service.embedded.runtime import ov

logger = logging.getLogger(__name__)
__all__ = ["TELEMETRY_BLOCKED", "LogprobStream", "TokenBytes", "convert_tokenizer"]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def convert_tokenizer(tokenizer: Any, folder: Path) -> Path | None:
    """Write a tokenizer as OpenVINO graphs, unless the folder is there.

    Returns:
        the folder; None for a tokenizer that cannot be converted.
    """
    if folder.is_dir():
        return folder
    import openvino_tokenizers

    try:
        graphs = openvino_tokenizers.convert_tokenizer(tokenizer, with_detokenizer=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine answers without it
        logger.warning("answers cannot be held to a JSON schema: the tokenizer cannot be converted error=%s", error)
        return None
    with written_at_once(folder) as written:
        for graph, name in zip(graphs, ("openvino_tokenizer.xml", "openvino_detokenizer.xml"), strict=True):
            ov.save_model(graph, written / name)
    return folder


class TokenBytes:
    """The UTF-8 bytes of each token, which may be a part of a character."""

    def __init__(self, tokenizer: Any) -> None:
        """Read a tokenizer of transformers."""
        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._alphabet = _byte_alphabet() if "ByteLevel" in repr(getattr(backend, "decoder", None)) else None

    def __call__(self, token: int) -> bytes:
        """Nothing for a special token: texts do not show it."""
        if token in self._special:
            return b""
        piece: str = self._tokenizer.convert_ids_to_tokens(token) or ""
        if self._alphabet is not None and all(character in self._alphabet for character in piece):
            return bytes(self._alphabet[character] for character in piece)
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace("\u2581", " ").encode()


class LogprobStream:
    """Log-probabilities of an answer's tokens, given out with their text: held back, and dropped, with it."""

    def __init__(self, bytes_of: TokenBytes) -> None:
        """Begin."""
        self._bytes_of = bytes_of
        self._waiting: list[TokenLogprob] = []
        self._taken = 0
        self._released = 0

    def feed(self, tokens: Sequence[int], logprobs: Sequence[float], text: str) -> tuple[TokenLogprob, ...]:
        """Take tokens and the text that has become certain; give those of its tokens that were not given yet."""
        for token, logprob in zip(tokens, logprobs, strict=True):
            shown = self._bytes_of(token)
            self._waiting.append(TokenLogprob(shown.decode(errors="replace"), logprob, tuple(shown)))
        self._released += len(text.encode())
        ready = []
        while self._waiting and (self._taken < self._released or not self._waiting[0].bytes):
            token_logprob = self._waiting.pop(0)
            self._taken += len(token_logprob.bytes)
            if token_logprob.bytes:
                ready.append(token_logprob)
        return tuple(ready)


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level tokenizers write bytes as."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("\xa1"), ord("\xac") + 1), *range(ord("\xae"), ord("\xff") + 1)]
    alphabet = {chr(byte): byte for byte in shown}
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return alphabet | {chr(256 + number): byte for number, byte in enumerate(hidden)}
