"""Which JSON schemas the engine can hold an answer to, checked before it is asked.

GenAI compiles a schema into a grammar in the middle of a step of the whole batch; one that it cannot compile would end
the worker, and everybody's answer with it, and some that it cannot express it ignores. So a schema has to be made of
what is known to work (OpenAI's structured outputs, without `pattern`), and is refused by the place of its first fault.
"""

import math
from collections.abc import Callable
from typing import Any

from bakeoff.errors import BadInput

MAX_DEPTH = 32
MAX_NODES = 1_000
"""Schemas, values and tens of characters or items: compiling takes time, and everybody waits for it."""
MAX_LENGTH = 1_000
MAX_INTEGER = 2**53

_TYPES = {"string", "number", "integer", "boolean", "null", "object", "array"}
_FORMATS = {"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"}
_NOTES = {"title", "description", "default", "examples", "$schema", "$defs", "definitions"}
_RANGES = (("minItems", "maxItems"), ("minLength", "maxLength"))
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def check_schema(schema: dict[str, Any]) -> None:
    """Refuse a schema that the engine cannot hold an answer to.

    Raises:
        BadInput: names the place in the schema.
    """
    _Checker(schema).run()


class _Checker:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._num_nodes = 0
        self._checks: dict[str, Callable[[Any, str, int], None]] = {
            "type": self._check_type,
            "properties": self._check_named,
            "additionalProperties": self._check_at,
            "items": self._check_at,
            "anyOf": self._check_any_of,
            "enum": self._check_enum,
            "const": lambda value, at, depth: self._count(at, depth),
            "format": self._check_format,
            "$ref": self._check_ref,
        }

    def run(self) -> None:
        self._check_at(self._root, "$", 0)
        for group in ("$defs", "definitions"):
            self._check_named(self._root.get(group, {}), f"$.{group}", 0)
        self._check_endless("$", self._root, ())
        for group in ("$defs", "definitions"):
            for name, schema in self._root.get(group, {}).items():
                self._check_endless(f"$.{group}.{name}", schema, ())

    def _check_at(self, schema: Any, at: str, depth: int) -> None:
        self._count(at, depth)
        if isinstance(schema, bool) and (schema or at.endswith("additionalProperties")):
            return
        if not isinstance(schema, dict):
            raise _refuse(at, "is no schema")
        for key, value in schema.items():
            place = f"{at}.{key}"
            if key in self._checks:
                self._checks[key](value, place, depth)
            elif key in _LIMITS:
                _check_limit(value, place, schema)
            elif any(key in pair for pair in _RANGES):
                if not _is_integer(value) or not 0 <= value <= MAX_LENGTH:
                    raise _refuse(place, f"has to be an integer from 0 to {MAX_LENGTH}")
                self._num_nodes += value // 10
            elif key == "required":
                self._check_required(value, place, schema)
            elif key not in _NOTES:
                raise _refuse(place, "is not supported by this engine; leave it out")
        _check_order(schema, at)

    def _count(self, at: str, depth: int) -> None:
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise _refuse(at, f"goes beyond {MAX_NODES} parts or {MAX_DEPTH} levels")

    def _check_type(self, value: Any, at: str, depth: int) -> None:
        names = value if isinstance(value, list) else [value]
        if not names or not all(isinstance(name, str) and name in _TYPES for name in names):
            raise _refuse(at, f"has to be one or more of {', '.join(sorted(_TYPES))}")

    def _check_named(self, value: Any, at: str, depth: int) -> None:
        if not isinstance(value, dict):
            raise _refuse(at, "has to map names to schemas")
        for name, schema in value.items():
            if not name.isprintable() or '"' in name or "\\" in name:
                raise _refuse(at, f"has a name with a quote, a backslash or a control character: {name[:40]!r}")
            self._check_at(schema, f"{at}.{name}", depth + 1)

    def _check_any_of(self, value: Any, at: str, depth: int) -> None:
        if not isinstance(value, list) or not value:
            raise _refuse(at, "has to list at least one schema")
        for number, schema in enumerate(value):
            self._check_at(schema, f"{at}[{number}]", depth + 1)

    def _check_enum(self, value: Any, at: str, depth: int) -> None:
        if not isinstance(value, list) or not value:
            raise _refuse(at, "has to list at least one value")
        for _ in value:
            self._count(at, depth)

    def _check_format(self, value: Any, at: str, depth: int) -> None:
        if not isinstance(value, str) or value not in _FORMATS:
            raise _refuse(at, f"has to be one of {', '.join(sorted(_FORMATS))}")

    def _check_ref(self, value: Any, at: str, depth: int) -> None:
        if self._find(value) is None:
            raise _refuse(at, "has to be # or #/$defs/NAME with such a definition")

    def _check_required(self, value: Any, at: str, schema: dict[str, Any]) -> None:
        known = schema.get("properties")
        if not isinstance(value, list) or not all(
            isinstance(name, str) and isinstance(known, dict) and name in known for name in value
        ):
            raise _refuse(at, "has to list names that stand under properties")

    def _find(self, ref: Any) -> Any:
        if ref == "#":
            return self._root
        parts = ref.split("/") if isinstance(ref, str) else []
        if len(parts) != 3 or parts[0] != "#" or parts[1] not in ("$defs", "definitions"):
            return None
        group = self._root.get(parts[1])
        return group.get(parts[2]) if isinstance(group, dict) else None

    def _check_endless(self, at: str, schema: Any, refs: tuple[str, ...]) -> None:
        """A reference that leads back to itself before a single character is written has no end."""
        if not isinstance(schema, dict):
            return
        ref = schema.get("$ref")
        if ref is not None:
            if ref in refs:
                raise _refuse(at, f"refers to itself through {ref}")
            self._check_endless(at, self._find(ref), (*refs, ref))
        for option in schema.get("anyOf", ()):
            self._check_endless(at, option, refs)


def _check_limit(value: Any, at: str, schema: dict[str, Any]) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refuse(at, "has to be a number")
    is_whole = schema.get("type") != "number"
    if abs(value) > MAX_INTEGER or (is_whole and not _is_integer(value)):
        raise _refuse(at, f"has to be {'an integer' if is_whole else 'a number'} within 2**53")


def _check_order(schema: dict[str, Any], at: str) -> None:
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    is_open = "exclusiveMinimum" in schema or "exclusiveMaximum" in schema
    if low > high or (is_open and high - low < 2):
        raise _refuse(at, "allows no number")
    for least, most in _RANGES:
        if schema.get(least, 0) > schema.get(most, MAX_LENGTH):
            raise _refuse(at, f"has {least} above {most}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse(at: str, why: str) -> BadInput:
    return BadInput(f"response_format: {at[:200]} {why}", param="response_format")
