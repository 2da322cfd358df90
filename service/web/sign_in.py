"""Signing in to the web page: a key goes in by a form and stays in a cookie that no script can read.

The cookie is the key itself, for this origin's own requests only (SameSite=Strict), and ends with the key. Nothing is
kept on the server, so every replica knows everyone who is signed in.
"""

from typing import Any

from litestar import Request, Router, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.response import Redirect, Template
from litestar.status_codes import HTTP_303_SEE_OTHER, HTTP_401_UNAUTHORIZED, HTTP_403_FORBIDDEN

from bakeoff.errors import BadKey
from service.edge.gatekeeper import COOKIE, SIGN_IN, SIGN_OUT, Gatekeeper, is_same_origin
from service.web.pages import SECURITY_HEADERS

PAGE = "sign_in.html.jinja"
STAYS_S = 30 * 24 * 3600
"""Longest that a browser keeps the key."""
MAX_KEY_CHARS = 200


@get(SIGN_IN, name="sign-in")
async def show_sign_in() -> Template:
    """The form."""
    return Template(PAGE, context={"message": ""})


@post(SIGN_IN, status_code=HTTP_303_SEE_OTHER)
async def sign_in(
    request: Request[Any, Any, Any], gatekeeper: NamedDependency[SkipValidation[Gatekeeper]]
) -> Redirect | Template:
    """Keep the key, if it is one."""
    if not is_same_origin(dict(request.scope["headers"])):
        return _refuse("Another site's page sent this form.", HTTP_403_FORBIDDEN)
    form = await request.form()
    key = str(form.get("key", "")).strip()
    try:
        if not await gatekeeper.asks_for_keys():
            return Redirect("/", status_code=HTTP_303_SEE_OTHER)
        if not key or len(key) > MAX_KEY_CHARS:
            raise BadKey("")
        gatekeeper.visitor_of(key)
    except BadKey:
        return _refuse(
            "This key does not open the service. It may have been revoked, or have expired.", HTTP_401_UNAUTHORIZED
        )
    return Redirect("/", status_code=HTTP_303_SEE_OTHER, cookies=[_cookie(request, key, STAYS_S)])


@post(SIGN_OUT, status_code=HTTP_303_SEE_OTHER)
async def sign_out(request: Request[Any, Any, Any]) -> Redirect:
    """Forget the key."""
    return Redirect(SIGN_IN, status_code=HTTP_303_SEE_OTHER, cookies=[_cookie(request, "", 0)])


def _cookie(request: Request[Any, Any, Any], key: str, max_age_s: int) -> Cookie:
    is_secure = request.url.scheme == "https"
    return Cookie(COOKIE, value=key, path="/", httponly=True, samesite="strict", secure=is_secure, max_age=max_age_s)


def _refuse(message: str, status: int) -> Template:
    return Template(PAGE, context={"message": message}, status_code=status)


sign_in_routes = Router(
    path="/",
    route_handlers=[show_sign_in, sign_in, sign_out],
    # Under no-referrer a browser hides the origin of a form, which is what tells ours from another site's.
    response_headers={**SECURITY_HEADERS, "Cache-Control": "no-store", "Referrer-Policy": "same-origin"},
    include_in_schema=False,
)
