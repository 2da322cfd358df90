"""The web page, driven in headless Chromium as a person would: chat, citation, comparison, phone.

`walk(page, base_url)` takes the address of any service, so the same walk is done on the real one. The tests around it
use a small service of their own: the real pages over a fake library and a completion endpoint that streams prepared
answers, among them the hostile ones. `SCREENSHOT=page.png pytest tests/service/test_page.py` keeps pictures.
"""

import asyncio
import json
import os
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
import uvicorn
from litestar import Litestar, Response, get, post
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.params import JSONBody
from litestar.response import ServerSentEvent
from litestar.testing import TestClient
from live_service import Live
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from bakeoff.errors import NotFound
from bakeoff.modes import MODES
from service.callers import OPEN, provide_caller
from service.web.pages import (
    DocumentView,
    DomainView,
    ModeView,
    document_path,
    page_routes,
    page_template_config,
    render_error_page,
    report_csp,
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ANSWER_TIMEOUT_MS = 120_000
"""The real service may answer on a busy two-core machine."""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: apt-get install chromium")


# The walk


def walk(page: Page, base_url: str) -> None:
    """Do what the page is for. Needs a service whose first domain answers in `base` and `rag`."""
    page.set_viewport_size({"width": 1280, "height": 860})
    page.goto(base_url)
    chat = page.get_by_role("region", name="Chat")
    chat.get_by_role("radio", name="rag", exact=True).check()
    chat.get_by_role("button", name=re.compile(r"\?")).first.click()
    answer = chat.get_by_role("article").first
    _expect_answered(answer)
    expect(answer.locator(".sources")).to_be_visible()

    with page.context.expect_page() as opened:
        answer.locator(".answer-text a, .source-list a").first.click()
    cited = opened.value
    expect(cited.locator(".passage:target")).to_be_visible()
    cited.close()

    chat.get_by_label("Your question").fill("Is breakfast included?")
    chat.get_by_label("Your question").press("Enter")
    _expect_answered(chat.get_by_role("article").nth(1))
    _keep_screenshot(page, "chat")

    _compare(page, ["base", "rag"], "Can I bring my dog to the A and B Guest House?")
    _expect_no_sideways_scroll(page)
    _keep_screenshot(page, "compare")

    page.set_viewport_size({"width": 360, "height": 740})
    for view in ("Compare", "Chat"):
        page.get_by_role("link", name=view).click()
        _expect_no_sideways_scroll(page)
        _keep_screenshot(page, f"{view.lower()}-phone")


def _compare(page: Page, modes: list[str], question: str) -> None:
    page.get_by_role("link", name="Compare").click()
    compare = page.get_by_role("region", name="Compare")
    expect(compare).to_be_visible()
    for box in compare.get_by_role("checkbox").all():
        box.set_checked(box.get_attribute("value") in modes)
    compare.get_by_label("Your question").fill(question)
    compare.get_by_role("button", name="Compare").click()
    answers = compare.get_by_role("article")
    expect(answers).to_have_count(len(modes))
    for answer, mode in zip(answers.all(), modes, strict=True):
        expect(answer.get_by_role("heading", name=mode)).to_be_visible()
        _expect_answered(answer)


def _expect_answered(answer: Any) -> None:
    expect(answer).to_have_attribute("data-state", "done", timeout=ANSWER_TIMEOUT_MS)
    expect(answer.locator(".answer-text")).not_to_be_empty()
    expect(answer.locator(".facts")).to_contain_text(re.compile(r"\d s.*tokens read.*written"))


def _expect_no_sideways_scroll(page: Page) -> None:
    """Neither the page nor a box of it is narrower than what it holds."""
    too_wide = """[document.documentElement, ...document.querySelectorAll("main, section, form, article, li")]
        .filter((each) => each.scrollWidth > each.clientWidth && each.clientWidth > 0)
        .map((each) => `${each.tagName} ${each.className}: ${each.scrollWidth} > ${each.clientWidth}`)"""
    assert page.evaluate(too_wide) == []


def _keep_screenshot(page: Page, name: str) -> None:
    if wanted := os.environ.get("SCREENSHOT"):
        path = Path(wanted)
        page.screenshot(path=path if name == "compare" else path.with_stem(f"{path.stem}-{name}"))


# A small service


class FakeLibrary:
    """One domain whose adapter is trained while one looks, and one document with a slash in its id."""

    def __init__(self, reports: Path) -> None:
        self.reports = reports
        self.adapter_ready = False

    def domains(self, groups: frozenset[str]) -> list[DomainView]:
        reason, command = "no adapter is trained for concierge yet.", "bakeoff train --domain concierge"
        modes = [ModeView(name, ready=True) for name in ("base", "few-shot", "rag")]
        modes += [ModeView(name, self.adapter_ready, reason, command) for name in ("fine-tuned", "hybrid")]
        modes.sort(key=lambda mode: list(MODES).index(mode.name))
        concierge = DomainView("concierge", tuple(modes), 1249, QUESTIONS, "run-7")
        return [concierge, DomainView("minimal", (ModeView("base", ready=True),))]

    def document(self, domain: str, document_id: str, groups: frozenset[str]) -> DocumentView:
        if (domain, document_id) != ("concierge", "guide/a&b #1"):
            raise NotFound(f"document {document_id!r} does not exist in domain {domain}")
        return DocumentView(TITLE, "hotel/0", tuple((p["chunk_id"], p["text"]) for p in PASSAGES))

    def report(self, domain: str, run_id: str | None) -> Path:
        if domain != "concierge" or run_id not in {None, "run-7"}:
            raise NotFound(f"run {run_id!r} does not exist in domain {domain}")
        return self.reports / "report.html"


QUESTIONS = (
    "Does the A and B Guest House have parking?",
    "Huntingdon Marriott Hotel: Do you allow any pets there?",
    "Is there a dress code at De Afghanan Kabob House?",
    "Boba Guys: Is google pay allowed there?",
)
TITLE = "A and B Guest House (hotel, Cambridge)"
PASSAGES: list[dict[str, Any]] = [
    {
        "rank": rank,
        "score": 1 - rank / 10,
        "document_id": "guide/a&b #1",
        "chunk_id": f"c{rank}",
        "title": TITLE,
        "text": f"{TITLE}. {text}",
    }
    for rank, text in enumerate(
        (
            "There is onsite parking at A and B Guest House but it costs extra. You need to make a reservation for it.",
            "Parking is 10 GBP per day at the A and B Guest House. A and B guest house has free wifi.",
            "No, pets are not allowed at this property. Check-in time is from 3:30pm - 9:00pm.",
            "The A and B Guest House does not provide breakfast for free. Continental breakfast is available.",
        ),
        start=1,
    )
]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
REPORT = """<!doctype html><title>Report</title><style>p{color:green}</style><p style="color:red">none</p>
<img src="x" onerror="document.title='owned'"><script>document.querySelector("p").textContent = "drawn"</script>"""


@post("/v1/chat/completions", status_code=200)
async def complete(data: JSONBody[dict[str, Any]]) -> Response[dict[str, Any]] | ServerSentEvent:
    assert data["stream"]
    assert data["stream_options"] == {"include_usage": True}
    question = data["messages"][-1]["content"]
    if question == "no":
        body = {"error": {"message": "model 'x' does not exist", "type": "t", "param": "model", "code": "c"}}
        return Response(body, status_code=404)
    return ServerSentEvent(_stream(data["model"].split("/")[1], question, len(data["messages"])))


async def _stream(mode: str, question: str, num_messages: int) -> AsyncIterator[str]:
    retrieves = mode in {"rag", "hybrid"}
    text = "Yes, there is a car park at the guest house, and guests may use it during their stay."
    if retrieves:
        text = "Yes, parking is available onsite [1]. It costs 10 GBP per day [2], to be reserved. See [9]."
    if question == "croissant":
        text = f"🥐 {text}"
    if question == "hostile":
        text = HOSTILE
    if question == "history":
        text = f"{num_messages} messages"
    yield _chunk({"role": "assistant", "content": ""})
    for word in re.findall(r"\s*\S+", text * (200 if question == "endless" else 1)):
        await asyncio.sleep(0.02)
        yield _chunk({"content": word})
        if question == "break":
            yield json.dumps({"error": {"message": "the engine stopped"}})
            return
    spans = [(match[1], match.span()) for match in re.finditer(r"\[([12])\]", text)]
    annotations = [
        {
            "type": "url_citation",
            "url_citation": {"url": "javascript:alert(1)", "title": "t", "start_index": start, "end_index": end},
        }
        for _, (start, end) in [*spans, ("", (0, 0))]
    ]
    told = {"mode": mode, "adapter": None, "epoch": 1, "passages": PASSAGES if retrieves else []}
    final = {"annotations": annotations if retrieves else []}
    yield _chunk(final, finish_reason="stop", bakeoff=told)
    yield json.dumps({"choices": [], "usage": {"prompt_tokens": 1312, "completion_tokens": 27, "total_tokens": 1339}})
    yield "[DONE]"


def _chunk(delta: dict[str, Any], finish_reason: str | None = None, **extra: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **extra})


