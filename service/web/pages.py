"""The product's web face: what the library knows -> views -> templates -> HTML.

Every page is rendered here, without a build step; the script in `static/` only talks to the public API, so the page can
do nothing that an API client could not. Handlers see a `Library` and never the database. Untrusted text (documents,
questions, completions) reaches HTML by autoescape, or by `textContent` in the script, and a strict
Content-Security-Policy stands behind both. A new page is a handler in `page_routes`, a template, and what it reads in
`Library`.
"""

import base64
import hashlib
import logging
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response, Router, get
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery, SkipValidation
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Template
from litestar.response.base import ASGIResponse
from litestar.static_files import create_static_files_router
from litestar.template.config import TemplateConfig
from litestar.types import ASGIApp
from msgspec import Struct

from bakeoff.errors import BadInput, BakeoffError, EngineDown, NotFound, NotReady
from bakeoff.modes import Mode, find_mode
from service.callers import Caller

logger = logging.getLogger(__name__)

HERE = Path(__file__).resolve().parent
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": PAGE_CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


class ModeView(Struct, frozen=True):
    """A mode of one domain, as the picker shows it."""

    name: str
    ready: bool
    reason: str = ""
    """Why it is not ready, in a sentence."""
    command: str = ""
    """What makes it ready, typed into a terminal."""


class DomainView(Struct, frozen=True):
    """A domain, as the home page shows it."""

    name: str
    modes: tuple[ModeView, ...]
    num_documents: int = 0
    example_questions: tuple[str, ...] = ()
    """Up to 4 real questions, offered while the conversation is empty."""
    newest_run_id: str | None = None
    """The newest run with a report."""


class DocumentView(Struct, frozen=True):
    """A document, as a citation opens it."""

    title: str
    source: str
    chunks: tuple[tuple[str, str], ...]
    """(chunk_id, text) in reading order."""


class Library(Protocol):
    """What the pages read. The calls may block: they are made in a thread."""

    def domains(self, groups: frozenset[str]) -> list[DomainView]:
        """Every domain, in the order the picker shows, as a reader of these groups finds it."""
        ...

    def document(self, domain: str, document_id: str, groups: frozenset[str]) -> DocumentView:
        """One document with its chunks.

        Raises:
            NotFound: no such domain or document, or not for a reader of these groups.
        """
        ...

    def report(self, domain: str, run_id: str | None) -> Path:
        """The `report.html` of a run; None means the newest. The ids come from the address and are not yet checked.

        Raises:
            NotFound: no such domain or run, or the run has no report.
        """
        ...


Shelf = NamedDependency[SkipValidation[Library]]
"""The dependency `library`. Not validated: a Protocol cannot be checked at run time."""


@get("/", sync_to_thread=True, name="home")
def show_home(library: Shelf, caller: NamedDependency[Caller], domain: FromQuery[str | None] = None) -> Template:
    """Chat and comparison over one domain."""
    domains = library.domains(caller.groups)
    chosen = _choose_domain(domains, domain)
    if chosen is None:
        return Template("welcome.html.jinja")
    ready = [mode for mode in chosen.modes if mode.ready]
    preferred = next((mode for mode in ready if find_mode(mode.name).uses_retrieval), ready[0] if ready else None)
    compared = {mode.name for mode in (*ready[:1], preferred) if mode is not None}
    if len(compared) < 2:
        compared |= {mode.name for mode in ready[:2]}
    return Template(
        "home.html.jinja",
        context={
            "domain": chosen,
            "domains": domains,
            "preferred": preferred.name if preferred else "",
            "compared": compared,
            "waiting": _group_waiting(chosen.modes),
            "is_signed_in": bool(caller.key_id),
        },
    )


@get("/domains/{domain:str}/documents/{document_id:path}", sync_to_thread=True, name="document")
def show_document(
    library: Shelf, caller: NamedDependency[Caller], domain: FromPath[str], document_id: FromPath[str]
) -> Template:
    """The page a citation opens. An id may hold slashes."""
    document_id = document_id.removeprefix("/")
    document = library.document(domain, document_id, caller.groups)
    context = {"domain_name": domain, "document_id": document_id, "document": document}
    return Template("document.html.jinja", context=context)


