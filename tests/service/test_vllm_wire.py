"""What vLLM sends -> deltas: streamed, and in one piece."""

import json
from typing import Any

import pytest

from bakeoff.errors import BadInput, EngineDown
from bakeoff.records import Delta, Message, Sampling, TokenLogprob, ToolCallPiece
from service.vllm.request import encode_request
from service.vllm.wire import AnswerReader, WholeReader

URL = "http://127.0.0.1:9"
USAGE = {"prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 16}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"day": 1}'}}


def whole(choice: dict[str, Any], **facts: Any) -> bytes:
    return json.dumps({"id": "chatcmpl-1", "choices": [{"index": 0, **choice}], "usage": USAGE, **facts}).encode()


def read(content: bytes, step: int = 7) -> Delta:
    """Feed it in small pieces, as a network may bring it."""
    reader = WholeReader(URL)
    for start in range(0, len(content), step):
        assert reader.feed(content[start : start + step]) == []
    return reader.finish(0.5)


def test_a_whole_answer_is_one_delta() -> None:
    logprob = {"token": "Yes", "logprob": -0.1, "bytes": [89, 101, 115], "top_logprobs": []}
    answer = {"message": {"role": "assistant", "content": "Yes."}, "logprobs": {"content": [logprob]}}
    delta = read(whole({**answer, "finish_reason": "stop"}))
    assert delta == Delta(
        "Yes.",
        "stop",
        prompt_tokens=20,
        completion_tokens=3,
        cached_tokens=16,
        logprobs=(TokenLogprob("Yes", -0.1, (89, 101, 115)),),
        engine_seconds=0.5,
    )


def test_calls_of_a_whole_answer_are_numbered_by_their_place() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}
    delta = read(whole({"message": message, "finish_reason": "tool_calls"}))
    assert delta.tool_calls == tuple(
        ToolCallPiece(number, f"call_{number + 1}", "weather", '{"day": 1}') for number in range(2)
    )
    assert (delta.text, delta.finish_reason) == ("", "tool_calls")


@pytest.mark.parametrize("kept", [0, 1, 40, -2])
def test_a_whole_answer_that_is_cut_off_is_not_an_answer(kept: int) -> None:
    content = whole({"message": {"content": "Yes."}, "finish_reason": "stop"})
    with pytest.raises(EngineDown, match=r"127\.0\.0\.1:9"):
        read(content[:kept])


def test_an_error_in_place_of_a_whole_answer_is_told() -> None:
    error = {"message": "top_k must be positive", "type": "BadRequestError", "param": "top_k", "code": 400}
    with pytest.raises(BadInput, match="top_k must be positive"):
        read(json.dumps({"error": error}).encode())


def test_a_stream_and_a_whole_answer_ask_for_the_same() -> None:
    ask = lambda **how: json.loads(
        encode_request([Message("user", "Hi")], "base", Sampling(max_tokens=5), "salt", (), **how)
    )
    streamed, at_once = ask(), ask(is_streamed=False)
    assert streamed.pop("stream") is True
    assert streamed.pop("stream_options") == {"include_usage": True}
    assert streamed == at_once


def test_streamed_pieces_add_up_wherever_the_network_cuts() -> None:
    frames = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("Yes", ", for ", "10 £")]
    frames += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}, {"choices": [], "usage": USAGE}]
    content = b"".join(f"data: {json.dumps(frame, ensure_ascii=False)}\n\n".encode() for frame in frames)
    content += b"data: [DONE]\n\n"
    for step in (1, 5, len(content)):
        reader = AnswerReader(URL)
        pieces = [content[start : start + step] for start in range(0, len(content), step)]
        deltas = [delta for piece in pieces for delta in reader.feed(piece)]
        last = reader.finish(0.0)
        assert "".join(delta.text for delta in (*deltas, last)) == "Yes, for 10 £"
        assert (last.finish_reason, last.completion_tokens) == ("length", 3)
