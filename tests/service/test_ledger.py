"""Every answer is written down: what is lost when, what is erased, and asking again."""

import asyncio
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_service import DOMAIN, ScriptedGenerator
from sqlalchemy import Engine, event, insert, text
from sqlalchemy.exc import OperationalError
from stored_answers import make_answer

import service.ledger
from bakeoff.database import open_database
from bakeoff.domains import delete_domain, ensure_domain
from bakeoff.errors import NotFound
from bakeoff.modes import find_mode
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from retrieval.store import add_documents
from service.archive import Wanted, erase_answer, erase_answers, find_answer, list_answers
from service.ledger import Ledger
from service.parts import make_answerer
from service.replay import Replay, replay
from service.tables import stored_objects_table


@pytest.fixture
def ledger(engine: Engine) -> Iterator[Ledger]:
    """A ledger over a database with the domain `d`; its thread does not run."""
    with engine.begin() as connection:
        ensure_domain(connection, "d")
    return Ledger(engine)


def ids(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(answer.id for answer in list_answers(connection, Wanted(), 1000))


def wait_for_answers(home: Path, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 10
    while True:
        with sqlite3.connect(home / "bakeoff.db") as connection:
            connection.row_factory = sqlite3.Row
            rows = [dict(row) for row in connection.execute("SELECT * FROM answers ORDER BY created_at, id, choice")]
        if len(rows) >= count:
            return rows
        assert time.monotonic() < deadline, rows
        time.sleep(0.05)


def test_an_answer_comes_back_as_it_was_recorded(ledger: Ledger, engine: Engine) -> None:
    answer = make_answer(metadata={"a": "b"}, user="Ann", choice=2)
    ledger.record(answer)
    ledger.flush()
    with engine.connect() as connection:
        assert find_answer(connection, answer.id, 2) == answer
        with pytest.raises(NotFound, match="choice 0"):
            find_answer(connection, answer.id)


def test_a_locked_database_keeps_them_waiting(
    ledger: Ledger, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service.ledger, "RETRY_AFTER_S", 0.05)
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
    engine.dispose()
    assert engine.url.database is not None
    lock = sqlite3.connect(engine.url.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    ledger.start()
    ledger.record(make_answer(completion="a secret"))
    deadline = time.monotonic() + 10
    while not caplog.records:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "database is locked" in caplog.text
    assert "secret" not in caplog.text
    assert ids(engine) == []
    lock.execute("ROLLBACK")
    ledger.close()
    assert ids(engine) == ["chatcmpl-1"]
    assert (ledger.num_written, ledger.num_dropped, ledger.num_waiting) == (1, 0, 0)


def test_a_full_disk_keeps_them_until_there_is_room(ledger: Ledger, engine: Engine) -> None:
    pages = "PRAGMA max_page_count={}".format
    event.listen(engine, "checkout", lambda connection, *_: connection.execute(limit))
    limit = pages(1)  # SQLite takes the present size, where that is more
    for number in range(40):
        ledger.record(make_answer(id=f"a{number}", completion="x" * 10_000))
    with pytest.raises(OperationalError, match="full"):
        ledger.flush()
    assert ledger.num_waiting == 40
    limit = pages(100_000)
    ledger.flush()
    assert len(ids(engine)) == 40
    assert ledger.num_waiting == 0


def test_memory_is_bounded_and_the_loss_is_counted(ledger: Ledger, engine: Engine, monkeypatch: Any) -> None:
    monkeypatch.setattr(service.ledger, "MAX_WAITING", 10)
    for number in range(15):
        ledger.record(make_answer(id=f"a{number:02}"))
    assert (ledger.num_waiting, ledger.num_dropped) == (10, 5)
    ledger.flush()
    assert ids(engine) == [f"a{number:02}" for number in range(5, 15)]


def test_answers_of_a_deleted_domain_hold_up_no_others(
    ledger: Ledger, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as connection:
        ensure_domain(connection, "gone")
    for number in range(4):
        ledger.record(make_answer(id=f"a{number}", domain="gone" if number % 2 else "d", completion="a secret"))
    with engine.begin() as connection:
        delete_domain(connection, "gone")
    ledger.flush()
    assert ids(engine) == ["a0", "a2"]
    assert (ledger.num_written, ledger.num_dropped, ledger.num_waiting) == (2, 2, 0)
    assert "not stored id=a1" in caplog.text
    assert "secret" not in caplog.text


def test_text_that_no_database_takes_is_mended(ledger: Ledger, engine: Engine) -> None:
    ledger.record(make_answer(id="a", completion="\ud800 half", user="u" * 500, metadata={"a\0": "b\0c"}))
    ledger.record(make_answer(id="c", completion="zebra 🦓"))
    ledger.flush()
    assert ids(engine) == ["a", "c"]
    with engine.connect() as connection:
        answer = find_answer(connection, "a")
        assert (answer.completion, len(answer.user), answer.metadata) == ("? half", 200, {"a\ufffd": "b\ufffdc"})
        assert find_answer(connection, "c").completion == "zebra 🦓"


RECORDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from stored_answers import make_answer
from bakeoff.database import open_database
from service.ledger import Ledger
ledger = Ledger(open_database(f"sqlite:///{sys.argv[1]}", Path(sys.argv[1]).parent))
ledger.start()
for number in range(100_000):
    ledger.record(make_answer(id=f"a{number:06}"))
    print(number, time.time(), flush=True)
    time.sleep(0.002)
"""


def test_a_crash_loses_no_more_than_the_last_moments(ledger: Ledger, engine: Engine) -> None:
    command = [sys.executable, "-c", RECORDER, str(engine.url.database)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    recorded = []
    for line in process.stdout:
        number, at = line.split()
        recorded.append((int(number), float(at)))
        if len(recorded) == 500:
            process.send_signal(signal.SIGKILL)
            killed_at = time.time()
    process.wait()
    written = len(ids(engine))
    assert ids(engine) == [f"a{number:06}" for number in range(written)]
    lost = [at for number, at in recorded if number >= written]
    slack_s = 0.3  # one write, on a busy machine
    assert all(at > killed_at - service.ledger.WRITE_EVERY_S - slack_s for at in lost), (len(lost), written)
    assert written > 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_recorded(url: str, home: Path, stream: bool) -> None:
    body = {"model": f"{DOMAIN}/base", "messages": [{"role": "user", "content": "for ever"}], "stream": stream}
    try:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=0.5) as response:
            lines = response.iter_lines()
            next(lines)
    except httpx.ReadTimeout:
        assert not stream
    [row] = wait_for_answers(home, 1)
    assert (row["error"], row["finish_reason"]) == ("left", None)
    assert row["completion"].startswith("Yes, more ")


def test_what_fails_is_recorded_with_its_kind(url: str, home: Path) -> None:
    for content in ("engine down", "fail midway", "good"):
        body = {"model": f"{DOMAIN}/rag", "messages": [{"role": "user", "content": content}], "user": "Ann"}
        httpx.post(f"{url}/v1/chat/completions", json=body)
    down, midway, good = wait_for_answers(home, 3)
    assert (down["error"], down["completion"]) == ("EngineDown", "")
    assert (midway["error"], midway["completion"]) == ("EngineDown", "Yes, ")
    assert (good["error"], good["finish_reason"], good["user"]) == (None, "stop", "Ann")
    assert good["first_token_ms"] <= good["total_ms"]


def test_answers_are_erased_with_what_clients_stored_of_them(ledger: Ledger, engine: Engine, tmp_path: Path) -> None:
    old = datetime.now(UTC) - timedelta(days=40)
    for name, change in {
        "a1": {"created_at": old},
        "a2": {"user": "Ann"},
        "a3": {"owner": "key_1"},
        "a4": {"completion": "zebraword"},
    }.items():
        ledger.record(make_answer(id=name, **change))
    ledger.record(make_answer(id="a4", choice=1))
    ledger.flush()
    with engine.begin() as connection:
        row = {"kind": "chat.completion", "owner": "", "domain": "d", "created_at": old, "model": "d/rag"}
        row |= {"metadata": {}, "input": [], "body": {}}
        connection.execute(
            insert(stored_objects_table), [{**row, "id": "a3"}, {**row, "id": "a4", "body": {"text": "zebraword"}}]
        )
    assert erase_answers(engine, Wanted(before=datetime.now(UTC) - timedelta(days=30))) == 1
    assert erase_answers(engine, Wanted(user="Ann")) == 1
    assert erase_answers(engine, Wanted(user="Ann")) == 0
    assert erase_answer(engine, "a4") == 2
    with pytest.raises(NotFound, match="bakeoff answers list"):
        erase_answer(engine, "a4")
    assert ids(engine) == ["a3"]
    with engine.connect() as connection:
        assert list(connection.scalars(text("SELECT id FROM stored_objects"))) == ["a3"]
    for path in tmp_path.glob("bakeoff.db*"):
        assert b"zebraword" not in path.read_bytes(), path


def run(home: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "bakeoff.cli.main", *words, "--json"]
    env = {**os.environ, "BAKEOFF_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_purging_a_document_erases_the_answers_made_from_it(url: str, home: Path) -> None:
    for mode, question in (("rag", "What does parking cost?"), ("base", "What does parking cost?")):
        body = {"model": f"{DOMAIN}/{mode}", "messages": [{"role": "user", "content": question}]}
        httpx.post(f"{url}/v1/chat/completions", json=body)
    rag, base = wait_for_answers(home, 2)
    shown = run(home, "answers", "show", rag["id"])
    assert shown["completion"] == "Yes, for 10 pounds [1]. "
    assert [row["id"] for row in run(home, "answers", "list")["answers"]] == [base["id"], rag["id"]]
    assert run(home, "documents", "purge", "parking", "--domain", DOMAIN, "--yes")["answers"] == 1
    assert [row["id"] for row in run(home, "answers", "list")["answers"]] == [base["id"]]
    assert run(home, "answers", "purge", "--domain", DOMAIN, "--before", "2099-01-01", "--yes") == {"erased": 1}


def test_a_question_is_asked_again_under_its_own_conditions(
    url: str, home: Path, embedder: Embedder, scripted: ScriptedGenerator
) -> None:
    body = {"model": f"{DOMAIN}/rag", "messages": [{"role": "user", "content": "What does parking cost?"}]}
    asked = httpx.post(f"{url}/v1/chat/completions", json={**body, "temperature": 0, "max_tokens": 9}).json()["id"]
    wait_for_answers(home, 1)
    settings = Settings(home=home)
    engine = open_database(settings.url, home)
    with engine.connect() as connection:
        answer = find_answer(connection, asked)
    generator = ScriptedGenerator()
    answerer, _ = make_answerer(settings, engine, generator, embedder)

    def again(mode: str | None = None) -> Replay:
        return asyncio.run(replay(answerer, generator, answer, find_mode(mode) if mode else None))

    same = again()
    assert (same.same_prompt, same.same_passages, same.same_completion, same.reasons) == (True, True, True, ())
    assert generator.asked == scripted.asked
    parking = Document("parking", "Parking", "Parking behind the hotel costs 99 pounds per night.")
    add_documents(engine, DOMAIN, [parking], embedder, lambda *_: None)
    still = again()
    assert (still.same_prompt, still.same_passages, still.now.epoch) == (True, True, answer.epoch)
    generator.reply = "No."
    other = again()
    assert (other.same_prompt, other.same_completion, other.now.completion) == (True, False, "No. ")
    base = again("base")
    assert (base.same_prompt, base.now.chunk_ids) == (False, ())
    assert "asked in mode base now, in rag then" in base.reasons
    engine.dispose()


def test_no_log_holds_what_was_said(url: str, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for content in ("zebraword", "zebraword fail midway", "zebraword engine down"):
        body = {"model": f"{DOMAIN}/rag", "messages": [{"role": "user", "content": content}], "stream": True}
        httpx.post(f"{url}/v1/chat/completions", json=body)
    wait_for_answers(home, 3)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert "zebraword" not in " ".join(ours)
