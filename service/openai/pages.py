"""Lists in pages: one page of a list of things with ids, by cursor, as every list of the API gives them.

`after` and `before` name a thing that the client has seen; the page is what stands next to it. A cursor that is not in
the list is refused, as OpenAI does: a client that lost its place should hear of it, not start over unknowingly.
"""

from collections.abc import Sequence
from typing import Generic, Literal, Protocol, TypeVar

from msgspec import Struct

from bakeoff.errors import BadInput, NotFound

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

Order = Literal["asc", "desc"]


class Listed(Protocol):
    """What a list holds: anything with an id."""

    @property
    def id(self) -> str:
        """By which a cursor names it."""


Item = TypeVar("Item", bound=Listed)


class Page(Struct, Generic[Item], frozen=True):
    """One page of a list."""

    data: list[Item]
    first_id: str
    """Empty for an empty page: OpenAI's description knows no null here."""
    last_id: str
    has_more: bool
    """Whether the list goes on behind this page (before it, where the page was asked for with `before` alone)."""
    object: Literal["list"] = "list"


def page(
    items: Sequence[Item],
    after: str | None = None,
    before: str | None = None,
    limit: int | None = None,
    order: Order = "desc",
    *,
    default_limit: int = DEFAULT_LIMIT,
    max_limit: int = MAX_LIMIT,
    lenient: bool = False,
) -> Page[Item]:
    """Cut one page out of a list.

    Args:
        items: the whole list, oldest first.
        after: id of the item that the page follows.
        before: id of the item that the page ends before; with it alone, the page is the one next to that item.
        limit: most items wanted; None for `default_limit`.
        order: `desc` puts the newest first.
        lenient: take a limit or a cursor that cannot be used as if it had not been given; for the test harness alone.

    Raises:
        BadInput: a limit out of range.
        NotFound: a cursor that names nothing in the list.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    size = _check_limit(default_limit if limit is None else limit, max_limit, default_limit, lenient=lenient)
    places = {item.id: place for place, item in enumerate(ordered)}
    start = _find(places, after, "after", lenient=lenient)
    end = _find(places, before, "before", lenient=lenient)
    rest = ordered[0 if start is None else start + 1 : end]
    data = rest[-size:] if end is not None and start is None else rest[:size]
    return Page(
        data=data,
        first_id=data[0].id if data else "",
        last_id=data[-1].id if data else "",
        has_more=len(rest) > len(data),
    )


def _check_limit(limit: int, max_limit: int, default_limit: int, *, lenient: bool) -> int:
    if 1 <= limit <= max_limit:
        return limit
    if lenient:
        return default_limit
    raise BadInput(f"limit must be from 1 to {max_limit}, but is {limit}", param="limit")


def _find(places: dict[str, int], cursor: str | None, param: str, *, lenient: bool) -> int | None:
    if cursor is None or (lenient and cursor not in places):
        return None
    if cursor not in places:
        raise NotFound(f"{param}={cursor!r} names nothing in this list; start over without it", param=param)
    return places[cursor]
