"""Who may come in: the key of a request, or the rules of a service that has no keys.

Without any key the service is open, to this machine: a request has to name it by a loopback name, so that no web page
can reach it under a name of its own (DNS rebinding). With keys each request brings one, as `Authorization: Bearer` or,
from the web page, in a cookie. What a browser sends by itself, a cookie or nothing at all, must not let another site's
page change anything: such a request has to come from this origin.
"""

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from msgspec import Struct

from bakeoff.errors import BadKey, NotAllowed
from service.callers import OPEN, Caller
from service.edge.key_ring import Entry, KeyRing

COOKIE = "bakeoff_key"
SIGN_IN = "/sign-in"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_OUT = "/sign-out"
_OPEN_PATHS = ("/health/", "/static/", SIGN_IN, SIGN_OUT)
_MANAGED_PATHS = ("/metrics", "/schema")
_MAKE_KEY = "make one with: bakeoff keys create NAME"

Headers = dict[bytes, bytes]
"""Lower-case names; of a name that comes twice, the last."""


class Visitor(Struct, frozen=True):
    """Who was let in."""

    caller: Caller = OPEN
    requests_per_minute: int | None = None


_ANYONE = Visitor()


class Gatekeeper:
    """Lets requests in, or says why not."""

    def __init__(self, ring: KeyRing, *, token: str = "", open_metrics: bool = False) -> None:
        """Open by these keys.

        Args:
            token: one more secret that opens everything, for the process that started this service.
            open_metrics: whether numbers and API description are shown to everyone.
        """
        self._ring = ring
        self._token = token.encode()
        self._managed = () if open_metrics else _MANAGED_PATHS
        self._open = (*_OPEN_PATHS, *(_MANAGED_PATHS if open_metrics else ()))

    async def admit(self, method: str, path: str, headers: Headers) -> Visitor:
        """Let a request in.

        Raises:
            BadKey: a key is asked for, and this request brings none that is valid.
            NotAllowed: its key does not reach so far, or another site's page sent it.
            SQLAlchemyError: the keys cannot be read.
        """
        bearer = headers.get(b"authorization")
        if path.startswith(self._open):
            return _ANYONE
        await self._ring.refresh()
        if bearer is None and method not in SAFE_METHODS and not is_same_origin(headers):
            raise NotAllowed("a page of another site sent this; send the key as a header, Authorization: Bearer KEY")
        if self._ring.is_empty:
            if not _names_loopback(headers.get(b"host", b"")):
                raise NotAllowed(
                    "without keys the service answers on 127.0.0.1 and localhost only; "
                    "to reach it by another name, make a key: bakeoff keys create NAME"
                )
            return _ANYONE
        secret = read_bearer(bearer) if bearer is not None else read_cookie(headers)
        if self._token and hmac.compare_digest(secret.encode(), self._token):
            return _ANYONE
        visitor = self.visitor_of(secret)
        if path.startswith(self._managed) and not visitor.caller.manages:
            visitor.caller.check_manages()
        return visitor

    def visitor_of(self, secret: str) -> Visitor:
        """Who comes with this key, after a `refresh` of the ring.

        Raises:
            BadKey: nobody; without a word on whether it was valid once.
        """
        if not secret:
            raise BadKey(f"you sent no API key; send Authorization: Bearer KEY. {_MAKE_KEY.capitalize()}")
        entry: Entry | None = self._ring.find(secret)
        if entry is None:
            raise BadKey(f"this API key does not open the service; {_MAKE_KEY}")
        return Visitor(entry.caller, entry.key.requests_per_minute)

    async def asks_for_keys(self) -> bool:
        """Whether any key was made."""
        await self._ring.refresh()
        return not self._ring.is_empty


def read_bearer(value: bytes) -> str:
    """The key in an Authorization header; empty if it holds none."""
    kind, _, secret = value.decode("latin-1").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


def read_cookie(headers: Headers) -> str:
    """The key that the web page keeps in a cookie; empty if there is none."""
    text = headers.get(b"cookie", b"").decode("latin-1")
    if COOKIE not in text:
        return ""
    try:
        morsel = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that a page of this very service sent the request; or no browser sent it.

    Every browser names the origin of what is not a plain GET. Behind a proxy the scheme may differ; the host may not.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    if origin is None:
        return b"cookie" not in headers
    return urlsplit(origin.decode("latin-1")).netloc.lower() == headers.get(b"host", b"").decode("latin-1").lower()


def _names_loopback(host: bytes) -> bool:
    name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
