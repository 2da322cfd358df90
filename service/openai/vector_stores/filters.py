"""Filters over the attributes of files: comparisons, and `and` and `or` of them, nested.

A file that lacks the attribute meets no comparison but `ne` and `nin`. A string is compared with strings and a number
with numbers; true and false are not numbers. Values of different kinds are unequal, and neither is greater.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from bakeoff.errors import BadInput

Value = str | bool | int | float
MAX_DEPTH = 8
MAX_FILTERS = 256

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


class Filter(Struct, frozen=True, forbid_unknown_fields=True):
    """A comparison (`key` and `value`) or a compound (`filters`)."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]
    key: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    value: Value | Annotated[list[Value], Meta(max_length=1000)] | UnsetType = UNSET
    """A list for `in` and `nin`, and for nothing else."""
    filters: "Annotated[list[Filter], Meta(max_length=256)] | UnsetType" = UNSET


def check_filter(given: Filter, param: str = "filters") -> Filter:
    """Return the filter if it can be used.

    Raises:
        BadInput: names the part that cannot.
    """
    for num_filters, (part, name, depth) in enumerate(_walk(given, param, 1), start=1):
        if depth > MAX_DEPTH or num_filters > MAX_FILTERS:
            raise BadInput(f"{param}: at most {MAX_FILTERS} filters, nested {MAX_DEPTH} deep, are taken", param=param)
        is_compound = part.type in ("and", "or")
        if is_compound and (part.filters is UNSET or part.key is not UNSET or part.value is not UNSET):
            raise BadInput(f"{name}: {part.type!r} takes `filters`, and neither `key` nor `value`", param=name)
        if is_compound and not part.filters:
            raise BadInput(f"{name}.filters is empty", param=f"{name}.filters")
        if not is_compound and (part.filters is not UNSET or part.key is UNSET or part.value is UNSET):
            raise BadInput(f"{name}: {part.type!r} takes `key` and `value`, and no `filters`", param=name)
        if not is_compound and isinstance(part.value, list) != (part.type in ("in", "nin")):
            wanted = "a list" if part.type in ("in", "nin") else "one string, number or boolean"
            raise BadInput(f"{name}.value must be {wanted} for {part.type!r}", param=f"{name}.value")
        if part.type in _ORDERS and isinstance(part.value, bool):
            raise BadInput(f"{name}.value: true and false have no order for {part.type!r}", param=f"{name}.value")
    return given


def meets(given: Filter, attributes: Mapping[str, Value]) -> bool:
    """Whether a file with these attributes meets a filter that was checked."""
    if given.type in ("and", "or"):
        assert isinstance(given.filters, list)
        results = (meets(part, attributes) for part in given.filters)
        return all(results) if given.type == "and" else any(results)
    assert isinstance(given.key, str)
    if given.key not in attributes:
        return given.type in ("ne", "nin")
    found = attributes[given.key]
    if isinstance(given.value, list):
        return any(_equal(found, value) for value in given.value) is (given.type == "in")
    if given.type in ("eq", "ne"):
        return _equal(found, given.value) is (given.type == "eq")
    return _kind(found) is _kind(given.value) and _ORDERS[given.type](found, given.value)


def _walk(given: Filter, name: str, depth: int) -> Iterator[tuple[Filter, str, int]]:
    yield given, name, depth
    for place, part in enumerate(given.filters if isinstance(given.filters, list) else ()):
        yield from _walk(part, f"{name}.filters[{place}]", depth + 1)


def _equal(found: Value, value: object) -> bool:
    return _kind(found) is _kind(value) and found == value


def _kind(value: object) -> type:
    """Of values that can be compared with one another."""
    return bool if isinstance(value, bool) else str if isinstance(value, str) else float
