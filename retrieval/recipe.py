"""Folder of a sentence-transformers model -> what its files say about the way from text to vector.

Only plain encoders are read: a Transformer, mean or CLS pooling, perhaps normalisation, no prompt. Everything else is
`Unsupported`, with the reason. No weights are opened, and neither torch nor OpenVINO is loaded.
"""

import json
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

Pooling = Literal["mean", "cls"]


class Unsupported(Exception):
    """This model cannot be embedded by the graph; says why."""


class Recipe(Struct, frozen=True):
    """What the files of the model say about its way from text to vector."""

    encoder_dir: Path
    """Hugging Face folder of the encoder and its tokenizer."""
    pooling: Pooling
    dim: int
    max_tokens: int
    """Longest text it reads whole, special tokens included."""
    pad_id: int


def read_recipe(model_dir: Path) -> Recipe:
    """Read what kind of sentence-transformers model the folder holds; opens no weights.

    Raises:
        Unsupported: it is not an encoder with mean or CLS pooling over safetensors and a fast tokenizer.
    """
    try:
        return _read_recipe(model_dir)
    except (KeyError, IndexError, TypeError, AttributeError, OSError, ValueError) as error:
        raise Unsupported(f"its files cannot be read: {type(error).__name__}: {error}") from error


def open_tokenizer(recipe: Recipe, *, truncates: bool) -> Any:
    """Open the fast tokenizer, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(recipe.encoder_dir / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if truncates:
        tokenizer.enable_truncation(recipe.max_tokens)
    return tokenizer


def _read_recipe(model_dir: Path) -> Recipe:
    modules = _read_json(model_dir / "modules.json")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise Unsupported(f"its modules are {', '.join(kinds)}, not Transformer, Pooling and perhaps Normalize")
    encoder_dir = model_dir / modules[0]["path"]
    for name in ("model.safetensors", "tokenizer.json"):
        if not (encoder_dir / name).is_file():
            raise Unsupported(f"it has no {name}")
    if (model_dir / "config_sentence_transformers.json").is_file():
        prompt = _read_json(model_dir / "config_sentence_transformers.json").get("default_prompt_name")
        if prompt:
            raise Unsupported(f"it puts the prompt {prompt!r} before every text")
    pooling = _read_json(model_dir / modules[1]["path"] / "config.json")
    config = _read_json(encoder_dir / "config.json")
    window = _read_json(encoder_dir / "sentence_bert_config.json").get("max_seq_length")
    return Recipe(
        encoder_dir,
        _read_pooling(pooling),
        int(pooling.get("embedding_dimension") or pooling["word_embedding_dimension"]),
        int(window or config["max_position_embeddings"]),
        int(config.get("pad_token_id") or 0),
    )


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _read_pooling(config: dict[str, Any]) -> Pooling:
    old = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    modes = [config["pooling_mode"]] if config.get("pooling_mode") else []
    modes = modes or [old.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on]
    match modes:
        case ["mean" | "cls" as pooling]:
            return pooling  # type: ignore[no-any-return]
    raise Unsupported(f"its pooling is {modes}, neither mean nor cls")
