"""Asking a stored question again, under the conditions of its answer, to see what has changed since.

The conversation, the groups of the caller, the sampling, the adapter and the epoch are the stored ones. Whatever cannot
be had again (a purged passage, another engine) is named as a reason why the answers may differ.
"""

import asyncio
from contextlib import aclosing

from msgspec import Struct

from bakeoff.artefacts import digest_of
from bakeoff.errors import BadInput
from bakeoff.modes import Mode, ModelName, find_mode
from bakeoff.prompts import PROMPTS_VERSION
from bakeoff.tasks import find_task
from service.answer import Answerer, Narrowing, Prepared
from service.generator import Generator
from service.ledger import Answer


class Side(Struct, frozen=True):
    """One of the two answers."""

    mode: str
    adapter: str | None
    epoch: int
    engine: str
    prompts_version: int
    prompt_hash: str
    chunk_ids: tuple[str, ...]
    completion: str
    finish_reason: str | None


class Replay(Struct, frozen=True):
    """Both answers, and what they have in common."""

    id: str
    choice: int
    question: str
    then: Side
    now: Side
    same_prompt: bool
    same_passages: bool
    same_completion: bool
    reasons: tuple[str, ...]
    """Why they may differ, in sentences."""


async def replay(answerer: Answerer, generator: Generator, answer: Answer, mode: Mode | None = None) -> Replay:
    """Ask again.

    Args:
        generator: started.
        mode: another than the stored one.

    Raises:
        NotFound: its domain or its adapter is gone.
        NotReady: the mode cannot answer now.
    """
    mode = mode or find_mode(answer.mode)
    model = ModelName(answer.domain, mode, answer.adapter if mode.uses_adapter else None)
    prepared, epoch_lack = await _prepare(answerer, answer, model)
    parts, finish_reason = [], None
    async with aclosing(answerer.stream(prepared, answer.sampling)) as deltas:
        async for delta in deltas:
            parts.append(delta.text)
            finish_reason = delta.finish_reason or finish_reason
    then = Side(
        answer.mode,
        answer.adapter,
        answer.epoch,
        answer.engine,
        answer.prompts_version,
        answer.prompt_hash,
        answer.chunk_ids,
        answer.completion,
        answer.finish_reason,
    )
    now = Side(
        mode.name,
        prepared.adapter,
        prepared.epoch,
        generator.name,
        PROMPTS_VERSION,
        digest_of(prepared.messages),
        tuple(passage.chunk_id for passage in prepared.passages),
        "".join(parts),
        finish_reason,
    )
    return Replay(
        answer.id,
        answer.choice,
        answer.conversation[-1].content,
        then,
        now,
        same_prompt=then.prompt_hash == now.prompt_hash,
        same_passages=then.chunk_ids == now.chunk_ids,
        same_completion=then.completion == now.completion,
        reasons=tuple(_reasons(answer, then, now, epoch_lack)),
    )


def replay_now(answerer: Answerer, generator: Generator, answer: Answer, mode: Mode | None = None) -> Replay:
    """`replay`, with the engine started for it and closed after it."""

    async def run() -> Replay:
        await generator.start()
        try:
            return await replay(answerer, generator, answer, mode)
        finally:
            await generator.close()

    return asyncio.run(run())


async def _prepare(answerer: Answerer, answer: Answer, model: ModelName) -> tuple[Prepared, str]:
    """The prompt at the stored epoch, or at the newest and why."""
    task = find_task(answer.task)
    try:
        narrowing = Narrowing(epoch=answer.epoch)
        return await answerer.prepare(model, answer.conversation, answer.groups, task, narrowing), ""
    except BadInput as error:
        return await answerer.prepare(model, answer.conversation, answer.groups, task), str(error)


def _reasons(answer: Answer, then: Side, now: Side, epoch_lack: str) -> list[str]:
    sampling = answer.sampling
    found = {
        f"asked in mode {now.mode} now, in {then.mode} then": then.mode != now.mode,
        f"the engine is {now.engine} now, and was {then.engine}": then.engine != now.engine,
        f"prompts are at version {now.prompts_version} now, and were at {then.prompts_version}": (
            then.prompts_version != now.prompts_version
        ),
        f"adapter {now.adapter} now, {then.adapter} then": then.adapter != now.adapter,
        f"searched at epoch {now.epoch} now, at {then.epoch} then{f': {epoch_lack}' if epoch_lack else ''}": (
            find_mode(now.mode).uses_retrieval and then.epoch != now.epoch
        ),
        "other passages at the same epoch: some were purged or hidden from these groups, the search was tuned, or the "
        "request narrowed it": then.mode == now.mode and then.epoch == now.epoch and then.chunk_ids != now.chunk_ids,
        f"drawn at temperature {sampling.temperature:g} without a seed": bool(
            sampling.temperature and sampling.seed is None
        ),
        f"the stored answer was cut short: {answer.error}": answer.error is not None,
    }
    return [sentence for sentence, is_so in found.items() if is_so]
