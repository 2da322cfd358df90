"""What a model writes, and how probable it finds what was written: token ids in and out.

Prompts of different lengths are padded on the left to write after them, and rows on the right to score them, with a
mask both times: neither changes what an unpadded row would give.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from training.preferences.encoding import Answer

_ROWS_AT_ONCE = 16
_TOKENS_AT_ONCE = 8192


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a completion."""
    declared = model.generation_config.eos_token_id
    declared = [declared] if isinstance(declared, int) else list(declared or ())
    return list(dict.fromkeys((int(tokenizer.eos_token_id), *declared)))


def write_completions(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    rows_at_once: int = _ROWS_AT_ONCE,
) -> list[Answer]:
    """Write one completion after each prompt.

    Args:
        temperature: 0 for the most probable token every time.
        seed: of the draws; the same prompts and seed give the same completions.

    Returns:
        The answers, each up to and with its end token; without one where it was cut off at `max_tokens`.
    """
    from transformers import GenerationConfig

    ends = end_ids(model, tokenizer)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    config: Any = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_tokens, eos_token_id=ends, pad_token_id=ends[0], **sampling
    )
    answers: list[Answer] = []
    torch.manual_seed(seed)
    for start in range(0, len(prompts), rows_at_once):
        block = prompts[start : start + rows_at_once]
        longest = max(map(len, block))
        ids = torch.tensor([[ends[0]] * (longest - len(prompt)) + list(prompt) for prompt in block])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in block])
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=config
            )
        for prompt, row in zip(block, written[:, longest:].tolist(), strict=True):
            stop = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
            answers.append(Answer(tuple(prompt), tuple(row[:stop])))
    return answers


def blocks_of(answers: Sequence[Answer]) -> Iterator[Sequence[Answer]]:
    """Cut answers into blocks that are read at a time, each of a bounded number of tokens with its padding."""
    start, longest = 0, 0
    for position, answer in enumerate(answers):
        longest = max(longest, len(answer.ids))
        if position > start and (position - start + 1) * longest > _TOKENS_AT_ONCE:
            yield answers[start:position]
            start, longest = position, len(answer.ids)
    if start < len(answers):
        yield answers[start:]


def forward_answers(
    model: Any, answers: Sequence[Answer], temperature: float = 1.0, width: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute how probable a model finds each token of the completions.

    Logits are computed at the completions only.

    Args:
        temperature: that the completions were drawn with.
        width: least number of tokens of what is returned; the longest completion by default.

    Returns:
        (log-probabilities (n, width) float32, 0 behind the end; mask (n, width), bool; the decoder's states that
        predicted the tokens, (n, width, hidden)).
    """
    device = model.device
    longest = max(len(answer.ids) for answer in answers)
    width = max(width, *(len(answer.completion) for answer in answers))
    ids = torch.zeros(len(answers), longest, dtype=torch.long)
    seen = torch.zeros(len(answers), longest, dtype=torch.long)
    places = torch.zeros(len(answers), width, dtype=torch.long)
    labels = torch.zeros(len(answers), width, dtype=torch.long)
    mask = torch.zeros(len(answers), width, dtype=torch.bool)
    for number, answer in enumerate(answers):
        length = len(answer.completion)
        ids[number, : len(answer.ids)] = torch.tensor(answer.ids)
        seen[number, : len(answer.ids)] = 1
        places[number, :length] = torch.arange(length) + len(answer.prompt) - 1  # the state before a token predicts it
        labels[number, :length] = torch.tensor(answer.completion)
        mask[number, :length] = True
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoded = base.get_decoder()(input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False)
    states = decoded.last_hidden_state
    states = states.gather(1, places.to(device)[:, :, None].expand(-1, -1, states.shape[-1]))
    mask = mask.to(device)
    logits = base.get_output_embeddings()(states[mask]).float() / temperature
    found = torch.log_softmax(logits, dim=-1).gather(1, labels.to(device)[mask][:, None])[:, 0]
    return torch.zeros(mask.shape, device=device).masked_scatter(mask, found), mask, states


def completion_logps(model: Any, answers: Sequence[Answer], *, is_reference: bool = False) -> list[float]:
    """Sum of the log-probabilities of each completion, in nats.

    Args:
        is_reference: whether to leave the fresh LoRA out.
    """
    sums: list[float] = []
    with torch.inference_mode(), model.disable_adapter() if is_reference else nullcontext():
        for block in blocks_of(answers):
            logps, _, _ = forward_answers(model, block)
            sums += logps.sum(1).tolist()
    return sums
