"""How a completion is drawn: the parameters that chat completions, completions and responses have in common.

Beside OpenAI's own, vLLM's sampling parameters are read by their names there. An engine says which of all of them it
heeds (`Generator.supports`); one that it does not heed is refused, unless its value is the one that changes nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import fields

from bakeoff.errors import BadInput

MAX_STOPS = 4
MAX_SEED = 2**31 - 1
"""Engines take 31 bits; another seed is folded into them, so that every one that OpenAI takes is taken."""
MAX_LOGIT_BIAS = 100

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
"""OpenAI's: up to 16 pairs of the caller's own."""
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(gt=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
User = Annotated[str, Meta(max_length=200)]


class EngineExtras(Struct, frozen=True, kw_only=True):
    """vLLM's sampling parameters, as far as an engine may heed them."""

    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    length_penalty: float | None = None
    min_tokens: Annotated[int, Meta(ge=0)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=64)] | None = None
    include_stop_str_in_output: bool | None = None
    bad_words: Annotated[list[str], Meta(max_length=64)] | None = None
    allowed_token_ids: list[Annotated[int, Meta(ge=0)]] | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    structured_outputs: dict[str, Any] | None = None
    repetition_detection: dict[str, Any] | None = None
    thinking_token_budget: Annotated[int, Meta(ge=0)] | None = None


_EXTRAS = tuple(field.name for field in fields(EngineExtras))
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "top_k": (-1, 0),
    "min_p": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "bad_words": ([],),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "structured_outputs": ({},),
}
"""Values that change nothing."""


def read_extras(request: EngineExtras) -> dict[str, Any]:
    """The extras that would change the answer."""
    given = {name: value for name in _EXTRAS if (value := getattr(request, name)) is not None}
    return {name: value for name, value in given.items() if value not in _NEUTRAL.get(name, ())}


def read_stop(stop: str | list[str] | None) -> tuple[str, ...]:
    """The strings that end an answer.

    Raises:
        BadInput: too many, or an empty one.
    """
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > MAX_STOPS or not all(stops):
        raise BadInput(f"stop takes up to {MAX_STOPS} strings, none of them empty", param="stop")
    return tuple(stops)


def read_seed(seed: int | None) -> int | None:
    """The seed, as far as engines can hold it."""
    return None if seed is None else seed & MAX_SEED


def read_logit_bias(bias: dict[str, float] | None) -> dict[str, float]:
    """The biases that change something.

    Raises:
        BadInput: a key that is no token id, or a value beyond -100 to 100.
    """
    found = {token: value for token, value in (bias or {}).items() if value}
    for token, value in found.items():
        if not token.isdecimal() or not token.isascii() or len(token) > 9 or abs(value) > MAX_LOGIT_BIAS:
            raise BadInput(
                f"logit_bias maps token ids to numbers from -{MAX_LOGIT_BIAS} to {MAX_LOGIT_BIAS}, "
                f"not {token[:40]!r} to {value}",
                param="logit_bias",
            )
    return found
