"""An answer as the service records it, for tests of what keeps it."""

from typing import Any

from bakeoff.records import Message, Sampling
from service.ledger import Answer, now


def make_answer(**change: Any) -> Answer:
    """An answer in the domain `d`."""
    fields: dict[str, Any] = {
        "id": "chatcmpl-1",
        "choice": 0,
        "created_at": now(),
        "route": "chat.completions",
        "owner": "",
        "domain": "d",
        "mode": "rag",
        "adapter": None,
        "epoch": 1,
        "engine": "scripted:none",
        "prompts_version": 1,
        "prompt_hash": "0" * 16,
        "task": "answer",
        "conversation": (Message("user", "Where is the zebra?"),),
        "groups": frozenset({"everyone"}),
        "chunk_ids": ("c1", "c2"),
        "sampling": Sampling(),
        "completion": "There.",
        "finish_reason": "stop",
        "error": None,
        "abstained": False,
        "evidence": 0.5,
        "prompt_tokens": 3,
        "cached_tokens": 1,
        "completion_tokens": 2,
        "prepare_ms": 1.0,
        "first_token_ms": 2.0,
        "total_ms": 3.0,
        "engine_seconds": 0.5,
        "user": "",
        "metadata": {},
    }
    return Answer(**{**fields, **change})
