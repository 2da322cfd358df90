"""Files: uploaded in a stream, kept under random names, listed in pages, gone when they expire or are deleted."""

import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI, PermissionDeniedError
from scripted_service import ScriptedGenerator, running
from sqlalchemy import Engine, update

from bakeoff.database import open_database
from bakeoff.errors import BadInput, NotFound
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from service.app import create_app
from service.callers import Caller
from service.openai.files.cabinet import Cabinet
from service.openai.files.checks import find_problem
from service.openai.files.folder import NewFile, sweep
from service.openai.files.records import find_file, list_files
from service.openai.files.upload import shown_name
from service.openai.pages import page
from service.tables import files_table

CHAT = '{"messages": [{"role": "user", "content": "Parking?"}, {"role": "assistant", "content": "Yes."}]}\n'
PAIR = (
    '{"input": {"messages": [{"role": "user", "content": "Hi"}]}, '
    '"preferred_output": [{"role": "assistant", "content": "Hello"}], '
    '"non_preferred_output": [{"role": "assistant", "content": "What"}]}\n'
)


def client_of(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, _strict_response_validation=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def address(place: Path, embedder: Embedder) -> Iterator[str]:
    """One service for this module; its largest file is 2 MiB."""
    settings = Settings(home=place, max_file_mib=2)
    with running(create_app(settings, generator=ScriptedGenerator(), embedder=embedder)) as url:
        yield url


@pytest.fixture
def client(address: str) -> OpenAI:
    return client_of(address)


@pytest.fixture
def database(place: Path) -> Iterator[Engine]:
    engine = open_database(Settings(home=place).url, place)
    yield engine
    engine.dispose()


def on_disk(place: Path) -> set[str]:
    return {path.name for path in (place / "files").iterdir()}


def test_a_file_comes_back_as_it_was_sent_and_goes_when_it_is_deleted(client: OpenAI, place: Path) -> None:
    content = os.urandom(1_500_000) + b"\r\n--not-a-boundary\r\n" + bytes(range(256))
    before = on_disk(place) if (place / "files").exists() else set()
    file = client.files.create(file=("menu.pdf", content), purpose="assistants")
    assert (file.bytes, file.filename, file.purpose, file.status) == (
        len(content),
        "menu.pdf",
        "assistants",
        "processed",
    )
    assert file.id.startswith("file-")
    assert abs(file.created_at - time.time()) < 60
    assert file.expires_at is None
    [name] = on_disk(place) - before
    path = place / "files" / name
    assert "menu" not in name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert client.files.retrieve(file.id) == file
    answer = client.files.content(file.id)
    assert answer.content == content
    assert answer.response.headers["content-type"] == "application/octet-stream"
    assert answer.response.headers["content-disposition"].startswith("attachment")
    assert answer.response.headers["x-content-type-options"] == "nosniff"
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)
    assert not path.exists()
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(NotFoundError) as caught:
            ask(file.id)
        assert caught.value.param == "file_id"


def test_a_list_comes_in_pages_and_by_purpose(client: OpenAI) -> None:
    for file in client.files.list():
        client.files.delete(file.id)
    assert client.files.list().data == []
    ids = [client.files.create(file=(f"{n}.txt", b"text"), purpose="user_data").id for n in range(5)]
    other = client.files.create(file=("b.jsonl", b"{}\n"), purpose="batch").id
    assert [file.id for file in client.files.list(limit=2)] == [other, *reversed(ids)]  # the client pages by itself
    first = client.files.list(limit=2, order="asc", purpose="user_data")
    assert ([file.id for file in first.data], first.has_more) == (ids[:2], True)
    last = client.files.list(limit=3, order="asc", purpose="user_data", after=ids[1])
    assert ([file.id for file in last.data], last.has_more) == (ids[2:], False)
    assert [file.id for file in client.files.list(purpose="batch")] == [other]
    for options, param, kind in (
        ({"limit": 0}, "limit", BadRequestError),
        ({"limit": 10_001}, "limit", BadRequestError),
        ({"after": "file-none"}, "after", NotFoundError),
        ({"order": "up"}, "order", BadRequestError),
    ):
        with pytest.raises(kind) as caught:
            client.files.list(**options)
        assert caught.value.param == param


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (CHAT * 3 + PAIR, None),
        ("\n" + CHAT + "\n", None),
        (CHAT + "not json\n", "line 2"),
        (CHAT + CHAT + '{"text": "x"}\n', "line 3: has neither"),
        ('{"messages": []}\n', "line 1: `messages` has to end"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', "role assistant"),
        ('{"messages": "x"}\n', "line 1"),
        ("[" * 5000 + "\n", "line 1"),
        ("\n \n", "no example"),
        ("\udcff\n", "line 1"),
        ('{"messages": "' + "x" * 9 * 2**20, "longer than 8 MiB"),
    ],
)
def test_a_file_for_training_is_looked_at(tmp_path: Path, content: str, problem: str | None) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content.encode(errors="surrogateescape"))
    found = find_problem(path)
    assert (found is None) if problem is None else (found is not None and problem in found), found


