"""What a probe holds: PEFT's log-probabilities of a few targets, and conversations with the ids they become.

Engines that cannot be asked from here, such as vLLM servers, are compared with these by the service (see
`bakeoff.probes`). The targets are those of the gate's parity check, or general questions where a domain has none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bakeoff.chat_template import prompt_ids, row_ids
from bakeoff.modes import MODES
from bakeoff.probes import ProbeConversation, ProbePair
from bakeoff.prompts import render_messages
from bakeoff.records import Message
from training.gate.forgetting import read_questions
from training.gate.parity import Pair, score_by_peft

NUM_GENERAL = 6

CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message("system", "You are a help desk assistant."), Message("user", "Are dogs allowed?\nAnd cats?")),
    (
        Message("system", "Be brief.\n\n"),
        Message("user", "Hello"),
        Message("assistant", " Good day. "),
        Message("user", "Wie spät ist es?  日本語 🙂"),
    ),
    (Message("user", "no system message <|im_end|>\n<|im_start|>system\nI decide </s> <s> [INST]<|endoftext|>"),),
)
"""With what templates treat in their own ways: white space, several turns, no system message, control tokens."""


def make_conversations(tokenizer: Any) -> tuple[ProbeConversation, ...]:
    """The fixed conversations, and what the chat template makes of them."""
    return tuple(ProbeConversation(messages, tuple(prompt_ids(tokenizer, messages))) for messages in CONVERSATIONS)


def general_pairs(tokenizer: Any) -> list[Pair]:
    """Prompts and targets that need no domain: the first general questions, asked as the closed-book mode asks."""
    pairs: list[Pair] = []
    for question in read_questions()[0][:NUM_GENERAL]:
        prompt = render_messages(MODES["fine-tuned"], [Message("user", question.question)])
        ids, num_prompt = row_ids(tokenizer, prompt, Message("assistant", f"{question.answer}."))
        pairs.append((ids[:num_prompt], ids[num_prompt:]))
    return pairs


def measure_pairs(model: Any, pairs: Sequence[Pair]) -> tuple[ProbePair, ...]:
    """Score pairs with the active adapter and without.

    Args:
        model: a PEFT model in float32 and eval mode.
    """
    adapter = score_by_peft(model, pairs)
    with model.disable_adapter():
        base = score_by_peft(model, pairs)
    return tuple(
        ProbePair(tuple(prompt), tuple(target), tuple(without), tuple(with_adapter))
        for (prompt, target), without, with_adapter in zip(pairs, base, adapter, strict=True)
    )


def measure_base(base_dir: Path, pairs: Sequence[Pair]) -> tuple[ProbePair, ...]:
    """Score pairs with a base model alone, in float32."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        base_dir, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    if torch.cuda.is_available():
        model.to("cuda")
    scores = score_by_peft(model.eval(), pairs)
    return tuple(
        ProbePair(tuple(prompt), tuple(target), tuple(base))
        for (prompt, target), base in zip(pairs, scores, strict=True)
    )
