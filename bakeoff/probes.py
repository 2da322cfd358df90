"""Probes: what PEFT computes for a few texts, written down for engines that run elsewhere.

A probe of an adapter holds the log-probabilities of a few targets with the adapter and without it; a probe of a base
model those without. Each also holds conversations and the token ids that the chat template makes of them. Whoever
serves the model compares. By how much they may differ is up to them. Training writes, the service reads.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from bakeoff.artefacts import write_json
from bakeoff.errors import Mismatch
from bakeoff.records import Message

BASE = "base"
"""Begins the name of a base model's probe; an adapter's is named by its digest."""


class ProbePair(Struct, frozen=True):
    """A prompt, a target, and how likely PEFT finds it in float32."""

    prompt: tuple[int, ...]
    """Token ids."""
    target: tuple[int, ...]
    """Token ids that follow."""
    base: tuple[float, ...]
    """Natural logarithm of each target token's probability by the base model."""
    adapter: tuple[float, ...] = ()
    """The same with the adapter; empty in a base model's probe."""


class ProbeConversation(Struct, frozen=True):
    """Messages as a client sends them, and the prompt that they become."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    """Token ids by `bakeoff.chat_template.prompt_ids`."""


class Probe(Struct, frozen=True):
    """What an engine has to reproduce."""

    name: str
    base_sha256: str
    """`bakeoff.models.hash_model` of the base model it was measured on."""
    conversations: tuple[ProbeConversation, ...]
    pairs: tuple[ProbePair, ...]


def base_name(base_sha256: str) -> str:
    """Name of a base model's probe."""
    return f"{BASE}-{base_sha256[:16]}"


def probe_path(home: Path, name: str) -> Path:
    """Where a probe lies."""
    return home / "probes" / f"{name}.json"


def write_probe(home: Path, probe: Probe) -> Path:
    """Write a probe, whole or not at all."""
    path = probe_path(home, probe.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, probe)
    return path


def read_probe(home: Path, name: str, base_sha256: str) -> Probe | None:
    """Read a probe; None where there is none yet.

    Raises:
        Mismatch: it does not parse, or was measured on another base model.
    """
    path = probe_path(home, name)
    try:
        probe = msgspec.json.decode(path.read_bytes(), type=Probe)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise Mismatch(f"{path} does not parse ({error}); remove it, it will be made again") from error
    if (probe.name, probe.base_sha256) != (name, base_sha256):
        raise Mismatch(
            f"{path} is of {probe.name} on a base model with sha256 {probe.base_sha256[:12]}, the base model here has "
            f"{base_sha256[:12]}; remove it, it will be made again"
        )
    return probe
