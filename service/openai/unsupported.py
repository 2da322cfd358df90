"""The one place that decides what becomes of a parameter that cannot be heeded: refused by name, never ignored.

A service made with `create_app(..., lenient=True)`, for clients' own test suites, accepts it instead, and names it in
the response header `x-bakeoff-ignored`.
"""

from collections.abc import Iterable
from typing import Any

from litestar import Request

from bakeoff.errors import BadInput

IGNORED_HEADER = "x-bakeoff-ignored"
IGNORED_KEY = "ignored"
"""Where a request's state holds the names of what was ignored, a list of strings."""


def is_lenient(request: Request[Any, Any, Any]) -> bool:
    """Whether the service accepts what it cannot heed."""
    return bool(request.app.state.get("lenient", False))


def refuse(request: Request[Any, Any, Any], names: Iterable[str], why: str = "") -> None:
    """Refuse parameters that would change the answer if they were heeded.

    Args:
        names: of the parameters that the request gives; none is no reason to refuse.
        why: ends the sentence "NAME is not supported".

    Raises:
        BadInput: names the first one, unless the service is lenient.
    """
    given = list(names)
    if not given:
        return
    if not is_lenient(request):
        reason = why or "by this engine; leave it out"
        raise BadInput(f"{given[0]} is not supported {reason}".strip(), param=given[0])
    ignored = request.scope.setdefault("state", {}).setdefault(IGNORED_KEY, [])
    ignored += [name for name in given if name not in ignored]
