"""Before traffic: a server serves our base model, our chat template, and exactly the adapter that was trained.

Each is proved with a probe (`bakeoff.probes`), never believed: the ids that the server's template makes of
conversations are compared with ours, and the log-probabilities that it draws from with PEFT's in float32. An adapter is
compared where PEFT finds it most unlike the base model, so a server that quietly serves the base model cannot pass.
"""

import asyncio
import secrets
from collections.abc import Sequence

from msgspec import Struct

from bakeoff.errors import Mismatch
from bakeoff.probes import Probe, ProbePair
from service.vllm.replica import Replica
from service.vllm.request import encode_messages

MAX_POINTS = 4
"""Tokens whose probability is compared."""
MAX_PROMPT_TOKENS = 200
"""Of the prompts before them together: the CPU build reads about 85 a second where an adapter answers."""
NUM_BESIDE = 2
"""Tokens of the base model that are compared beside them."""
CLEARLY = 3.0
"""Times the tolerance by which an adapter has to differ from the base model."""


class Point(Struct, frozen=True):
    """One token whose probability is compared."""

    prompt: tuple[int, ...]
    token: int
    base: float
    """By PEFT, nats."""
    wanted: float
    """By PEFT, of the model that is asked for, nats."""


class Parity(Struct, frozen=True):
    """How far a server is from PEFT."""

    difference: float
    """Mean over the tokens, nats."""
    from_base: float
    """Mean distance to PEFT's base model, nats."""
    num_tokens: int


def choose_points(pairs: Sequence[ProbePair]) -> list[Point]:
    """The tokens to compare: where adapter and base model differ most, as many as there is room for, at least one."""
    points = []
    for pair in sorted(pairs, key=lambda pair: len(pair.prompt)):
        for place, token in enumerate(pair.target):
            wanted = pair.adapter[place] if pair.adapter else pair.base[place]
            points.append(Point((*pair.prompt, *pair.target[:place]), token, pair.base[place], wanted))
    points.sort(key=lambda point: -abs(point.wanted - point.base))
    chosen: list[Point] = []
    room = MAX_PROMPT_TOKENS
    for point in points:
        if len(chosen) < MAX_POINTS and (not chosen or len(point.prompt) <= room):
            chosen.append(point)
            room -= len(point.prompt)
    return chosen


async def measure(replica: Replica, model: str, points: Sequence[Point]) -> Parity:
    """Ask a server for the log-probability of every point.

    Nothing of it is taken from a prefix cache of before: what counts is the weights that it holds now.
    """
    salt = secrets.token_urlsafe(32)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(replica.score(model, list(point.prompt), point.token, salt)) for point in points]
    served = [task.result() for task in asked]
    count = len(points)
    difference = sum(abs(one - point.wanted) for one, point in zip(served, points, strict=True)) / count
    from_base = sum(abs(one - point.base) for one, point in zip(served, points, strict=True)) / count
    return Parity(difference, from_base, count)


async def check_adapter(replica: Replica, probe: Probe, base_probe: Probe, tolerance: float) -> tuple[Parity, bool]:
    """Refuse a server on which an adapter is not what PEFT computes; see `check_model`.

    The base model is asked in the same breath, so that both are in one batch; nobody's question to it runs meanwhile.

    Returns:
        (how far the adapter is, whether the base model still is what it was beside it).
    """
    async with replica.turns.held():
        if replica.turns.for_ever:
            return await check_model(replica, probe.name, probe, tolerance), False
        points = choose_points(base_probe.pairs)[:NUM_BESIDE]
        beside = asyncio.create_task(measure(replica, replica.base_model, points))
        try:
            parity = await check_model(replica, probe.name, probe, tolerance)
            return parity, (await beside).difference <= tolerance
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)


async def check_model(replica: Replica, model: str, probe: Probe, tolerance: float) -> Parity:
    """Refuse a server on which a model is not what PEFT computes.

    Args:
        model: its name on the server.
        probe: of the base model or an adapter.
        tolerance: mean difference allowed, nats a token.

    Raises:
        Mismatch: says by how much, and what to do.
    """
    points = choose_points(probe.pairs)
    if not points:
        raise Mismatch(f"the probe of {probe.name} holds nothing to compare; remove it, it will be made again")
    try:
        parity = await measure(replica, model, points)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    if not parity.difference <= tolerance:
        raise Mismatch(
            f"the vLLM server at {replica.url} does not serve what was trained: {probe.name} differs from PEFT by "
            f"{parity.difference:.4f} nats a token on {parity.num_tokens} tokens, at most {tolerance:g} allowed. Start "
            "it with the same base model, unquantised; BAKEOFF_VLLM_TOLERANCE is the limit"
        )
    is_adapter = any(pair.adapter for pair in probe.pairs)
    if is_adapter and not parity.from_base > CLEARLY * tolerance:
        raise Mismatch(
            f"adapter {probe.name} cannot be told from the base model on the vLLM server at {replica.url}: they "
            f"differ by {parity.from_base:.4f} nats a token, more than {CLEARLY * tolerance:g} wanted. Train it "
            "longer, or start vLLM with --dtype float32 and lower BAKEOFF_VLLM_TOLERANCE"
        )
    return parity


async def check_template(replica: Replica, model: str, probe: Probe, control_tokens: Sequence[str]) -> None:
    """Refuse a server that writes prompts otherwise than training did.

    Raises:
        Mismatch: names the first difference and what to do.
    """
    for conversation in probe.conversations:
        theirs = await replica.tokenize(model, encode_messages(conversation.messages, control_tokens))
        if tuple(theirs) != conversation.ids:
            pairs = zip(theirs, conversation.ids, strict=False)
            same = min(len(theirs), len(conversation.ids))
            place = next((at for at, (one, other) in enumerate(pairs) if one != other), same)
            ours = list(conversation.ids[place : place + 5])
            raise Mismatch(
                f"the vLLM server at {replica.url} writes prompts with another chat template or tokenizer: from token "
                f"{place} on, {theirs[place : place + 5]} instead of {ours}. Start it "
                "with --chat-template FILE, the chat_template.jinja of the base model's folder"
            )
