"""OpenAI's published description of its API (`openapi.yml`), as a judge of what a service answers."""

import base64
import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

PATH = Path(__file__).parent / "openapi.yml"
GROUPS = ("chat", "completions", "embeddings", "files", "models", "responses", "fine_tuning/jobs", "vector_stores")
"""Below these addresses is what Bakeoff answers."""
DONE = "[DONE]"
OURS = rf"^/({'|'.join(GROUPS)})(/[^?]*)?$"
"""What the paths of these groups look like."""

Operation = tuple[str, str]
"""Method and path, as in `("get", "/models/{model}")`."""


@cache
def description() -> dict[str, Any]:
    """The whole of it, in the dialect that JSON Schema itself speaks."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    whole: dict[str, Any] = yaml.load(PATH.read_text(), Loader=loader)  # noqa: S506 - both are safe
    _allow_null(whole)
    return whole


@cache
def operations(group: str | None = None) -> frozenset[Operation]:
    """What clients may ask, of one group or of all."""
    wanted = OURS if group is None else rf"^/{group}(/[^?]*)?$"
    return frozenset(
        (method, path)
        for path, item in description()["paths"].items()
        if re.match(wanted, path)
        for method in item.keys() & {"get", "post", "delete"}
    )


def map_discriminators(node: Any, schemas: dict[str, Any]) -> None:
    """Say of each discriminator which of its values stands for which schema, as it is meant.

    Without that it says that the values are names of schemas. They nowhere are, so that every answer would break it.

    Args:
        node: part of a description, changed in place.
        schemas: all of the description's.
    """
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        map_discriminators(child, schemas)
    found = node.get("discriminator") if isinstance(node, dict) else None
    if not isinstance(found, dict) or "mapping" in found or "propertyName" not in found:
        return
    mapping: dict[str, str] = {}
    for branch in [*node.get("oneOf", ()), *node.get("anyOf", ())]:
        schema = schemas.get(branch.get("$ref", "").rpartition("/")[2], {})
        kind = schema.get("properties", {}).get(found["propertyName"], {})
        values = kind.get("enum", [kind["const"]] if "const" in kind else [])
        if not values:
            del node["discriminator"]
            return
        mapping |= dict.fromkeys(values, branch["$ref"])
    found["mapping"] = mapping


def find_operation(method: str, path: str) -> Operation:
    """The operation that an address (without /v1) belongs to, the one with the fewest blanks first."""
    for operation in sorted(operations(), key=lambda each: each[1].count("{")):
        blank = ".+" if operation[1] == "/models/{model}" else "[^/]+"  # a model's name may have a slash
        template = re.sub(r"\\\{\w+\\\}", blank, re.escape(operation[1]))
        if operation[0] == method.lower() and re.fullmatch(template, path):
            return operation
    raise LookupError(f"OpenAI's description has no {method} {path}")


def check_answer(answer: httpx.Response) -> Operation:
    """Hold an answer against the description: status, headers, body, and each event of a stream.

    Returns:
        the operation that it answers.
    """
    answer.read()
    request = answer.request
    operation = find_operation(request.method, request.url.path.removeprefix("/v1"))
    assert answer.headers["x-request-id"]
    assert int(answer.headers["openai-processing-ms"]) >= 0
    if answer.status_code >= 400:
        _validate(answer.json(), {"$ref": "#/components/schemas/ErrorResponse"})
        if described := _content_of(operation, str(answer.status_code)):
            _validate(answer.json(), described["application/json"]["schema"])
        return operation
    assert answer.status_code == 200, answer.status_code
    kind = answer.headers["content-type"].partition(";")[0]
    content = _content_of(operation)
    if kind == "text/event-stream":
        _check_stream(answer.text, operation, content.get(kind, content["application/json"])["schema"])
    elif kind == "application/json" and content:
        body = answer.json()
        if operation[1] == "/embeddings" and b'"base64"' in request.content:  # which the description does not know
            body["data"] = [{**item, "embedding": _floats(item["embedding"])} for item in body["data"]]
        _validate(body, content[kind]["schema"])
    return operation


def events(text: str) -> Iterator[str]:
    """What the events of a stream carry."""
    for event in filter(None, text.replace("\r\n", "\n").split("\n\n")):
        lines = [line for line in event.split("\n") if not line.startswith(":")]
        yield from (line.removeprefix("data: ") for line in lines if line.startswith("data: "))


def _check_stream(text: str, operation: Operation, schema: dict[str, Any]) -> None:
    carried = list(events(text))
    if operation[1].startswith("/responses"):
        schema = {"$ref": "#/components/schemas/ResponseStreamEvent"}
    else:
        assert carried.pop() == DONE
    assert carried
    for event in carried:
        body = json.loads(event)
        if operation[1] == "/completions":  # described whole only; a part of it has no end and no usage yet
            body = {key: value for key, value in body.items() if (key, value) != ("usage", None)}
            for choice in body.get("choices", ()):
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        _validate(body, {"$ref": "#/components/schemas/ErrorResponse"} if "error" in body else schema)


def _floats(coded: str) -> list[float]:
    data = base64.b64decode(coded, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def _content_of(operation: Operation, status: str = "200") -> dict[str, Any]:
    method, path = operation
    content: dict[str, Any] = description()["paths"][path][method]["responses"].get(status, {}).get("content", {})
    return content


def _validate(body: Any, schema: dict[str, Any]) -> None:
    error = best_match(_validator(json.dumps(schema)).iter_errors(body))
    assert error is None, f"{error.json_path}: {error.message}\n{json.dumps(body)[:2000]}"


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": description()["components"]})


def _allow_null(node: Any) -> None:
    """Say `nullable`, which is older than this version of OpenAPI, as JSON Schema does."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _allow_null(child)
    if isinstance(node, dict) and node.get("nullable") is True:
        del node["nullable"]
        bare = dict(node)
        node.clear()
        node["anyOf"] = [bare, {"type": "null"}]
