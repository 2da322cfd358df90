"""Exception -> OpenAI error body, in one place: `{"error": {message, type, param, code}}` with the right status."""

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.response import Template
from litestar.status_codes import (
    HTTP_400_BAD_REQUEST,
    HTTP_403_FORBIDDEN,
    HTTP_404_NOT_FOUND,
    HTTP_409_CONFLICT,
    HTTP_500_INTERNAL_SERVER_ERROR,
    HTTP_503_SERVICE_UNAVAILABLE,
)
from msgspec import Struct

from bakeoff.errors import (
    BadInput,
    BakeoffError,
    ContextTooLong,
    EngineDown,
    Mismatch,
    NotAllowed,
    NotFound,
    NotReady,
)
from service.web.pages import render_error_page, wants_page

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5


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
    (NotAllowed, HTTP_403_FORBIDDEN, "permission_error", "not_allowed"),
    (NotFound, HTTP_404_NOT_FOUND, "invalid_request_error", "model_not_found"),
    (NotReady, HTTP_409_CONFLICT, "invalid_request_error", "model_not_ready"),
    (Mismatch, HTTP_503_SERVICE_UNAVAILABLE, "server_error", "artefact_mismatch"),
    (EngineDown, HTTP_503_SERVICE_UNAVAILABLE, "server_error", "engine_down"),
)


def describe(error: Exception) -> tuple[int, ErrorBody]:
    """The status and the body that tell a client what went wrong, never more than it may know."""
    for kind, status, type_, code in _KINDS:
        if isinstance(error, kind):
            param = "model" if kind in (NotFound, NotReady) else getattr(error, "param", None)
            return status, ErrorBody(ErrorDetail(str(error), type_, param, code))
    if _is_too_deep(error):
        body = ErrorBody(ErrorDetail("the body is nested too deeply", "invalid_request_error", None, None))
        return HTTP_400_BAD_REQUEST, body
    if isinstance(error, ValidationException):
        details = [detail for detail in error.extra or [] if isinstance(detail, dict)]
        param = details[0].get("key") if details else None
        message = "; ".join(f"{detail.get('key', 'body')}: {detail.get('message')}" for detail in details)
        body = ErrorBody(ErrorDetail(message or error.detail, "invalid_request_error", param, None))
        return HTTP_400_BAD_REQUEST, body
    if isinstance(error, HTTPException) and error.status_code < HTTP_500_INTERNAL_SERVER_ERROR:
        return error.status_code, ErrorBody(ErrorDetail(error.detail, "invalid_request_error", None, None))
    logger.error("unexpected error", exc_info=error)
    body = ErrorBody(ErrorDetail("an unexpected error; the service's log has it", "server_error", None, None))
    return HTTP_500_INTERNAL_SERVER_ERROR, body


def _is_too_deep(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, RecursionError):
        error = error.__cause__ or error.__context__
    return error is not None


def handle_exception(request: Request[Any, Any, Any], error: Exception) -> Response[Any] | Template:
    """Answer an exception: a page for a browser on a page's address, an OpenAI error body for everyone else."""
    if wants_page(request):
        return render_error_page(request, error)
    status, body = describe(error)
    headers = dict(getattr(error, "headers", None) or {})
    if status == HTTP_409_CONFLICT:
        headers["x-should-retry"] = "false"
    if status == HTTP_503_SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(RETRY_AFTER_S)
    return Response(body, status_code=status, headers=headers, media_type="application/json")
