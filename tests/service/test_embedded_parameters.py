"""What the embedded engine says it heeds, heeded by the real model; and what would end it, refused before."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import BadInput
from bakeoff.models import find_model
from bakeoff.records import Delta, Message, Sampling
from bakeoff.settings import Settings
from service.embedded.generator import EmbeddedGenerator
from service.embedded.json_schemas import check_schema

QUESTION = [Message("user", "Name three colours of the rainbow.")]
GREETING = [Message("user", "Say hi.")]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def generator(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedGenerator]:
    settings = Settings()
    cache_dir = tmp_path_factory.mktemp("engines")
    generator = EmbeddedGenerator(
        find_model(settings), settings.models / "engines", cache_dir, lambda digest: Path(digest), threads=1
    )
    await generator.start()
    yield generator
    await generator.close()


async def ask(generator: EmbeddedGenerator, messages: list[Message] = QUESTION, **sampling: Any) -> list[Delta]:
    stream = generator.stream(messages, None, Sampling(**{"max_tokens": 24, **sampling}))
    return [delta async for delta in stream]


def join(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@pytest.mark.anyio
async def test_every_parameter_that_it_names_changes_the_answer(generator: EmbeddedGenerator) -> None:
    plain, greeting = join(await ask(generator)), await ask(generator, GREETING, max_tokens=40)
    wild = {"temperature": 2.0, "seed": 1}
    assert greeting[-1].finish_reason == "stop"
    changed = {
        "frequency_penalty": join(await ask(generator, presence_penalty=0, frequency_penalty=-2)) != plain,
        "presence_penalty": join(await ask(generator, presence_penalty=-2)) != plain,
        "repetition_penalty": join(await ask(generator, extras={"repetition_penalty": 1.9})) != plain,
        "top_k": join(await ask(generator, **wild, extras={"top_k": 1})) == plain != join(await ask(generator, **wild)),
        "min_p": join(await ask(generator, **wild, extras={"min_p": 1.0})) == plain,
        "min_tokens": (await ask(generator, GREETING, max_tokens=40, extras={"min_tokens": 40}))[-1].finish_reason
        == "length",
        "ignore_eos": (await ask(generator, GREETING, max_tokens=40, extras={"ignore_eos": True}))[-1].finish_reason
        == "length",
        "stop_token_ids": (await ask(generator, extras={"stop_token_ids": generator.tokenize_text(",")}))[
            -1
        ].finish_reason
        == "stop",
        "logprobs": bool((await ask(generator, top_logprobs=0))[0].logprobs),
        "response_format": join(await ask(generator, json_schema={"type": "integer", "maximum": 9, "minimum": 0}))
        in set("0123456789"),
    }
    assert {name for name, has_changed in changed.items() if has_changed} == set(changed) == generator.supports
    assert join(await ask(generator)) == plain, "and only for the request that asked"


@pytest.mark.anyio
@pytest.mark.parametrize("messages", [QUESTION, [Message("user", "Write three emoji faces: \U0001f600")]])
async def test_log_probabilities_are_those_of_the_text(generator: EmbeddedGenerator, messages: list[Message]) -> None:
    deltas = await ask(generator, messages, top_logprobs=0)
    tokens = [token for delta in deltas for token in delta.logprobs]
    assert b"".join(bytes(token.bytes) for token in tokens).decode(errors="ignore") == join(deltas)
    assert len(tokens) <= deltas[-1].completion_tokens
    wanted = await generator.score([(messages, generator.tokenize_text(join(deltas)))], None)
    compared = [(token.logprob, score) for token, score in zip(tokens, wanted[0], strict=False)][:8]
    assert all(math.isclose(logprob, score, abs_tol=0.02) for logprob, score in compared), compared


@pytest.mark.anyio
async def test_text_behind_a_stop_string_has_no_log_probabilities(generator: EmbeddedGenerator) -> None:
    deltas = await ask(generator, top_logprobs=0, stop=(" sight",))
    assert "".join(token.token for delta in deltas for token in delta.logprobs) == join(deltas)


@pytest.mark.anyio
async def test_an_answer_fits_its_schema_also_beside_others(generator: EmbeddedGenerator) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"colours": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2}},
        "required": ["colours"],
        "additionalProperties": False,
    }
    plain = join(await ask(generator))
    formed, beside = await asyncio.gather(ask(generator, json_schema=schema, max_tokens=60), ask(generator))
    assert set(json.loads(join(formed))["colours"]) <= {"red", "blue"}
    assert join(beside) == plain


@pytest.mark.anyio
async def test_engine_seconds_are_shared_out_among_the_requests_of_a_batch(generator: EmbeddedGenerator) -> None:
    start = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(ask(generator) for _ in range(4)))
    elapsed = asyncio.get_running_loop().time() - start
    shares = [deltas[-1].engine_seconds for deltas in answers]
    assert all(share > 0 for share in shares)
    assert elapsed / 10 < sum(shares) <= elapsed


@pytest.mark.anyio
async def test_what_it_does_not_take_is_refused_and_nobody_else_notices(generator: EmbeddedGenerator) -> None:
    beside = asyncio.create_task(ask(generator))
    await asyncio.sleep(0.1)
    for sampling, param in (
        ({"json_schema": {"type": "nonsense"}}, "response_format"),
        ({"extras": {"min_tokens": 25}}, "min_tokens"),
        ({"frequency_penalty": 3.0}, None),
        ({"extras": {"top_k": -5}, "temperature": 1.0}, None),
    ):
        with pytest.raises(BadInput) as caught:
            await ask(generator, **sampling)
        assert caught.value.param == param
    assert len(join(await beside)) > 20


_TREE = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}
GOOD_SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": ["string", "null"], "maxLength": 1000},
    {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
    {"type": "number", "exclusiveMinimum": -0.5, "maximum": 1e15},
    {"$ref": "#/$defs/t", "$defs": {"t": _TREE}},
    {"anyOf": [{"const": 'é"\\\n'}, {"enum": [None, 1.5, {"a": [True]}]}]},
    {"type": "object", "properties": {"é 日 $x": {"type": "string", "format": "date-time"}}, "required": ["é 日 $x"]},
    {"type": "array", "items": True, "minItems": 1000, "title": "x", "description": "y"},
    {"additionalProperties": {"type": "boolean"}},
]


@pytest.mark.anyio
@pytest.mark.parametrize("schema", GOOD_SCHEMAS, ids=str)
async def test_what_passes_the_check_the_engine_can_compile(
    generator: EmbeddedGenerator, schema: dict[str, Any]
) -> None:
    assert join(await ask(generator, json_schema=schema, max_tokens=3))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nonsense"}, r"\$.type has to be"),
        ({"type": []}, r"\$.type has to be"),
        ({"type": [[]]}, r"\$.type has to be"),
        ({"pattern": "("}, r"\$.pattern is not supported"),
        ({"allOf": [{}]}, r"\$.allOf is not supported"),
        ({"properties": {"a": {"not": {}}}}, r"\$.properties.a.not is not supported"),
        ({"properties": 5}, "has to map names"),
        ({"properties": {'a"': {}}}, "a name with a quote"),
        ({"properties": {"a\\": {}}}, "a name with a quote"),
        ({"required": ["a"]}, "stand under properties"),
        ({"required": "a"}, "stand under properties"),
        ({"items": False}, "is no schema"),
        ({"items": []}, "is no schema"),
        ({"anyOf": []}, "at least one schema"),
        ({"enum": []}, "at least one value"),
        ({"enum": ["x"] * 2000}, "beyond 1000 parts"),
        ({"format": "regex"}, "has to be one of date"),
        ({"minLength": -1}, "from 0 to 1000"),
        ({"maxItems": 1001}, "from 0 to 1000"),
        ({"maxItems": True}, "from 0 to 1000"),
        ({"minLength": 5, "maxLength": 3}, "minLength above maxLength"),
        ({"type": "integer", "minimum": 5, "maximum": 1}, "allows no number"),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "allows no number"),
        ({"type": "integer", "minimum": 0.5}, "an integer within"),
        ({"type": "integer", "minimum": 2**60}, "an integer within"),
        ({"type": "number", "minimum": "1"}, "has to be a number"),
        ({"$ref": "#/nowhere"}, "with such a definition"),
        ({"$ref": "https://example.com/schema"}, "with such a definition"),
        ({"$ref": "#"}, "refers to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "refers to itself"),
        ({"$defs": []}, "has to map names"),
    ],
)
def test_a_schema_that_no_answer_can_be_held_to_is_refused_by_its_place(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        check_schema(schema)
    assert caught.value.param == "response_format"


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"properties": {"a": schema}}
    with pytest.raises(BadInput, match="32 levels"):
        check_schema(schema)
