"""Exception -> OpenAI error body, in one place: `{"error": {message, type, param, code}}` with the right status."""

import logging
import re
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.response import Template
from litestar.status_codes import (
    HTTP_400_BAD_REQUEST,
    HTTP_401_UNAUTHORIZED,
    HTTP_403_FORBIDDEN,
    HTTP_404_NOT_FOUND,
    HTTP_409_CONFLICT,
    HTTP_429_TOO_MANY_REQUESTS,
    HTTP_500_INTERNAL_SERVER_ERROR,
    HTTP_503_SERVICE_UNAVAILABLE,
    HTTP_504_GATEWAY_TIMEOUT,
    HTTP_507_INSUFFICIENT_STORAGE,
)
from msgspec import Struct
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bakeoff.database import describe_cause
from bakeoff.errors import (
    BadInput,
    BadKey,
    BakeoffError,
    ContextTooLong,
    DiskFull,
    EngineDown,
    Mismatch,
    NotAllowed,
    NotFound,
    NotReady,
    TooBusy,
    TookTooLong,
)
from service.web.pages import render_error_page, wants_page

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
_FIELD = re.compile(r"(?:unknown|missing required) field `([^`]+)`")


class ErrorDetail(Struct, frozen=True):
    """OpenAI's error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True):
    """Body of every error."""

    error: ErrorDetail


_KINDS: tuple[tuple[type[BakeoffError], int, str, str | None], ...] = (
    (ContextTooLong, HTTP_400_BAD_REQUEST, "invalid_request_error", "context_length_exceeded"),
    (BadInput, HTTP_400_BAD_REQUEST, "invalid_request_error", None),
    (BadKey, HTTP_401_UNAUTHORIZED, "invalid_request_error", "invalid_api_key"),
    (NotAllowed, HTTP_403_FORBIDDEN, "permission_error", "not_allowed"),
    (NotFound, HTTP_404_NOT_FOUND, "invalid_request_error", "model_not_found"),
    (NotReady, HTTP_409_CONFLICT, "invalid_request_error", "model_not_ready"),
    (Mismatch, HTTP_503_SERVICE_UNAVAILABLE, "server_error", "artefact_mismatch"),
    (EngineDown, HTTP_503_SERVICE_UNAVAILABLE, "server_error", "engine_down"),
    (DiskFull, HTTP_507_INSUFFICIENT_STORAGE, "server_error", "disk_full"),
    (TooBusy, HTTP_429_TOO_MANY_REQUESTS, "rate_limit_error", None),
    (TookTooLong, HTTP_504_GATEWAY_TIMEOUT, "server_error", "timeout"),
)


def describe(error: Exception) -> tuple[int, ErrorBody]:
    """The status and the body that tell a client what went wrong, never more than it may know."""
    for kind, status, type_, code in _KINDS:
        if isinstance(error, kind):
            param = getattr(error, "param", None)
            if kind in (NotFound, NotReady):
                param = param or "model"
                code = code if param == "model" else str(code).removeprefix("model_")
            return status, ErrorBody(ErrorDetail(str(error), type_, param, getattr(error, "code", code)))
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError):
        logger.error("the database does not answer cause=%s", describe_cause(error))
        body = ErrorBody(ErrorDetail("the service's database does not answer", "server_error", None, "database_down"))
        return HTTP_503_SERVICE_UNAVAILABLE, body
    if _is_too_deep(error):
        body = ErrorBody(ErrorDetail("the body is nested too deeply", "invalid_request_error", None, None))
        return HTTP_400_BAD_REQUEST, body
    if isinstance(error, ValidationException):
        details = [detail for detail in error.extra or [] if isinstance(detail, dict)]
        param = _name_param(details[0]) if details else None
        message = "; ".join(f"{detail.get('key', 'body')}: {detail.get('message')}" for detail in details)
        body = ErrorBody(ErrorDetail(message or error.detail, "invalid_request_error", param, None))
        return HTTP_400_BAD_REQUEST, body
    if isinstance(error, HTTPException) and error.status_code < HTTP_500_INTERNAL_SERVER_ERROR:
        return error.status_code, ErrorBody(ErrorDetail(error.detail, "invalid_request_error", None, None))
    logger.error("unexpected error", exc_info=error)
    body = ErrorBody(ErrorDetail("an unexpected error; the service's log has it", "server_error", None, None))
    return HTTP_500_INTERNAL_SERVER_ERROR, body


def _name_param(detail: dict[str, Any]) -> str | None:
    """The parameter that a detail is about; of one that is unknown or missing, its own name, as OpenAI gives it."""
    key = detail.get("key")
    named = _FIELD.search(str(detail.get("message")))
    if named is None:
        return key
    return named[1] if key in (None, "data") else f"{key}.{named[1]}"


def _is_too_deep(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, RecursionError):
        error = error.__cause__ or error.__context__
    return error is not None


def handle_exception(request: Request[Any, Any, Any], error: Exception) -> Response[Any] | Template:
    """Answer an exception: a page for a browser on a page's address, an OpenAI error body for everyone else."""
    if wants_page(request):
        return render_error_page(request, error)
    status, body = describe(error)
    headers = {**(getattr(error, "headers", None) or {}), **hint_headers(status, error)}
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def hint_headers(status: int, error: Exception) -> dict[str, str]:
    """What tells a client whether, when and how to ask again."""
    if status == HTTP_401_UNAUTHORIZED:
        return {"www-authenticate": "Bearer"}
    if status in (HTTP_409_CONFLICT, HTTP_504_GATEWAY_TIMEOUT):
        return {"x-should-retry": "false"}
    if isinstance(error, TooBusy):
        return {"retry-after": str(error.retry_after_s)}
    if status == HTTP_503_SERVICE_UNAVAILABLE:
        return {"retry-after": str(RETRY_AFTER_S)}
    return {}
