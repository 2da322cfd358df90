"""The wire forms of OpenAI's older completions. A prompt is a question to the mode that the model names."""

from collections.abc import Set
from typing import Annotated, Any, Literal

from litestar import Request
from msgspec import UNSET, Meta, Struct, UnsetType

from bakeoff.errors import BadInput
from bakeoff.records import Sampling, TokenLogprob
from service.openai.chat.schemas import StreamOptions
from service.openai.evidence import Evidence, Usage
from service.openai.sampling import (
    EngineExtras,
    Penalty,
    Temperature,
    TopP,
    User,
    read_extras,
    read_logit_bias,
    read_seed,
    read_stop,
)
from service.openai.unsupported import refuse

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, of this route."""
MAX_CHOICES = 128
"""Prompts times `n`."""


class CompletionRequest(EngineExtras, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/completions`."""

    model: str
    prompt: str | list[Any] | None
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    max_tokens: int | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    user: User | None = None


class CompletionLogprobs(Struct, frozen=True):
    """Tokens of an answer, or of a chunk of it, field by field."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]
    """Where each token begins in the text, in characters."""


class CompletionChoice(Struct, frozen=True):
    """One of the answers, or the next piece of it."""

    text: str
    index: int
    finish_reason: Literal["stop", "length"] | None
    logprobs: CompletionLogprobs | None = None


class Completion(Struct, frozen=True):
    """Answer of `POST /v1/completions`, and each event of its stream."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str
    usage: Usage | UnsetType | None = UNSET
    bakeoff: list[Evidence] | UnsetType = UNSET
    """How each prompt was answered."""
    object: Literal["text_completion"] = "text_completion"


def read_prompts(request: CompletionRequest) -> list[str]:
    """The prompts.

    Raises:
        BadInput: tokens instead of text, nothing to answer, or more than can be answered at once.
    """
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt or []
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise BadInput("a prompt of token ids is not read here; send text", param="prompt")
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise BadInput("prompt is empty", param="prompt")
    if len(prompts) * (request.n or 1) > MAX_CHOICES:
        raise BadInput(
            f"{len(prompts)} prompts times n of {request.n or 1} are more than {MAX_CHOICES} answers", "prompt"
        )
    return prompts


def to_sampling(request: CompletionRequest, supports: Set[str], http: Request[Any, Any, Any]) -> Sampling:
    """The request's sampling parameters; OpenAI's defaults where it names none.

    Raises:
        BadInput: a parameter out of its range, or one that the engine cannot heed.
    """
    options = request.stream_options
    num_choices = request.n or 1
    extras = read_extras(request)
    logit_bias = read_logit_bias(request.logit_bias) if "logit_bias" in supports else request.logit_bias or {}
    refuse(http, ["best_of"] if request.best_of not in (None, num_choices) else [], f"unless it is n ({num_choices})")
    refuse(http, ["max_tokens"] if (request.max_tokens or 1) < 1 or request.max_tokens == 0 else [], "below 1")
    refuse(http, ["logprobs"] if request.echo and request.logprobs is not None else [], "together with echo")
    asked = {
        "suffix": bool(request.suffix),
        "stream_options.include_obfuscation": options is not None and bool(options.include_obfuscation),
        "logprobs": request.logprobs is not None and "logprobs" not in supports,
        "frequency_penalty": bool(request.frequency_penalty) and "frequency_penalty" not in supports,
        "presence_penalty": bool(request.presence_penalty) and "presence_penalty" not in supports,
        "logit_bias": any(logit_bias.values()) and "logit_bias" not in supports,
        **{name: name not in supports for name in extras},
    }
    lacking = {name for name, is_lacking in asked.items() if is_lacking}
    refuse(http, [name for name in asked if name in lacking])
    if request.logprobs and "top_logprobs" not in supports:
        refuse(http, [] if "logprobs" in lacking else ["logprobs"], "above 0 by this engine")
        lacking.add("top_logprobs")
    top_logprobs = 0 if request.logprobs is not None and "top_logprobs" in lacking else request.logprobs
    return Sampling(
        max_tokens=request.max_tokens if request.max_tokens and request.max_tokens > 0 else DEFAULT_MAX_TOKENS,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=read_seed(request.seed),
        stop=read_stop(request.stop),
        frequency_penalty=0.0 if "frequency_penalty" in lacking else request.frequency_penalty or 0.0,
        presence_penalty=0.0 if "presence_penalty" in lacking else request.presence_penalty or 0.0,
        logit_bias={} if "logit_bias" in lacking else {key: value for key, value in logit_bias.items() if value},
        top_logprobs=None if "logprobs" in lacking or request.echo else top_logprobs,
        extras={name: value for name, value in extras.items() if name not in lacking},
    )


def to_logprobs(tokens: list[TokenLogprob] | tuple[TokenLogprob, ...], start: int) -> CompletionLogprobs:
    """Tokens in OpenAI's older form.

    Args:
        start: where the first one begins in the text, in characters.
    """
    offsets = []
    for token in tokens:
        offsets.append(start)
        start += len(token.token)
    return CompletionLogprobs(
        tokens=[token.token for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[{other.token: other.logprob for other in (*token.alternatives, token)} for token in tokens]
        if any(token.alternatives for token in tokens)
        else None,
        text_offset=offsets,
    )