def make_app(library: FakeLibrary) -> Litestar:
    @get("/v1/models", sync_to_thread=False)
    def list_models() -> dict[str, Any]:
        (concierge, _) = library.domains(OPEN.groups)
        return {"data": [{"id": f"concierge/{m.name}", "bakeoff": {"ready": m.ready}} for m in concierge.modes]}

    return Litestar(
        [*page_routes, complete, list_models],
        template_config=page_template_config,
        dependencies={
            "library": Provide(lambda: library, sync_to_thread=False),
            "caller": Provide(provide_caller),
        },
        exception_handlers={NotFoundException: render_error_page},
        logging_config=None,
        openapi_config=None,
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> FakeLibrary:
    folder = tmp_path_factory.mktemp("run-7")
    (folder / "report.html").write_text(REPORT, encoding="utf-8")
    return FakeLibrary(folder)


@pytest.fixture(scope="module")
def fake_url(library: FakeLibrary) -> Iterator[str]:
    """Address of the small service."""
    server = uvicorn.Server(uvicorn.Config(make_app(library), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the small service did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


class Watched:
    """What a page asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        page.context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.context.on("console", self._on_console)
        page.context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    with browser.new_context(device_scale_factor=2) as context:
        yield Watched(context.new_page())


# What must be true


@needs_chromium
def test_a_person_chats_opens_a_citation_and_compares(watched: Watched, live: Live) -> None:
    walk(watched.page, live.url)
    assert watched.hosts == {urlsplit(live.url).netloc}
    assert watched.complaints == []


@needs_chromium
def test_markers_are_links_and_offsets_count_characters(watched: Watched, fake_url: str) -> None:
    answer = _ask(watched.page, fake_url, "croissant")
    links = answer.locator(".answer-text a")
    expect(links).to_have_text(["[1]", "[2]"])
    expect(answer.locator(".answer-text")).to_contain_text("🥐 Yes, parking is available onsite [1]. It")
    assert links.nth(1).get_attribute("href") == document_path("concierge", "guide/a&b #1", "c2")
    expect(answer.get_by_role("heading", name="Sources")).to_be_visible()
    expect(answer.locator(".sources > .source-list li")).to_have_count(2)
    expect(answer.get_by_text("2 more passages read")).to_be_visible()


@needs_chromium
def test_markup_in_an_answer_stays_text(watched: Watched, fake_url: str) -> None:
    answer = _ask(watched.page, fake_url, "hostile")
    expect(answer.locator(".answer-text")).to_have_text(HOSTILE)
    assert answer.locator("img, script").count() == 0
    assert watched.page.title() == "concierge · Bakeoff"
    assert watched.complaints == []


@needs_chromium
def test_a_conversation_is_sent_whole_and_failures_leave_no_trace_in_it(watched: Watched, fake_url: str) -> None:
    _ask(watched.page, fake_url, "Does it have parking?")
    question = watched.page.get_by_label("Your question").first
    for asked, said in (("no", "model 'x' does not exist"), ("break", "the engine stopped")):
        question.fill(asked)
        question.press("Enter")
        expect(watched.page.get_by_role("alert").last).to_have_text(said)
        expect(question).to_have_value(asked)
    question.fill("history")
    question.press("Enter")
    expect(watched.page.locator(".answer-text").last).to_have_text("3 messages")


@needs_chromium
def test_stop_ends_the_answer_and_keeps_what_was_written(watched: Watched, fake_url: str) -> None:
    page = watched.page
    page.goto(fake_url)
    page.get_by_label("Your question").first.fill("endless")
    page.keyboard.press("Shift+Enter")
    expect(page.get_by_label("Your question").first).to_have_value("endless\n")
    page.keyboard.press("Enter")
    expect(page.locator(".answer-text").first).to_contain_text("parking")
    page.get_by_role("button", name="Stop").first.click()
    expect(page.get_by_role("article")).to_have_attribute("data-state", "stopped")
    expect(page.locator(".facts").first).to_contain_text("stopped after")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


@needs_chromium
def test_a_mode_is_enabled_when_its_adapter_is_there(
    watched: Watched, fake_url: str, library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = watched.page
    page.goto(fake_url)
    hybrid = page.get_by_role("radio", name="hybrid")
    expect(hybrid).to_be_disabled()
    expect(page.locator(".waiting").first).to_contain_text("bakeoff train --domain concierge")
    page.get_by_role("region", name="Chat").get_by_text("hybrid", exact=True).click(force=True)
    expect(page.locator(".about").first).to_contain_text("hybrid is not ready: no adapter is trained")
    monkeypatch.setattr(library, "adapter_ready", True)
    expect(hybrid).to_be_enabled(timeout=15_000)
    expect(page.locator(".waiting").first).to_be_hidden()


@needs_chromium
def test_a_report_runs_its_own_script_and_nothing_slipped_into_it(watched: Watched, fake_url: str) -> None:
    page = watched.page
    page.goto(f"{fake_url}reports/concierge/latest")
    expect(page.locator("p")).to_have_text("drawn")
    assert page.title() == "Report"


@needs_chromium
def test_without_javascript_the_page_says_so(browser: Browser, fake_url: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(fake_url)
        expect(page.get_by_text("Chat and comparison need JavaScript")).to_be_visible()
        expect(page.get_by_role("link", name="Report")).to_be_visible()


@needs_chromium
def test_every_page_fits_a_phone_in_the_dark(
    browser: Browser, fake_url: str, library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "adapter_ready", True)
    places = {"empty": "", "document": document_path("concierge", "guide/a&b #1", "c2")[1:], "missing": "nothing/here"}
    looks: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", 1280), ("dark", 1280), ("dark", 360))
    for scheme, width in looks:
        with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 740}) as context:
            page = context.new_page()
            for name, path in places.items():
                page.goto(fake_url + path)
                _keep_screenshot(page, f"{name}-{scheme}-{width}")
                _expect_no_sideways_scroll(page)
            answer = _ask(page, fake_url, "Does it have parking?")
            assert answer.is_visible()
            _keep_screenshot(page, f"answered-{scheme}-{width}")
            _compare(page, list(MODES), "Does it have parking?")
            _expect_no_sideways_scroll(page)
            _keep_screenshot(page, f"five-{scheme}-{width}")


def _ask(page: Page, url: str, question: str) -> Any:
    page.goto(url)
    page.get_by_label("Your question").first.fill(question)
    page.keyboard.press("Enter")
    answer = page.get_by_role("article").first
    _expect_answered(answer)
    return answer


# Without a browser


def test_pages_carry_a_strict_policy_and_escape_what_they_show(library: FakeLibrary) -> None:
    with TestClient(make_app(library)) as client:
        document = document_path("concierge", "guide/a&b #1")
        for path in ("/", "/?domain=minimal", document, "/?domain=%3Cscript%3E", "/none"):
            reply = client.get(path, headers={"accept": "text/html"})
            assert reply.headers["content-type"].startswith("text/html"), path
            assert "script-src 'self';" in reply.headers["content-security-policy"], path
            assert "<script>" not in reply.text, path
            assert not re.search(r"\sstyle=|\son\w+=|<style", reply.text), path
        assert client.get("/?domain=nowhere").status_code == 404
        assert client.get("/domains/concierge/documents/none").status_code == 404
        assert client.get("/reports/concierge/none").status_code == 404
        script = client.get("/static/app.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert script.headers["x-content-type-options"] == "nosniff"
        assert client.get("/static/../pages.py").status_code == 404
        assert client.get("/static/%2e%2e/pages.py").status_code == 404


def test_without_a_domain_the_page_says_how_to_make_one(library: FakeLibrary) -> None:
    class EmptyLibrary(FakeLibrary):
        def domains(self, groups: frozenset[str]) -> list[DomainView]:
            return []

    with TestClient(make_app(EmptyLibrary(library.reports))) as client:
        assert "bakeoff documents add PATH --domain NAME" in client.get("/").text


def test_a_failing_page_shows_no_detail(library: FakeLibrary) -> None:
    class FailingLibrary(FakeLibrary):
        def domains(self, groups: frozenset[str]) -> list[DomainView]:
            raise RuntimeError("password=hunter2")

    with TestClient(make_app(FailingLibrary(library.reports))) as client:
        reply = client.get("/")
    assert reply.status_code == 500
    assert "Its log says why" in reply.text
    assert "hunter2" not in reply.text


def test_a_reports_policy_names_its_scripts_by_hash() -> None:
    policy = report_csp(b"<script>\r\nlet a = 1 < 2\r\n</script><style>p{}</style>")
    # printf '\nlet a = 1 < 2\n' | openssl dgst -sha256 -binary | base64
    assert "script-src 'sha256-cwFv6bTYtxYtvF5oRWQ/fOLGhuEZCfOlVJEYPV0bjww=';" in policy
    assert "script-src 'none'" in report_csp(b"<p>no script</p>")
