"""Which of several servers answers: the least busy, and among those about as busy the one that knows the prompt.

Prompts that begin alike go to the same server while it is not clearly busier, because its prefix cache holds what they
share. Rendezvous hashing decides which: when a server goes or comes, only its own prompts move.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from bakeoff.records import Message

SLACK = 4
"""Requests by which a server may be busier than the least busy one and still be preferred for its cache."""
HEAD_CHARS = 512
"""Characters of a prompt that decide where it goes: what requests of one conversation or one set of shots share."""


class Busy(Protocol):
    """A server that can be chosen."""

    @property
    def url(self) -> str:
        """Its address, by which it is hashed."""
        ...

    @property
    def num_running(self) -> int:
        """Requests of ours that it is answering."""
        ...


Server = TypeVar("Server", bound=Busy)


def prompt_key(messages: Sequence[Message], model: str, salt: str) -> str:
    """What prompts that share a prefix cache have in common."""
    head, room = [model, salt], HEAD_CHARS
    for message in messages:
        head.append(message.content[:room])
        room -= len(message.content)
        if room <= 0:
            break
    return "\0".join(head)


def choose(servers: Sequence[Server], key: str) -> Server:
    """The server for a prompt; there has to be one."""
    if len(servers) == 1:
        return servers[0]
    limit = min(server.num_running for server in servers) + SLACK
    return max((server for server in servers if server.num_running <= limit), key=lambda server: _weight(server, key))


def _weight(server: Busy, key: str) -> bytes:
    return hashlib.blake2b(f"{server.url}\0{key}".encode(errors="replace"), digest_size=8).digest()
