"""PEFT in float32: what an adapter has to say."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from bakeoff.chat_template import load_tokenizer, prompt_ids
from bakeoff.records import Message


class Reference:
    """The base model with adapters on it."""

    def __init__(self, model_dir: Path) -> None:
        torch.set_num_threads(1)
        self.tokenizer = load_tokenizer(model_dir)
        self._base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True)
        self._model: Any = None

    def add(self, folder: Path) -> None:
        if self._model is None:
            self._model = PeftModel.from_pretrained(self._base, str(folder), adapter_name=folder.name).eval()
        else:
            self._model.load_adapter(str(folder), adapter_name=folder.name)

    def greedy(self, adapter: str | None, messages: Sequence[Message], max_tokens: int) -> str:
        """The greedy answer; of the base model without an adapter."""
        ids = torch.tensor([prompt_ids(self.tokenizer, messages)])
        if adapter is not None:
            self._model.set_adapter(adapter)
        with torch.inference_mode(), nullcontext() if adapter is not None else self._model.disable_adapter():
            made = self._model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False
            )
        return str(self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))

    def next_logprob(self, adapter: str, ids: Sequence[int], token: int) -> float:
        """Log-probability of a token after a prompt, nats."""
        self._model.set_adapter(adapter)
        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([list(ids)])).logits[0, -1].float()
        return float(torch.log_softmax(logits, dim=-1)[token])
