"""A reward model as an artefact: a folder named by its digest, of a kind that no engine serves.

It lies beside the adapters, not among them, and says like them what it came from and which questions it knows.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from bakeoff.artefacts import write_artefact
from bakeoff.errors import NotFound
from bakeoff.prompts import PROMPTS_VERSION
from training.checkpoint import raise_if_full

KIND = "reward-model"
HEAD_FILE = "reward_head.safetensors"
_PACKAGES = ("torch", "transformers", "peft", "bakeoff")


def reward_models_dir(home: Path) -> Path:
    """Where reward models lie, each named by its digest."""
    return home / "reward-models"


def find_reward_model(home: Path, name: str) -> str:
    """Return the whole digest of a reward model, given eight or more digits of it, or its folder.

    Raises:
        NotFound: none, or several, begin so.
    """
    digits = Path(name).name
    parent = reward_models_dir(home)
    found = [folder.name for folder in parent.glob("[0-9a-f]*") if folder.name.startswith(digits)]
    if len(found) != 1:
        raise NotFound(
            f"{len(found)} reward models begin with {digits!r} in {parent}; train one with: bakeoff train preferences "
            "FILE --domain D --method reward"
        )
    return found[0]


def write_reward_model(
    parent: Path, facts: Mapping[str, Any], save: Callable[[Path], None], packages: Sequence[str]
) -> str:
    """Write one reward model's folder, whole or not at all.

    Args:
        facts: of the manifest; prompts version, versions and time are added here.
        save: writes the LoRA and the head into the folder it is given.
        packages: whose versions are recorded beside the usual ones.

    Returns:
        Digest of the reward model.

    Raises:
        BakeoffError: the disk is full.
    """
    manifest = {
        **facts,
        "prompts_version": PROMPTS_VERSION,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in (*_PACKAGES, *packages)},
        },
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        return write_artefact(parent, KIND, msgspec.to_builtins(manifest), save)[0]
    except OSError as error:
        raise_if_full(error, parent)
        raise
