"""The one way into the service: every request passes here once, before the router, and every answer on its way out.

In: who is it (key), may they ask now (limits), is there a place at the engine. Out: the headers that OpenAI's clients
read, a line in the log, numbers for Prometheus. All of it is one plain ASGI wrapper without a layer between, as a
gateway is measured by what it adds.
"""

import asyncio
import re
import secrets
import time
from typing import Any, cast

import msgspec
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_408_REQUEST_TIMEOUT
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from bakeoff.errors import BadKey
from service.callers import STATE_KEY
from service.edge.gatekeeper import SIGN_IN, Gatekeeper, Headers
from service.edge.limits import Buckets, Places
from service.edge.metrics import Metrics
from service.edge.request_log import log_request
from service.facts import Facts, open_facts
from service.failures import describe, hint_headers
from service.openai.unsupported import IGNORED_HEADER, IGNORED_KEY

ASKING = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/responses/compact",
        "/v1/responses/input_tokens",
        "/v1/embeddings",
    }
)
"""Routes whose POST takes a place at the engine."""
BODY_WITHIN_S = 30.0
BODY_BYTES_PER_S = 16 * 1024
"""How long a body may take: so many seconds, and more for one that is large, at so many bytes a second."""
_SLASHES = re.compile(r"/+")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_VERSION = (b"openai-version", b"2020-10-01")


class Middleware:
    """Wraps the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        gatekeeper: Gatekeeper,
        places: Places,
        buckets: Buckets,
        metrics: Metrics,
        max_body_bytes: int,
    ) -> None:
        """Put these before the application."""
        self._app = app
        self._gatekeeper = gatekeeper
        self._places = places
        self._buckets = buckets
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if str(scope["type"]) != "http":
            await self._app(scope, receive, send)
            return
        request = cast(HTTPScope, scope)
        started = time.perf_counter()
        headers: Headers = dict(request["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else b"req_" + secrets.token_hex(16).encode()
        facts = Facts(request_id.decode())
        open_facts(facts)
        out = _Out(send, request, facts, request_id, started)
        self._metrics.in_flight.inc()
        try:
            await self._pass(request, headers, _In(receive), out, facts)
        finally:
            self._metrics.in_flight.dec()
            seconds = time.perf_counter() - started
            route = str(request.get("path_template") or "")
            self._metrics.count(facts, route, seconds)
            log_request(facts, request["method"], route, seconds)

    async def _pass(self, scope: HTTPScope, headers: Headers, body: "_In", out: "_Out", facts: Facts) -> None:
        path, method = _as_routed(scope["path"]), scope["method"]
        try:
            visitor = await self._gatekeeper.admit(method, path, headers)
            facts.key_id = visitor.caller.key_id
            scope["state"][STATE_KEY] = visitor.caller
            if visitor.requests_per_minute is not None and path.startswith("/v1/"):
                allowance, refusal = self._buckets.take(facts.key_id, visitor.requests_per_minute)
                out.more_headers += allowance.headers()
                if refusal is not None:
                    raise refusal
            if method != "POST" or path not in ASKING:
                await self._app(scope, body, out)
                return
            await body.read_ahead(self._max_body_bytes)
            has_place = await self._places.enter(body.wait_until_gone)
        except Exception as error:
            if out.has_started:
                raise
            if isinstance(error, BadKey) and _wants_page(method, path, headers):
                await out.redirect(SIGN_IN)
            else:
                await out.refuse(error)
            return
        if not has_place:
            facts.error = "left"
            return
        entered = time.perf_counter()
        try:
            await self._app(scope, body, out)
        finally:
            is_answer = facts.status == 200 and not facts.error
            self._places.leave(time.perf_counter() - entered if is_answer else None)


class _In:
    """Receives a request's body, within its time."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._started = time.monotonic()
        self._ahead: list[Message] = []
        self._num_bytes = 0
        self._is_read = False

    async def __call__(self) -> Any:
        if self._ahead:
            return self._ahead.pop(0)
        return await self._receive() if self._is_read else await self._receive_in_time()

    async def read_ahead(self, max_bytes: int) -> None:
        """Read the body now; one that is too long is left to the router, which refuses it."""
        while not self._is_read and self._num_bytes <= max_bytes:
            self._ahead.append(await self._receive_in_time())

    async def wait_until_gone(self) -> None:
        """Return when the client has gone; only after `read_ahead`."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._ahead.append(message)
                return

    async def _receive_in_time(self) -> Any:
        deadline = self._started + BODY_WITHIN_S + self._num_bytes / BODY_BYTES_PER_S
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                message: Any = await self._receive()
        except TimeoutError:
            self._is_read = True
            detail = (
                f"the body did not come in time: {self._num_bytes} bytes in {time.monotonic() - self._started:.0f} s"
            )
            raise HTTPException(detail, status_code=HTTP_408_REQUEST_TIMEOUT, headers={"connection": "close"}) from None
        self._num_bytes += len(message.get("body", b""))
        self._is_read = not message.get("more_body", False)
        return message


class _Out:
    """Sends the answer, with the headers that are the same for all."""

    def __init__(self, send: Send, scope: HTTPScope, facts: Facts, request_id: bytes, started: float) -> None:
        self._send = send
        self._scope = scope
        self._facts = facts
        self._request_id = request_id
        self._started = started
        self.more_headers: list[tuple[bytes, bytes]] = []

    @property
    def has_started(self) -> bool:
        return bool(self._facts.status)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._facts.status = message["status"]
            ms = int((time.perf_counter() - self._started) * 1000)
            headers = [
                *message["headers"],
                (b"x-request-id", self._request_id),
                (b"openai-processing-ms", str(ms).encode()),
                _VERSION,
                *self.more_headers,
            ]
            if ignored := self._scope["state"].get(IGNORED_KEY):
                headers.append((IGNORED_HEADER.encode(), ", ".join(ignored).encode()))
            message["headers"] = headers
        elif message["type"] == "http.response.body":
            self._facts.num_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                self._facts.is_finished = True
        await self._send(message)

    async def refuse(self, error: Exception) -> None:
        """Answer an error that came before the router."""
        status, body = describe(error)
        hints = {**(getattr(error, "headers", None) or {}), **hint_headers(status, error)}
        headers = [(name.encode(), value.encode()) for name, value in hints.items()]
        await self._answer(status, [*headers, (b"content-type", b"application/json")], msgspec.json.encode(body))

    async def redirect(self, path: str) -> None:
        """Send a browser to another page."""
        await self._answer(303, [(b"location", path.encode()), (b"cache-control", b"no-store")], b"")

    async def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers.append((b"content-length", str(len(body)).encode()))
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body, "more_body": False})


def _as_routed(path: str) -> str:
    """The path as the router reads it: another spelling must not pass by a limit."""
    return path if "//" not in path and path[-1:] != "/" else "/" + _SLASHES.sub("/", path).strip("/")


def _wants_page(method: str, path: str, headers: Headers) -> bool:
    return method == "GET" and b"text/html" in headers.get(b"accept", b"") and not path.startswith("/v1/")
