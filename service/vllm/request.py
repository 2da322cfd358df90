"""Messages and sampling -> the body of a chat completion, as vLLM reads it.

Control tokens written out in a message are broken, so that no question or document can end its own turn.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from bakeoff.chat_template import defuse
from bakeoff.records import Message, Sampling

EXTRAS = frozenset(
    {
        "allowed_token_ids",
        "bad_words",
        "ignore_eos",
        "include_stop_str_in_output",
        "min_p",
        "min_tokens",
        "repetition_detection",
        "repetition_penalty",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop_token_ids",
        "structured_outputs",
        "thinking_token_budget",
        "top_k",
    }
)
"""Sampling parameters of vLLM that clients may send by name. It ignores what it does not know, so no others pass."""

NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Said with every request: vLLM would take what is missing from the model's generation config."""


def encode_request(
    messages: Sequence[Message],
    model: str,
    sampling: Sampling,
    cache_salt: str,
    control_tokens: Iterable[str],
    *,
    is_streamed: bool = True,
) -> bytes:
    """The body of a chat completion.

    Args:
        messages: as rendered; control tokens written out in them are broken, as everywhere.
        model: vLLM's name of the base model, or an adapter's digest.
        sampling: greedy at temperature 0.
        cache_salt: of the prefix cache.
        control_tokens: of the base model's tokenizer.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [_encode_message(message, control_tokens) for message in messages],
        "max_completion_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "cache_salt": cache_salt,
        **NEUTRAL,
        **sampling.extras,
    }
    if is_streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.logit_bias:
        body["logit_bias"] = sampling.logit_bias
    if sampling.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    if sampling.json_schema is not None:
        schema = {"name": "answer", "schema": sampling.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if sampling.tools:
        body |= {"tools": sampling.tools, "tool_choice": sampling.tool_choice or "auto"}
    return msgspec.json.encode(body)


def encode_messages(messages: Sequence[Message], control_tokens: Iterable[str]) -> list[dict[str, Any]]:
    """Messages in vLLM's form, with the control tokens written out in them broken."""
    return [_encode_message(message, control_tokens) for message in messages]


def _encode_message(message: Message, control_tokens: Iterable[str]) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": message.role, "content": defuse(message.content, control_tokens)}
    if message.tool_calls:
        encoded["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": defuse(call.arguments, control_tokens)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        encoded["tool_call_id"] = message.tool_call_id
    return encoded
