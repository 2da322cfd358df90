"""Messages -> token ids, through the tokenizer's own chat template and nothing else.

Training, the embedded engine and the tests all come here, so that what is served is what was trained.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bakeoff.errors import Mismatch
from bakeoff.records import Message


def load_tokenizer(model_dir: Path) -> Any:
    """Load a Hugging Face tokenizer that carries a chat template, from a local folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_dir, local_files_only=True)


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a prompt that waits for the assistant."""
    return _ids(tokenizer, messages, add_generation_prompt=True)


def row_ids(tokenizer: Any, prompt: Sequence[Message], target: Message) -> tuple[list[int], int]:
    """Token ids of a training row, and how many of them are its prompt.

    Raises:
        ValueError: the prompt's ids are not a prefix of the row's: the model would be trained on a context that
            differs from the one it sees when serving.
    """
    prefix = prompt_ids(tokenizer, prompt)
    row = _ids(tokenizer, [*prompt, target], add_generation_prompt=False)
    if row[: len(prefix)] != prefix:
        raise ValueError(f"chat template skew: the prompt's {len(prefix)} ids are no prefix of the row's {len(row)}")
    end_of_turn = tokenizer.eos_token_id
    if end_of_turn in row[len(prefix) :]:
        while row[-1] != end_of_turn:  # what the template puts after the turn is never generated, so never taught
            row.pop()
    return row, len(prefix)


def _ids(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
    control_tokens = tokenizer.get_added_vocab()
    turns = [{"role": message.role, "content": defuse(message.content, control_tokens)} for message in messages]
    encoded = tokenizer.apply_chat_template(
        turns, tokenize=True, add_generation_prompt=add_generation_prompt, return_dict=True
    )
    return [int(token) for token in encoded["input_ids"]]


def read_control_tokens(model_dir: Path) -> tuple[str, ...]:
    """The tokenizer's added vocabulary by id, as `get_added_vocab` gives it, read from its file alone.

    Raises:
        Mismatch: the folder holds no `tokenizer.json`.
    """
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        raise Mismatch(f"{path} is missing: it names the control tokens that no question may hold")
    found = msgspec.json.decode(path.read_bytes(), type=_TokenizerFile)
    return tuple(token.content for token in sorted(found.added_tokens, key=lambda token: token.id))


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _TokenizerFile(msgspec.Struct):
    added_tokens: list[_AddedToken] = []


def defuse(content: str, control_tokens: Iterable[str]) -> str:
    """Break control tokens written out in a text, so that no question or document can end its own turn."""
    for token in control_tokens:
        if token in content:
            content = content.replace(token, f"{token[0]} {token[1:]}")
    return content