def test_what_is_wrong_with_a_file_for_training_is_told(client: OpenAI) -> None:
    good = client.files.create(file=("train.jsonl", CHAT.encode()), purpose="fine-tune")
    assert (good.status, good.status_details) == ("processed", None)
    bad = client.files.create(file=("train.jsonl", CHAT.encode() + b"{}\n"), purpose="fine-tune")
    assert bad.status == "error"
    assert "line 2" in str(bad.status_details)
    assert client.files.retrieve(bad.id).status == "error"


def test_an_expired_file_is_gone_and_is_swept_away(client: OpenAI, database: Engine, place: Path) -> None:
    file = client.files.create(
        file=("a.txt", b"soon gone"), purpose="vision", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    with database.begin() as connection:
        row = files_table.c.id == file.id
        connection.execute(update(files_table).where(row).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    with pytest.raises(NotFoundError):
        client.files.retrieve(file.id)
    assert file.id not in [found.id for found in client.files.list()]
    before = on_disk(place)
    cabinet = Cabinet(database, place, 1)
    cabinet.sweep(leftovers=False)
    assert len(before - on_disk(place)) == 1


def raw_upload(url: str, body: bytes, kind: str = "multipart/form-data; boundary=b") -> httpx.Response:
    return httpx.post(f"{url}/v1/files", content=body, headers={"content-type": kind})


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + value + b"\r\n"


END = b"--b--\r\n"
PURPOSE = part("purpose", b"user_data")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, "file"),
        (END, 400, "file"),
        (PURPOSE + END, 400, "file"),
        (part("file", b"", "a.txt") + PURPOSE + END, 400, "file"),
        (part("file", b"x", "a.txt") + END, 400, "purpose"),
        (part("file", b"x", "a.txt") + part("purpose", b"fun") + END, 400, "purpose"),
        (part("file", b"x", "a.txt") + part("purpose", b"\xff") + END, 400, "purpose"),
        (part("file", b"x", "a.txt") + part("purpose", b"x" * 2000) + END, 400, "purpose"),
        (part("file", b"x", "a.txt") + PURPOSE + part("colour", b"red") + END, 400, "colour"),
        (part("file", b"x", "a.txt") + part("file", b"y", "b.txt") + PURPOSE + END, 400, "file"),
        (part("file", b"x", "a.txt") + PURPOSE, 400, "file"),  # cut off
        (part("file", b"x", "a.txt") + PURPOSE + part("expires_after[seconds]", b"60") + END, 400, None),
        (
            part("file", b"x", "a.txt")
            + PURPOSE
            + part("expires_after[anchor]", b"created_at")
            + part("expires_after[seconds]", b"60")
            + END,
            400,
            "expires_after.seconds",
        ),
        (PURPOSE * 20 + END, 400, None),
        (part("file", b"x" * (2 * 2**20 + 1), "a.txt") + PURPOSE + END, 413, None),
        (part("file", b"x" * (5 * 2**20), "a.txt") + PURPOSE + END, 413, None),
    ],
)
def test_a_bad_form_is_refused_and_leaves_nothing_behind(
    address: str, place: Path, body: bytes, status: int, param: str | None
) -> None:
    before = on_disk(place)
    answer = raw_upload(address, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "invalid_request_error"), error
    if param is not None:
        assert error["param"] == param
    assert on_disk(place) == before


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary="])
def test_a_body_that_is_no_form_is_refused(address: str, kind: str) -> None:
    answer = raw_upload(address, b"{}", kind)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


def test_the_file_may_come_before_the_purpose(address: str) -> None:
    answer = raw_upload(address, part("file", b"x", "a.txt") + PURPOSE + END)
    assert answer.status_code == 200
    assert answer.json()["purpose"] == "user_data"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("a\r\nx-evil: 1.txt", "ax-evil: 1.txt"),
        ("..", "upload"),
        ("", "upload"),
        ("/", "upload"),
        ("\u202eexe.pdf", "exe.pdf"),
        ("é" * 300 + ".pdf", "é" * 251 + ".pdf"),
    ],
)
def test_a_clients_name_is_only_shown(given: str, shown: str) -> None:
    assert shown_name(given) == shown


def test_a_hostile_name_harms_nothing(client: OpenAI, place: Path) -> None:
    before = set(place.iterdir())
    file = client.files.create(file=('../..\\"; filename*=x\r\n.txt', b"text"), purpose="evals")
    assert "/" not in file.filename
    assert file.purpose == "user_data"
    answer = client.files.content(file.id)
    assert answer.content == b"text"
    assert set(place.iterdir()) == before


