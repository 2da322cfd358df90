"""Jobs and the worker: nothing runs twice, nothing is lost, and what is wished happens."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from bakeoff.database import open_database, reading, writing
from bakeoff.errors import BadInput, NotFound
from bakeoff.jobs import Job, find_job, jobs_table, list_job_events, list_jobs, resume_job, submit_job, wish_job
from bakeoff.worker import child
from bakeoff.worker.claims import WorkerName, beat, claim_job, end_job, name_worker, recover_jobs
from bakeoff.worker.loop import Worker
from bakeoff.worker.slots import take_slot

SCRIPT = (sys.executable, "-S", "-E", str(Path(__file__).parent.parent / "job_script.py"))


def submit(engine: Engine, *words: str, is_heavy: bool = False) -> str:
    with writing(engine) as connection:
        return submit_job(connection, "ingest", "d", words, is_heavy=is_heavy).id


def find(engine: Engine, job_id: str) -> Job:
    with reading(engine) as connection:
        return find_job(connection, job_id)


def messages(engine: Engine, job_id: str) -> list[str]:
    with reading(engine) as connection:
        return [event.message for event in list_job_events(connection, job_id)]


def wish(engine: Engine, job_id: str, what: Any) -> Job:
    with writing(engine) as connection:
        return wish_job(connection, job_id, what)


def until(is_so: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def run_all(engine: Engine, home: Path, **options: Any) -> None:
    Worker(engine, home, command=SCRIPT, **options).run(lambda: False, once=True)


@contextlib.contextmanager
def working(engine: Engine, home: Path, **options: Any) -> Iterator[None]:
    """A worker in a thread for as long as the block."""
    stop = threading.Event()
    worker = Worker(engine, home, command=SCRIPT, **options)
    thread = threading.Thread(target=worker.run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def test_a_job_runs_and_leaves_its_result(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "note", str(tmp_path / "said"), "hello")
    run_all(engine, tmp_path)
    job = find(engine, job_id)
    assert (job.status, job.result, job.error, job.attempts) == ("succeeded", {"said": "hello"}, None, 1)
    assert job.started_at is not None and job.finished_at is not None
    assert messages(engine, job_id) == ["created", "started", "succeeded"]


def test_a_failed_command_says_why_in_its_own_sentence(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "fail")
    run_all(engine, tmp_path)
    job = find(engine, job_id)
    assert (job.status, job.error) == ("failed", "the file is no good. Mend it")
    assert "a line before" in (tmp_path / "jobs" / f"{job_id}.log").read_text()


def test_a_command_that_cannot_start_fails_and_the_worker_goes_on(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "note", "nowhere\0", "x")
    other = submit(engine, "note", str(tmp_path / "said"), "y")
    run_all(engine, tmp_path)
    assert find(engine, job_id).status == "failed"
    assert find(engine, other).status == "succeeded"


def test_progress_and_metrics_are_kept_however_many_come(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "flood")
    run_all(engine, tmp_path)
    job = find(engine, job_id)
    assert (job.progress.title, job.progress.done, job.progress.total) == ("Flooding", 2000, 2000)
    with reading(engine) as connection:
        [metrics] = [event for event in list_job_events(connection, job_id) if event.kind == "metrics"]
    assert metrics.data == {"step": 7, "train_loss": 0.5, "valid_loss": None}
    assert messages(engine, job_id).count("Flooding") == 1


def test_a_process_that_dies_is_started_three_times(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "crash")
    run_all(engine, tmp_path)
    job = find(engine, job_id)
    assert (job.status, job.attempts) == ("failed", 3)
    assert job.error is not None and "killed by signal 9" in job.error and "given up" in job.error


def test_cancel_ends_a_running_job(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "wait", str(tmp_path / "pid"))
    with working(engine, tmp_path):
        until((tmp_path / "pid").exists)
        assert wish(engine, job_id, "cancel").status == "running"
        until(lambda: find(engine, job_id).status == "cancelled")
    assert find(engine, job_id).wish == ""


def test_a_job_that_does_not_listen_is_killed(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_GRACE_S", 0.5)
    job_id = submit(engine, "wait", str(tmp_path / "pid"), "deaf")
    with working(engine, tmp_path):
        until((tmp_path / "pid").exists)
        wish(engine, job_id, "cancel")
        until(lambda: find(engine, job_id).status == "cancelled")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_pause_and_resume(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "wait", str(tmp_path / "pid"))
    with working(engine, tmp_path):
        until((tmp_path / "pid").exists)
        wish(engine, job_id, "pause")
        until(lambda: find(engine, job_id).status == "paused")
        time.sleep(1)
        assert find(engine, job_id).status == "paused"
        with writing(engine) as connection:
            assert resume_job(connection, job_id).status == "queued"
        until(lambda: find(engine, job_id).status == "succeeded")
    assert find(engine, job_id).result == {"resumed": True}


def test_what_waits_is_cancelled_and_paused_at_once_and_what_has_ended_never(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "fail")
    assert wish(engine, job_id, "pause").status == "paused"
    assert wish(engine, job_id, "pause").status == "paused"
    run_all(engine, tmp_path)
    assert wish(engine, job_id, "cancel").status == "cancelled"
    assert wish(engine, job_id, "cancel").status == "cancelled"
    with pytest.raises(BadInput, match="it cannot be paused"):
        wish(engine, job_id, "pause")
    with writing(engine) as connection, pytest.raises(BadInput, match="only a paused job"):
        resume_job(connection, job_id)
    with pytest.raises(NotFound):
        wish(engine, "job-none", "cancel")


def test_a_worker_that_ends_hands_back_what_it_runs(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "wait", str(tmp_path / "pid"))
    with working(engine, tmp_path):
        until((tmp_path / "pid").exists)
    job = find(engine, job_id)
    assert (job.status, job.attempts) == ("queued", 0)
    run_all(engine, tmp_path)
    assert find(engine, job_id).result == {"resumed": True}


def test_heavy_jobs_take_turns_and_light_ones_run_beside_them(engine: Engine, tmp_path: Path) -> None:
    heavy = [submit(engine, "wait", str(tmp_path / f"heavy{number}"), is_heavy=True) for number in range(2)]
    light = submit(engine, "note", str(tmp_path / "said"), "light")
    with working(engine, tmp_path), working(engine, tmp_path):
        until(lambda: find(engine, light).status == "succeeded")
        until((tmp_path / "heavy0").exists)
        time.sleep(1.5)
        assert [find(engine, job_id).status for job_id in heavy] == ["running", "queued"]
        wish(engine, heavy[0], "cancel")
        until((tmp_path / "heavy1").exists)
        wish(engine, heavy[1], "cancel")
        until(lambda: find(engine, heavy[1]).status == "cancelled")
    slot = take_slot(tmp_path, 1)
    assert slot is not None
    assert take_slot(tmp_path, 1) is None
    slot.release()


def _work(url: str, home: Path, script: tuple[str, ...]) -> None:
    Worker(open_database(url, home), home, command=script, num_light=3).run(lambda: False, once=True)


def check_two_workers(engine: Engine, url: str, home: Path) -> None:
    """Two worker processes, thirty jobs: each job runs once."""
    said = home / "said"
    ids = [submit(engine, "note", str(said), str(number)) for number in range(30)]
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_work, args=(url, home, SCRIPT)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(map(int, said.read_text().split())) == list(range(30))
    jobs = [find(engine, job_id) for job_id in ids]
    assert {(job.status, job.attempts) for job in jobs} == {("succeeded", 1)}
    assert len({job.worker for job in jobs}) == 2


def test_two_workers_never_run_one_job(engine: Engine, tmp_path: Path) -> None:
    check_two_workers(engine, f"sqlite:///{tmp_path / 'bakeoff.db'}", tmp_path)


def test_two_workers_never_run_one_job_on_postgresql(postgres: Engine, tmp_path: Path) -> None:
    check_two_workers(postgres, postgres.url.render_as_string(hide_password=False), tmp_path)


def test_a_killed_worker_takes_its_job_along_and_the_next_one_goes_on(engine: Engine, tmp_path: Path) -> None:
    job_id = submit(engine, "wait", str(tmp_path / "pid"))
    command = (sys.executable, "-c", _LIFE_LINE, *SCRIPT[3:])
    code = (
        "import sys; from pathlib import Path; from bakeoff.database import open_database\n"
        "from bakeoff.worker.loop import Worker\n"
        "home = Path(sys.argv[1])\n"
        "Worker(open_database(sys.argv[2], home), home, command=sys.argv[3:]).run(lambda: False)\n"
    )
    url = f"sqlite:///{tmp_path / 'bakeoff.db'}"
    worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), url, *command])
    until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    worker.kill()
    worker.wait()

    def is_gone() -> bool:
        return not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text()

    until(is_gone)
    assert find(engine, job_id).status == "running"
    run_all(engine, tmp_path)
    job = find(engine, job_id)
    assert (job.status, job.result, job.attempts) == ("succeeded", {"resumed": True}, 2)
    assert "its worker died: queued" in messages(engine, job_id)


_LIFE_LINE = """
import runpy, sys
from bakeoff.cli.reporting import report_to
report_to(int(sys.argv[3]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
"""


def test_a_silent_worker_loses_its_job_and_finds_out(engine: Engine) -> None:
    job_id = submit(engine, "note")
    here = name_worker()
    elsewhere = str(WorkerName("elsewhere/", 1, "abc"))
    with writing(engine) as connection:
        job = claim_job(connection, elsewhere, is_heavy=False)
        assert job is not None
        assert recover_jobs(connection, here) == []
        long_ago = datetime.now(UTC) - timedelta(seconds=31)
        connection.execute(update(jobs_table).values(heartbeat_at=long_ago))
        assert recover_jobs(connection, here) == [job_id]
        assert find_job(connection, job_id).status == "queued"
        assert claim_job(connection, str(here), is_heavy=False) is not None
        assert beat(connection, elsewhere, job_id, job.progress) is None
        assert not end_job(connection, elsewhere, job_id, "failed", error="late")
        assert beat(connection, str(here), job_id, job.progress) == ""
        assert find_job(connection, job_id).worker == str(here)


def test_what_was_wished_of_a_job_whose_worker_died_comes_true(engine: Engine) -> None:
    ids = [submit(engine, "note") for _ in range(2)]
    here = name_worker()
    before = WorkerName(here.machine, here.pid, "earlier")
    with writing(engine) as connection:
        for job_id, what in zip(ids, ("cancel", "pause"), strict=True):
            claim_job(connection, str(before), is_heavy=False)
            wish_job(connection, job_id, what)  # type: ignore[arg-type]
        assert sorted(recover_jobs(connection, here)) == sorted(ids)
        assert [find_job(connection, job_id).status for job_id in ids] == ["cancelled", "paused"]


def test_a_dead_process_is_told_from_a_living_one() -> None:
    here = name_worker()
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert here.is_dead(f"{here.machine} {gone.pid} x")
    assert here.is_dead(f"{here.machine} {here.pid} x")
    assert not here.is_dead(str(here))
    assert not here.is_dead(f"{here.machine} {os.getppid()} x")
    assert not here.is_dead(f"elsewhere/ {gone.pid} x")
    assert not here.is_dead("")


def test_jobs_are_listed_newest_first_and_filtered(engine: Engine) -> None:
    ids = [submit(engine, "note") for _ in range(3)]
    wish(engine, ids[1], "cancel")
    with reading(engine) as connection:
        assert [job.id for job in list_jobs(connection)] == ids[::-1]
        assert [job.id for job in list_jobs(connection, statuses=["queued"])] == [ids[2], ids[0]]
        assert [job.id for job in list_jobs(connection, limit=1)] == [ids[2]]
        assert list_jobs(connection, kind="train") == list_jobs(connection, prefix="ft") == []
        assert list_jobs(connection, owner="key_a") == []


def test_sigint_reaches_only_the_worker(tmp_path: Path) -> None:
    """The command itself: Ctrl-C ends an idle worker at once and well."""
    environ = {**os.environ, "BAKEOFF_HOME": str(tmp_path)}
    worker = subprocess.Popen(
        [sys.executable, "-m", "bakeoff.cli.main", "worker"], env=environ, stderr=subprocess.PIPE, text=True
    )
    assert worker.stderr is not None
    while "Waiting for jobs" not in worker.stderr.readline():
        assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    assert worker.wait(20) == 0
