"""The modes, defined once: what a mode puts before the model, and with which weights it answers.

Adding a mode is one entry here; the service lists it, the renderer renders it and eval scores it.
An OpenAI `model` name is `<domain>/<mode>`, optionally pinned: `<domain>/hybrid@<adapter digest>`.
"""

import re

from msgspec import Struct

from bakeoff.errors import BadInput, NotFound

DOMAIN_PATTERN = r"[a-z0-9_-]{1,64}"


class Mode(Struct, frozen=True):
    """One way to answer a question."""

    name: str
    uses_shots: bool = False
    uses_adapter: bool = False
    uses_retrieval: bool = False


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("base"),
        Mode("few-shot", uses_shots=True),
        Mode("fine-tuned", uses_adapter=True),
        Mode("rag", uses_retrieval=True),
        Mode("hybrid", uses_adapter=True, uses_retrieval=True),
    )
}


class ModelName(Struct, frozen=True):
    """What an OpenAI `model` name stands for."""

    domain: str
    mode: Mode
    adapter: str | None = None
    """Digest the caller pinned, or None for the domain's promoted adapter."""

    def __str__(self) -> str:
        return f"{self.domain}/{self.mode.name}" + (f"@{self.adapter}" if self.adapter else "")


def find_mode(name: str) -> Mode:
    """Return the mode of this name.

    Raises:
        NotFound: names the modes there are.
    """
    if name not in MODES:
        raise NotFound(f"mode {name!r} does not exist. Modes: {', '.join(MODES)}")
    return MODES[name]


def parse_model_name(text: str) -> ModelName:
    """Split `<domain>/<mode>[@<adapter digest>]`.

    Raises:
        NotFound: another form, an unknown mode, or a digest on a mode without an adapter.
    """
    match = re.fullmatch(rf"({DOMAIN_PATTERN})/([a-z-]+)(?:@([0-9a-f]{{8,64}}))?", text)
    if match is None:
        raise NotFound(f"model {text!r} does not exist: a model is <domain>/<mode>, for example concierge/rag")
    domain, mode_name, adapter = match.groups()
    mode = find_mode(mode_name)
    if adapter and not mode.uses_adapter:
        raise NotFound(f"model {text!r} does not exist: mode {mode_name} uses no adapter")
    return ModelName(domain, mode, adapter)


def check_domain_name(name: str) -> str:
    """Return the name if it can be a domain's.

    Raises:
        BadInput: it has other characters or another length.
    """
    if not re.fullmatch(DOMAIN_PATTERN, name):
        raise BadInput(f"domain {name!r} is not a name: use 1 to 64 of a-z, 0-9, '-' and '_'", param="domain")
    return name
