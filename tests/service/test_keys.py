"""Who may come in, asked over a real socket: no keys, keys, revoked keys, groups, the web page's cookie."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from scripted_service import DOMAIN, ScriptedGenerator, running
from sqlalchemy import Engine

from bakeoff.cli.serve import running_service
from bakeoff.database import open_database
from bakeoff.keys import create_key, revoke_key
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from retrieval.permissions import change_grants
from service.app import create_app

QUESTION: list[Any] = [{"role": "user", "content": "What does parking cost?"}]
BODY = {"model": f"{DOMAIN}/base", "messages": QUESTION}
MakeKey = Callable[..., str]


@pytest.fixture(scope="module")
def kept_home(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(filled_home, tmp_path_factory.mktemp("keys") / "home"))


@pytest.fixture(scope="module")
def database(kept_home: Path) -> Iterator[Engine]:
    engine = open_database(Settings(home=kept_home).url, kept_home)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def make_key(database: Engine) -> MakeKey:
    def make(name: str, *groups: str, **options: Any) -> str:
        with database.begin() as connection:
            return create_key(connection, name, groups, **options)[1]

    return make


@pytest.fixture(scope="module")
def guarded(kept_home: Path, make_key: MakeKey, embedder: Embedder) -> Iterator[str]:
    """The address of a service for which keys were made."""
    make_key("first")
    app = create_app(Settings(home=kept_home), generator=ScriptedGenerator(), embedder=embedder, token="one-time")  # noqa: S106
    with running(app) as address:
        yield address


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def ask(url: str, headers: Any = None, **change: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json={**BODY, **change}, headers=headers)


def test_without_a_valid_key_nothing_is_answered(guarded: str, make_key: MakeKey) -> None:
    for headers in (
        {},
        bearer("wrong"),
        {"authorization": "Bearer"},
        {"authorization": "Basic abc"},
        {"authorization": "Bearer \xe9".encode("latin-1")},
    ):
        for response in (
            ask(guarded, headers),
            httpx.get(f"{guarded}/v1/models", headers=headers),
            httpx.get(f"{guarded}/v1/nothing", headers=headers),
            httpx.get(f"{guarded}/domains/{DOMAIN}/documents/parking", headers=headers),
            httpx.get(f"{guarded}/metrics", headers=headers),
            httpx.get(f"{guarded}//metrics", headers=headers),
            httpx.get(f"{guarded}/schema/openapi.json", headers=headers),
        ):
            assert response.status_code == 401, (headers, response.url)
            assert response.headers["www-authenticate"] == "Bearer"
            error = response.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{guarded}/v1", api_key="wrong", max_retries=0).models.list()
    client = OpenAI(base_url=f"{guarded}/v1", api_key=make_key("good"), max_retries=0)
    assert client.chat.completions.create(model=f"{DOMAIN}/base", messages=QUESTION).choices


def test_health_and_static_files_are_open(guarded: str) -> None:
    for path in ("/health/live", "/health/ready", "/static/app.css", "/sign-in"):
        assert httpx.get(guarded + path).status_code == 200, path


def test_numbers_and_description_need_a_key_that_manages(guarded: str, make_key: MakeKey) -> None:
    asker, manager = bearer(make_key("asker")), bearer(make_key("manager", manages=True))
    for path in ("/metrics", "//metrics", "/schema/openapi.json"):
        assert httpx.get(guarded + path, headers=asker).status_code == 403, path
        assert httpx.get(guarded + path, headers=manager).status_code == 200, path


def test_a_revoked_key_stops_at_the_next_request(guarded: str, database: Engine, make_key: MakeKey) -> None:
    secret = make_key("leaver")
    with httpx.Client(base_url=guarded, headers=bearer(secret)) as client:
        for _ in range(3):
            assert client.get("/v1/models").status_code == 200
        with database.begin() as connection:
            revoke_key(connection, "leaver")
        assert client.get("/v1/models").status_code == 401


def test_a_private_token_opens_beside_the_keys(guarded: str) -> None:
    assert ask(guarded, bearer("one-time")).status_code == 200
    assert ask(guarded, bearer("one-tim")).status_code == 401


def test_a_key_sees_only_what_its_groups_may(guarded: str, database: Engine, make_key: MakeKey) -> None:
    change_grants(database, DOMAIN, ["parking"], grant=["staff"], revoke=["everyone"])
    try:
        staff, other = make_key("staff", "staff"), make_key("other", "board")
        found = {}
        for secret in (staff, other):
            answer = ask(guarded, bearer(secret), model=f"{DOMAIN}/rag").json()
            found[secret] = {passage["document_id"] for passage in answer["bakeoff"]["passages"]}
        assert "parking" in found[staff]
        assert found[other]
        assert "parking" not in found[other]
        page = f"{guarded}/domains/{DOMAIN}/documents/parking"
        assert httpx.get(page, headers=bearer(staff)).status_code == 200
        assert httpx.get(page, headers=bearer(other)).status_code == 404
        with httpx.Client(base_url=guarded, cookies={"bakeoff_key": other}) as browser:
            assert "5 documents" in browser.get("/").text
            assert browser.get(f"/domains/{DOMAIN}/documents/parking").status_code == 404
    finally:
        change_grants(database, DOMAIN, ["parking"], grant=["everyone"])


def test_a_browser_signs_in_and_out(guarded: str, make_key: MakeKey) -> None:
    secret = make_key("browser")
    with httpx.Client(base_url=guarded, headers={"accept": "text/html", "origin": guarded}) as browser:
        sent_away = browser.get("/")
        assert (sent_away.status_code, sent_away.headers["location"]) == (303, "/sign-in")
        form = browser.get("/sign-in")
        assert 'type="password"' in form.text
        assert "form-action 'self'" in form.headers["content-security-policy"]
        for wrong in ("", "wrong", "x" * 10_000, "<script>"):
            refused = browser.post("/sign-in", data={"key": wrong})
            assert refused.status_code == 401
            assert "set-cookie" not in refused.headers
            assert "<script>" not in refused.text
        entered = browser.post("/sign-in", data={"key": f" {secret} "})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "; secure" not in cookie
        home = browser.get("/")
        assert home.status_code == 200
        assert "Sign out" in home.text
        assert browser.post("/v1/chat/completions", json=BODY).status_code == 200
        left = browser.post("/sign-out")
        assert left.headers["location"] == "/sign-in"
        assert browser.get("/").status_code == 303


def test_the_cookie_is_secure_over_https(guarded: str, make_key: MakeKey) -> None:
    headers = {"x-forwarded-proto": "https", "origin": guarded.replace("http:", "https:")}
    entered = httpx.post(f"{guarded}/sign-in", data={"key": make_key("https")}, headers=headers)
    assert "; secure" in entered.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_a_cookie_serves_this_origin_only(
    guarded: str, make_key: MakeKey, headers: dict[str, str], status: int
) -> None:
    cookies = {"bakeoff_key": make_key("cookie")}
    with httpx.Client(base_url=guarded, cookies=cookies, headers=headers) as browser:
        assert browser.post("/v1/chat/completions", json=BODY).status_code == status
        assert browser.get("/v1/models").status_code == 200
    forged = httpx.post(f"{guarded}/sign-in", data={"key": cookies["bakeoff_key"]}, headers=headers)
    if headers.get("origin"):
        assert forged.status_code == 403


def test_an_open_service_is_open_to_this_machine_only(url: str) -> None:
    assert ask(url).status_code == 200
    assert ask(url, {"authorization": "Bearer none"}).status_code == 200
    assert ask(url, {"host": "localhost:8000"}).status_code == 200
    assert ask(url, {"host": "[::1]:8000"}).status_code == 200
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        refused = ask(url, headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed"), headers
    assert httpx.get(url, headers={"host": "evil.example"}).status_code == 403
    assert httpx.get(f"{url}/metrics").status_code == 200


def test_the_first_key_closes_an_open_service_at_once(url: str, home: Path) -> None:
    assert ask(url).status_code == 200
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        key, secret = create_key(connection, "first")
    assert ask(url).status_code == 401
    assert ask(url, bearer(secret)).status_code == 200
    with engine.begin() as connection:
        revoke_key(connection, key.id)
    engine.dispose()
    assert ask(url).status_code == 401
    assert ask(url, bearer(secret)).status_code == 401


def test_commands_go_on_working_when_keys_exist(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_HOME", str(home))
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        secret = create_key(connection, "Ann")[1]
    engine.dispose()
    with running_service(None, home) as service:
        assert httpx.get(f"{service.url}/v1/models").status_code == 401
        assert httpx.get(f"{service.url}/v1/models", headers=service.headers).status_code == 200
        assert service.api_key not in (home / "service.log").read_text()
        asked = ["ask", "Hi", "--domain", DOMAIN, "--mode", "base", "--max-tokens", "2", "--url", service.url]
        for api_key, status in ((secret, 0), ("", 1)):
            env = {**os.environ, "BAKEOFF_HOME": str(home), "BAKEOFF_API_KEY": api_key}
            command = [sys.executable, "-m", "bakeoff.cli.main", *asked]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
            assert done.returncode == status, done.stderr
        assert "no API key" in done.stderr
    lines = [json.loads(line) for line in (home / "service.log").read_text().splitlines() if line.startswith("{")]
    assert ("/v1/chat/completions", 200) in [(line.get("path"), line.get("status")) for line in lines]
    assert 401 in [line.get("status") for line in lines]
    assert "Keys are asked for" in (home / "service.log").read_text()
