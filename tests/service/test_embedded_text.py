"""What leaves the engine as text: whole characters, and nothing of a stop string."""

from collections.abc import Sequence

from bakeoff.chat_template import load_tokenizer
from service.embedded.prefixes import PrefixLedger
from service.embedded.text import TextStream

BLOCK = 32


def decode_bytes(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode("utf-8", errors="replace")


def feed_each(stream: TextStream, tokens: Sequence[int]) -> list[str]:
    return [stream.feed([token]) for token in tokens] + [stream.finish()]


def test_a_character_of_several_tokens_arrives_whole():
    pieces = feed_each(TextStream(decode_bytes), "a😀é".encode())
    assert [piece for piece in pieces if piece] == ["a", "😀", "é"]


def test_a_character_that_never_became_whole_is_left_out():
    assert feed_each(TextStream(decode_bytes), "ok😀".encode()[:-1]) == ["o", "k", "", "", "", ""]


def test_a_stop_string_is_never_given_out_though_it_spans_tokens():
    stream = TextStream(decode_bytes, ["END"])
    assert "".join(feed_each(stream, b"one ENE ENDing")) == "one ENE "
    assert stream.is_stopped
    assert stream.num_tokens == len(b"one ENE END")


def test_text_that_only_looked_like_a_stop_string_is_given_out_at_the_end():
    stream = TextStream(decode_bytes, ["\n\nUser:", ""])
    assert "".join(feed_each(stream, b"fine\n\nUse")) == "fine\n\nUse"
    assert not stream.is_stopped


def test_the_first_stop_string_of_several_ends_the_text():
    assert "".join(feed_each(TextStream(decode_bytes, ["bb", "a"]), b"xxabb")) == "xx"


def test_text_is_the_same_as_decoding_all_tokens_at_once(model_dir):
    tokenizer = load_tokenizer(model_dir)
    text = "Zürich 😀👨‍👩‍👧 naïve 中文字, it's  two spaces\n\n\tand a tab. ¡Olé! נִקּוּד"
    tokens = tokenizer(text)["input_ids"]
    pieces = feed_each(TextStream(lambda ids: tokenizer.decode(ids, skip_special_tokens=True)), tokens)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_prefix_counts_as_cached_only_in_whole_blocks_and_never_to_the_last_token():
    ledger = PrefixLedger(num_blocks=200)
    tokens = list(range(3 * BLOCK))
    assert ledger.count_cached(tokens) == 0
    ledger.record(tokens)
    assert ledger.count_cached(tokens) == 2 * BLOCK
    assert ledger.count_cached([*tokens, 5]) == 3 * BLOCK
    assert ledger.count_cached([*tokens[:40], *range(900, 950)]) == BLOCK
    assert ledger.count_cached([7, *tokens]) == 0


def test_blocks_that_the_pipeline_may_have_overwritten_are_not_counted():
    ledger = PrefixLedger(num_blocks=66)
    ledger.record([1] * BLOCK)
    ledger.record([2] * (2 * BLOCK))
    assert ledger.count_cached([1] * (BLOCK + 1)) == 0
    assert ledger.count_cached([2] * (2 * BLOCK + 1)) == 2 * BLOCK