@get("/reports/{domain:str}/{run_id:str}", sync_to_thread=True, name="report")
def show_report(library: Shelf, domain: FromPath[str], run_id: FromPath[str]) -> Response[bytes]:
    """The report of a run, or of the newest one under `latest`."""
    page = library.report(domain, None if run_id == "latest" else run_id).read_bytes()
    headers = {"Content-Security-Policy": report_csp(page)}
    return Response(page, media_type="text/html", headers=headers)


def document_path(domain: str, document_id: str, chunk_id: str = "") -> str:
    """Address of a passage's page on this host: what a citation points at."""
    path = f"/domains/{quote(domain, safe='')}/documents/{quote(document_id)}"
    return f"{path}#{quote(chunk_id, safe='')}" if chunk_id else path


def describe_mode(mode: Mode) -> str:
    """Say in plain words what a mode does."""
    who = "The model fine-tuned on this domain" if mode.uses_adapter else "The base model"
    if mode.uses_retrieval:
        return f"{who} reads the passages found for your question and cites them."
    if mode.uses_shots:
        return f"{who} is shown similar questions with their answers first."
    return f"{who} answers from memory, without looking anything up."


def wants_page(request: Request[Any, Any, Any]) -> bool:
    """Whether an error goes to a person in a browser rather than to an API client."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")


def render_error_page(request: Request[Any, Any, Any], error: Exception) -> Template:
    """Exception handler for pages: the message of an error a person can fix, no detail of any other."""
    status_code = _status_code(error)
    if status_code >= 500 and not isinstance(error, BakeoffError | HTTPException):
        logger.error("page %s failed", request.url.path, exc_info=error)
    if isinstance(error, BakeoffError):
        message = str(error)
    elif status_code == 404:
        message = f"There is no page at {request.url.path}."
    elif isinstance(error, HTTPException) and status_code < 500:
        message = error.detail
    else:
        message = "The service could not make this page. Its log says why."
    context = {"status_code": status_code, "message": message}
    return Template("error.html.jinja", context=context, status_code=status_code, headers=SECURITY_HEADERS)


def report_csp(page: bytes) -> str:
    """The policy of a self-contained report: its own scripts by hash, nothing from elsewhere, an origin of its own.

    A report quotes questions and completions. Should one of them slip through as markup, no event handler of it runs,
    it can send nothing anywhere, and the sandbox keeps it from this origin's cookies and pages.
    """
    # Browsers normalise line ends before they hash.
    text = page.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    parser = _InlineScripts()
    parser.feed(text)
    parser.close()
    digests = (hashlib.sha256(script.encode()).digest() for script in parser.scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "sandbox allow-scripts allow-downloads allow-popups allow-popups-to-escape-sandbox"
    )


class _InlineScripts(HTMLParser):
    """Collects the text of every script element."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.scripts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._inside = True
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = False


def _choose_domain(domains: list[DomainView], name: str | None) -> DomainView | None:
    if name is None:
        return domains[0] if domains else None
    for domain in domains:
        if domain.name == name:
            return domain
    raise NotFound(f"domain {name!r} does not exist. Domains: {', '.join(domain.name for domain in domains) or 'none'}")


def _group_waiting(modes: tuple[ModeView, ...]) -> dict[tuple[str, str], list[str]]:
    """Names of the modes that are not ready, under (reason, command)."""
    waiting: dict[tuple[str, str], list[str]] = {}
    for mode in modes:
        if not mode.ready:
            waiting.setdefault((mode.reason, mode.command), []).append(mode.name)
    return waiting


def _status_code(error: Exception) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    for kind, status_code in ((NotFound, 404), (NotReady, 409), (EngineDown, 503), (BadInput, 400)):
        if isinstance(error, kind):
            return status_code
    return 500


async def _secure_static_file(response: ASGIApp) -> ASGIApp:
    """Static files leave as finished responses, which `response_headers` does not reach."""
    assert isinstance(response, ASGIResponse)
    for name, value in SECURITY_HEADERS.items():
        response.headers[name] = value
    return response


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["document_path"] = document_path
    environment.filters["describe_mode"] = lambda name: describe_mode(find_mode(name))
    return environment


page_template_config = TemplateConfig(instance=JinjaTemplateEngine.from_environment(_make_environment()))
page_routes: list[Router] = [
    Router(
        path="/",
        route_handlers=[
            show_home,
            show_document,
            show_report,
            create_static_files_router(
                path="/static", directories=[HERE / "static"], after_request=_secure_static_file
            ),
        ],
        response_headers=SECURITY_HEADERS,
        exception_handlers={Exception: render_error_page},
        include_in_schema=False,
    )
]
