"""Who asks: the API key behind a request, and what it lets the request see and do.

The middleware that checks keys puts a `Caller` into the request's state; handlers get it as the dependency `caller`.
"""

from typing import Any

from litestar import Request
from msgspec import Struct

from bakeoff.errors import NotAllowed, NotFound
from bakeoff.keys import ApiKey
from retrieval.permissions import caller_groups
from service.answer import EVERY_CALLER

STATE_KEY = "caller"
"""Where a request's state holds its `Caller`."""


class Caller(Struct, frozen=True):
    """Whoever sent a request."""

    key_id: str = ""
    """Id of the API key, and owner of what is made with it; empty where the service asks for no keys."""
    groups: frozenset[str] = EVERY_CALLER
    manages: bool = True
    """Whether it may upload files, fill vector stores and train."""

    def check_manages(self) -> None:
        """Refuse a caller who may only ask.

        Raises:
            NotAllowed: names the command that makes a key that may.
        """
        if not self.manages:
            raise NotAllowed("this key may only ask; a key that may do this is made with: bakeoff keys create --manage")

    def check_owns(self, owner: str, what: str) -> None:
        """Refuse to show a caller what another key made, as if it were not there.

        Raises:
            NotFound: it belongs to another key.
        """
        if self.key_id and owner != self.key_id:
            raise NotFound(f"there is no {what}", param="id")


OPEN = Caller()
"""Every caller of a service that asks for no keys."""


def caller_of(key: ApiKey) -> Caller:
    """Whoever comes with this key."""
    return Caller(key.id, caller_groups(key.groups), key.manages)


async def provide_caller(request: Request[Any, Any, Any]) -> Caller:
    """The dependency `caller`."""
    return caller_in(request)


def caller_in(request: Request[Any, Any, Any]) -> Caller:
    """Whoever sent this request."""
    caller = request.scope.get("state", {}).get(STATE_KEY, OPEN)
    assert isinstance(caller, Caller)
    return caller
