"""Compaction: what stands for a long conversation in a short one.

The user's messages stay word for word; what was answered is summarised by the model. Both travel in one item, whose
content the client keeps and sends back as it is. OpenAI encrypts that content; here it is only packed, for it holds
nothing but what the client has seen.
"""

import base64
import binascii

import msgspec
from msgspec import Struct

from bakeoff.errors import BadInput
from bakeoff.records import Message

_FORM = "bakeoff-1:"
_SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool"}


class _Packed(Struct, frozen=True):
    user: list[str]
    summary: str


def pack(messages: list[Message], summary: str) -> str:
    """The content of the item."""
    packed = _Packed([message.content for message in messages if message.role == "user"], summary)
    return _FORM + base64.urlsafe_b64encode(msgspec.json.encode(packed)).decode()


def unpack(content: str) -> list[Message]:
    """The turns that the item stands for.

    Raises:
        BadInput: it was not made here, or was changed.
    """
    try:
        if not content.startswith(_FORM):
            raise ValueError("made elsewhere")
        packed = msgspec.json.decode(base64.urlsafe_b64decode(content.removeprefix(_FORM)), type=_Packed)
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise BadInput(
            "input holds a compaction that was not made by this service; send the turns themselves", param="input"
        ) from error
    summary = Message("system", f"Summary of what was answered so far: {packed.summary}")
    return [*(Message("user", text) for text in packed.user if text.strip()), summary]


def transcribe(messages: list[Message]) -> str:
    """A conversation as one text, to be summarised."""
    turns = [(_SPEAKERS[message.role], message.content) for message in messages if message.role in _SPEAKERS]
    return "\n".join(f"{speaker}: {text}" for speaker, text in turns if text.strip())
