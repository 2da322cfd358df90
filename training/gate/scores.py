"""Rows -> how likely a model finds each target, row by row; and several answers to one prompt in one pass.

The loss of a batch is one figure; whoever compares two adapters needs one figure a row, because pairs of rows are far
less noisy than means. Decoding greedily would give a target word for word exactly where every one of its tokens is the
likeliest, so that is read off the same pass instead of generating anything.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from msgspec import Struct
from torch.nn import functional

from training.batches import make_batches
from training.rows import Row

BATCH_TOKENS = 2048
"""Tokens of one pass, padding included."""
PACK_TOKENS = 512
"""Tokens of one packed pass; attention over them costs its square."""

Choice = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Token ids of a prompt, and of each answer that could follow."""


class RowScore(Struct, frozen=True):
    """How a model finds the target of one row."""

    example_id: str
    kind: str
    nats: float
    """Per label token, the lower the likelier."""
    num_labels: int
    is_greedy: bool
    """Whether greedy decoding would give the target, word for word, and then end."""


def score_rows(model: Any, rows: Sequence[Row], batch_tokens: int = BATCH_TOKENS) -> list[RowScore]:
    """Score rows, batched by length; in the order of the rows.

    Args:
        model: a PEFT model; whatever adapter is active counts.
    """
    found: dict[int, RowScore] = {}
    with answering(model):
        for batch in make_batches([len(row.ids) for row in rows], batch_tokens, seed=0):
            chosen = [rows[position] for position in batch]
            ids = torch.zeros(
                len(chosen), len(chosen[0].ids), dtype=torch.long
            )  # the longest row of a batch is its first
            for number, row in enumerate(chosen):
                ids[number, : len(row.ids)] = torch.tensor(row.ids)
            states = _decoder(model)(input_ids=ids.to(model.device), use_cache=False).last_hidden_state
            spans = [slice(row.num_prompt - 1, len(row.ids) - 1) for row in chosen]
            logits = _logits(model, torch.cat([states[number, span] for number, span in enumerate(spans)]))
            labels = torch.tensor([label for row in chosen for label in row.ids[row.num_prompt :]]).to(logits.device)
            nats = functional.cross_entropy(logits, labels, reduction="none")
            is_best = logits.argmax(dim=-1) == labels
            sizes = [len(row.ids) - row.num_prompt for row in chosen]
            parts = zip(batch, chosen, torch.split(nats, sizes), torch.split(is_best, sizes), strict=True)
            for position, row, of_row, best in parts:
                found[position] = RowScore(
                    row.example_id, row.kind, float(of_row.mean()), len(of_row), bool(best.all())
                )
    return [found[position] for position in range(len(rows))]


def score_choices(model: Any, choices: Sequence[Choice], pack_tokens: int = PACK_TOKENS) -> list[list[float]]:
    """Score every answer of every prompt, each as if it alone followed its prompt.

    Answers to one prompt stand one after another, and so do prompts, as many as fit; a mask keeps each answer from
    seeing anything but itself and its prompt, and its positions begin where the prompt ends.

    Returns:
        for each prompt, the log-probability of each answer, in nats, summed over its tokens.
    """
    scores: list[list[float]] = []
    with answering(model):
        for pack in _pack(choices, pack_tokens):
            ids, positions, mask = _lay_out(pack)
            additive = torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~mask, torch.finfo(model.dtype).min)
            states = _decoder(model)(
                input_ids=ids[None].to(model.device),
                position_ids=positions[None].to(model.device),
                attention_mask=additive[None, None].to(model.device),
                use_cache=False,
            ).last_hidden_state[0]
            places, labels, sizes = _find_labels(pack)
            logits = _logits(model, states[places])
            nats = functional.cross_entropy(logits, torch.tensor(labels).to(logits.device), reduction="none")
            sums = iter([-float(of_answer.sum()) for of_answer in torch.split(nats, sizes)])
            scores += [[next(sums) for _ in answers] for _, answers in pack]
    return scores


@contextmanager
def answering(model: Any) -> Iterator[None]:
    """Without dropout and without gradients; the model is left as it was."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def _pack(choices: Sequence[Choice], pack_tokens: int) -> Iterator[list[Choice]]:
    pack: list[Choice] = []
    size = 0
    for choice in choices:
        tokens = len(choice[0]) + sum(len(answer) for answer in choice[1])
        if pack and size + tokens > pack_tokens:
            yield pack
            pack, size = [], 0
        pack.append(choice)
        size += tokens
    if pack:
        yield pack


def _lay_out(pack: Sequence[Choice]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, positions, and who may see whom: (tokens,), (tokens,), (tokens, tokens) bool."""
    ids: list[int] = []
    positions: list[int] = []
    prompt_of: list[int] = []
    """Number of the prompt that a token belongs to."""
    answer_of: list[int] = []
    """Number of the answer, from 1 over the whole pack; 0 for a prompt's own tokens."""
    num_answers = 0
    for number, (prompt, answers) in enumerate(pack):
        ids += prompt
        positions += range(len(prompt))
        answer_of += [0] * len(prompt)
        for answer in answers:
            num_answers += 1
            ids += answer
            positions += range(len(prompt), len(prompt) + len(answer))
            answer_of += [num_answers] * len(answer)
        prompt_of += [number] * (len(ids) - len(prompt_of))
    prompt_ids, answer_ids = torch.tensor(prompt_of), torch.tensor(answer_of)
    is_same_prompt = prompt_ids[:, None] == prompt_ids[None]
    is_visible = (answer_ids[None] == 0) | (answer_ids[:, None] == answer_ids[None])
    is_before = torch.ones(len(ids), len(ids)).tril().bool()
    return torch.tensor(ids), torch.tensor(positions), is_same_prompt & is_visible & is_before


def _find_labels(pack: Sequence[Choice]) -> tuple[list[int], list[int], list[int]]:
    """Where the states stand that predict the answers' tokens, these tokens, and how many each answer has."""
    places: list[int] = []
    start = 0
    for prompt, answers in pack:
        end_of_prompt = start + len(prompt)
        start = end_of_prompt
        for answer in answers:
            places += [end_of_prompt - 1, *range(start, start + len(answer) - 1)]
            start += len(answer)
    all_answers = [answer for _, answers in pack for answer in answers]
    return places, [token for answer in all_answers for token in answer], [len(answer) for answer in all_answers]


def _decoder(model: Any) -> Any:
    return model.get_base_model().get_decoder()


def _logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """(n, words) float32, of flat states."""
    logits: torch.Tensor = model.get_base_model().get_output_embeddings()(states)
    return logits.float()