def test_a_crash_leaves_nothing_for_long(database: Engine, place: Path) -> None:
    cabinet = Cabinet(database, place, 1)
    left = cabinet.folder / "left-behind"
    left.write_bytes(b"half")
    new = NewFile(cabinet.folder)
    new.write(b"being written")
    cabinet.sweep(leftovers=True)
    assert not left.exists()
    assert new.path.exists()
    now = datetime.now(UTC)
    file = cabinet.keep(new, "a.txt", "user_data", "", now, None)
    cabinet.sweep(leftovers=True)
    assert cabinet.path(file).read_bytes() == b"being written"
    cabinet.delete(file)


def test_a_row_that_comes_while_leftovers_are_swept_keeps_its_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    answers = iter([set(), {"a"}])
    assert sweep(tmp_path, lambda: next(answers)) == 0
    assert (tmp_path / "a").exists()


def test_a_file_whose_row_cannot_be_written_is_gone(tmp_path: Path) -> None:
    new = NewFile(tmp_path)
    new.write(b"text")

    def fail() -> None:
        raise BadInput("no")

    with pytest.raises(BadInput):
        new.keep(fail)
    new.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing_behind(place: Path, address: str, monkeypatch: Any) -> None:
    before = on_disk(place)

    def write(self: NewFile, data: bytes) -> None:
        with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
            self._file, kept = full, self._file  # type: ignore[assignment]
            try:
                original(self, data)
            finally:
                self._file = kept

    original = NewFile.write
    monkeypatch.setattr(NewFile, "write", write)
    with pytest.raises(APIStatusError) as caught:
        client_of(address).files.create(file=("a.txt", b"text"), purpose="user_data")
    assert caught.value.status_code == 507
    assert (caught.value.type, caught.value.code) == ("server_error", "disk_full")
    assert on_disk(place) == before


def test_a_key_sees_its_own_files_only(database: Engine, place: Path) -> None:
    cabinet = Cabinet(database, place, 1)
    new = NewFile(cabinet.folder)
    new.write(b"text")
    file = cabinet.keep(new, "a.txt", "user_data", "key_1", datetime.now(UTC), None)
    one, other = Caller("key_1"), Caller("key_2")
    with database.connect() as connection:
        assert find_file(connection, file.id, one) == file
        assert file in list_files(connection, one)
        assert list_files(connection, other) == []
        with pytest.raises(NotFound) as theirs:
            find_file(connection, file.id, other)
        with pytest.raises(NotFound) as nobodys:
            find_file(connection, "file-none", other)
        assert str(theirs.value).replace(file.id, "") == str(nobodys.value).replace("file-none", "")
    cabinet.delete(file)


class Thing:
    def __init__(self, number: int) -> None:
        self.id = f"t{number}"


@pytest.mark.parametrize(
    ("options", "ids", "has_more"),
    [
        ({}, "98765", True),
        ({"order": "asc", "limit": 3}, "012", True),
        ({"after": "t3", "order": "asc"}, "45678", True),
        ({"after": "t4", "order": "asc"}, "56789", False),
        ({"after": "t9", "order": "asc"}, "", False),
        ({"before": "t3", "order": "asc"}, "012", False),
        ({"before": "t8", "order": "asc", "limit": 2}, "67", True),
        ({"after": "t2", "before": "t5", "order": "asc"}, "34", False),
        ({"before": "t8"}, "9", False),
    ],
)
def test_a_page_is_what_stands_next_to_its_cursor(options: dict[str, Any], ids: str, has_more: bool) -> None:
    found = page([Thing(number) for number in range(10)], **{"default_limit": 5, "max_limit": 5, **options})
    assert "".join(thing.id[1:] for thing in found.data) == ids
    assert found.has_more is has_more
    assert (found.first_id, found.last_id) == ((f"t{ids[0]}", f"t{ids[-1]}") if ids else ("", ""))


def test_a_key_that_may_only_ask_uploads_nothing(place: Path, embedder: Embedder, tmp_path: Path) -> None:
    from bakeoff.keys import create_key

    engine = open_database(Settings(home=tmp_path).url, tmp_path)
    with engine.begin() as connection:
        _, asks = create_key(connection, "asks")
        _, manages = create_key(connection, "manages", manages=True)
    with running(create_app(Settings(home=tmp_path), generator=ScriptedGenerator(), embedder=embedder)) as url:
        with pytest.raises(PermissionDeniedError):
            client_of(url).with_options(api_key=asks).files.create(file=("a.txt", b"text"), purpose="user_data")
        file = client_of(url).with_options(api_key=manages).files.create(file=("a.txt", b"text"), purpose="user_data")
        with pytest.raises(NotFoundError):
            client_of(url).with_options(api_key=asks).files.content(file.id)
