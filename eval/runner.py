"""Asks every mode every example, one request at a time, and records each answer as it comes.

The modes take turns on each question, so that a machine that slows down slows all of them alike; who goes first
rotates, so that no mode always finds the caches warm. One request at a time keeps the engine's batches, hence greedy
answers, the same from run to run. A failed answer is recorded as failed and asked again by the next run; when the
service itself is gone, the run stops and keeps what it has.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct

from bakeoff.errors import EngineDown, Mismatch
from bakeoff.modes import MODES
from bakeoff.progress import Progress
from bakeoff.prompts import pose_example
from bakeoff.records import Example, Message
from eval.answers import Answer, Key, append_answer, read_answers
from eval.client import Failure, Reply, ask_model
from eval.metrics import example_targets, score_completion

logger = logging.getLogger(__name__)

MAX_OUTAGES = 5
"""Failures in a row, across modes, that look like the service's fault before the run gives up."""
WARM_UP_QUESTION = "Are you ready?"
WARM_UP_TOKENS = 4


class Plan(Struct, frozen=True):
    """What a run asks."""

    domain: str
    models: Mapping[str, Mapping[str, Any]]
    """What the service said of each mode when the run began, in the order of the modes."""
    examples: tuple[Example, ...]
    seed: int
    max_tokens: int


def run_plan(client: httpx.Client, plan: Plan, path: Path, progress: Progress) -> dict[Key, Answer]:
    """Ask what `path` does not hold yet, and return all answers.

    Args:
        client: of the service.
        plan: what to ask.
        path: `answers.jsonl` of the run; made when it is not there.
        progress: told after each answer.

    Raises:
        EngineDown: the service is gone, or fails again and again.
        Mismatch: the adapter or the index changed while the run went on.
    """
    answers = read_answers(path)
    total = len(plan.models) * len(plan.examples)
    pending = [
        (mode, example)
        for mode, example in _take_turns(plan)
        if (answer := answers.get((mode, example.id))) is None or answer.error is not None
    ]
    done = total - len(pending)
    progress(done, total, "answers kept from before" if done else "warming up")
    _warm_up(client, plan, {mode for mode, _ in pending})
    outages = 0
    for mode, example in pending:
        answer, is_outage = _answer(client, plan, mode, example)
        append_answer(path, answer)
        answers[mode, example.id] = answer
        done += 1
        progress(done, total, f"{mode} {example.id}" + (" failed" if answer.error else ""))
        outages = outages + 1 if is_outage else 0
        if outages == MAX_OUTAGES:
            raise EngineDown(
                f"the service at {client.base_url} failed {MAX_OUTAGES} times in a row, last with: {answer.error}. "
                "When it works again, run the same command: what is answered is kept"
            )
    return answers


def _take_turns(plan: Plan) -> Iterator[tuple[str, Example]]:
    modes = list(plan.models)
    for position, example in enumerate(plan.examples):
        start = position % len(modes)
        for mode in modes[start:] + modes[:start]:
            yield mode, example


def _warm_up(client: httpx.Client, plan: Plan, modes: set[str]) -> None:
    """Ask each mode once without a clock: the first request loads weights and fills caches."""
    for mode in (mode for mode in plan.models if mode in modes):
        try:
            ask_model(client, f"{plan.domain}/{mode}", [Message("user", WARM_UP_QUESTION)], WARM_UP_TOKENS, plan.seed)
        except Failure as failure:
            logger.warning("warm-up failed mode=%s error=%s", mode, failure)


def _answer(client: httpx.Client, plan: Plan, mode: str, example: Example) -> tuple[Answer, bool]:
    """One answer, failed or not, and whether the service seems to be at fault."""
    targets = example_targets(example)
    try:
        asked = pose_example(example)
        reply = ask_model(client, f"{plan.domain}/{mode}", asked, plan.max_tokens, plan.seed, example.task)
    except Failure as failure:
        logger.warning("answer failed mode=%s example_id=%s error=%s", mode, example.id, failure)
        failed = Answer(
            mode=mode,
            example_id=example.id,
            question=example.question,
            targets=targets,
            completion="",
            passage_ids=(),
            citations=(),
            scores={},
            latency_ms=None,
            first_token_ms=None,
            prompt_tokens=None,
            completion_tokens=None,
            error=str(failure),
        )
        return failed, failure.is_outage
    _check_unchanged(plan, mode, reply)
    document_ids = None
    if uses_retrieval(mode):
        document_ids = tuple(str(passage.get("document_id")) for passage in reply.passages)
    answer = Answer(
        mode=mode,
        example_id=example.id,
        question=example.question,
        targets=targets,
        completion=reply.text,
        passage_ids=tuple(str(passage.get("chunk_id")) for passage in reply.passages),
        citations=reply.citations,
        scores=score_completion(reply.text, example, document_ids, abstained=reply.abstained),
        latency_ms=reply.latency_ms,
        first_token_ms=reply.first_token_ms,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        document_ids=document_ids,
        evidence=reply.evidence,
        abstained=reply.abstained,
    )
    return answer, False


def uses_retrieval(mode: str) -> bool:
    """Whether recall can be scored for this mode."""
    return mode in MODES and MODES[mode].uses_retrieval


def uses_adapter(mode: str) -> bool:
    """Whether the mode's answers depend on the adapter."""
    return mode in MODES and MODES[mode].uses_adapter


def _check_unchanged(plan: Plan, mode: str, reply: Reply) -> None:
    """Refuse to mix two adapters or two states of the index in one run."""
    for fact, is_used, now in (
        ("adapter", uses_adapter(mode), reply.adapter),
        ("epoch", uses_retrieval(mode), reply.epoch),
    ):
        before = plan.models[mode].get(fact)
        if is_used and before is not None and now is not None and before != now:
            raise Mismatch(
                f"the {fact} of {plan.domain}/{mode} changed from {before} to {now} while the evaluation ran, so its "
                "answers cannot be compared. Run the same command again: it starts a new run"
            )
