"""An adapter as an artefact: weights as PEFT writes them, the chat template, and a manifest that says where it is from.

Every way of training ends here, so that every adapter can be read, checked and served alike.
"""

import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bakeoff.adapter_files import KIND, TEMPLATE_FILE
from bakeoff.artefacts import write_artefact
from bakeoff.prompts import PROMPTS_VERSION
from training.checkpoint import raise_if_full

_PACKAGES = ("torch", "transformers", "peft", "bakeoff")


def write_adapter(
    adapters_dir: Path,
    facts: Mapping[str, Any],
    *,
    chat_template: str,
    save: Callable[[Path], None],
    packages: tuple[str, ...] = (),
) -> str:
    """Write one adapter folder, whole or not at all.

    Args:
        adapters_dir: the folder is made in here, named by its digest.
        facts: of the manifest; has to hold `domain`, `method`, `base_model`, `base_sha256`, `seed` and `lineage`
            ({"documents": [...], "examples": [...]}: everything it learned from, directly or through what it was
            started from). Prompts version, versions and time are added here.
        chat_template: as the base model's tokenizer carries it.
        save: writes `adapter_model.safetensors` and `adapter_config.json` into the folder it is given.
        packages: whose versions are recorded beside the usual ones.

    Returns:
        Digest of the adapter.

    Raises:
        BakeoffError: the disk is full.
    """
    missing = {"domain", "method", "base_model", "base_sha256", "seed", "lineage"} - facts.keys()
    assert not missing, f"an adapter's manifest lacks {missing}"

    def fill(folder: Path) -> None:
        save(folder)
        (folder / TEMPLATE_FILE).write_text(chat_template, encoding="utf-8")

    versions = {package: importlib.metadata.version(package) for package in (*_PACKAGES, *packages)}
    manifest = {
        **facts,
        "prompts_version": PROMPTS_VERSION,
        "versions": {"python": platform.python_version(), **versions},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        digest, _ = write_artefact(adapters_dir, KIND, msgspec.to_builtins(manifest), fill)
    except OSError as error:
        raise_if_full(error, adapters_dir)
        raise
    return digest
