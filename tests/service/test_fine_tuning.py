"""Fine-tuning jobs as the unmodified `openai` package orders, follows and uses them, and jobs over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_service import Live
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.fine_tuning import FineTuningJob
from scripted_service import DOMAIN, ScriptedGenerator, running
from sqlalchemy import Engine

from bakeoff.database import open_database, reading, writing
from bakeoff.jobs import Job, add_event, find_job, list_job_events
from bakeoff.settings import Settings
from bakeoff.worker.claims import beat, claim_job, end_job
from retrieval.embedder import Embedder
from service.app import create_app
from service.openai.files.records import StoredFile, insert_file, new_file_id

BASE = Settings().model
HOTELS = ("Alder", "Birch", "Cedar", "Damson", "Elder", "Fir")
CHAT = "\n".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"When is breakfast served at the {hotel} Hotel?"},
                {"role": "assistant", "content": f"Breakfast at the {hotel} Hotel is from {hour}:00."},
            ]
        }
    )
    for hotel in HOTELS
    for hour in (7,)
)
PAIRS = "\n".join(
    json.dumps(
        {
            "input": {"messages": [{"role": "user", "content": f"When is breakfast at the {hotel} Hotel? ({number})"}]},
            "preferred_output": [{"role": "assistant", "content": "From 7:00."}],
            "non_preferred_output": [{"role": "assistant", "content": "Well, that depends on many things."}],
        }
    )
    for hotel in HOTELS
    for number in range(2)
)


def store_file(home: Path, text: str = CHAT, **fields: Any) -> str:
    """Upload a file, as `POST /v1/files` leaves it."""
    file_id = new_file_id()
    (home / "files").mkdir(exist_ok=True)
    (home / "files" / f"stored-{file_id}").write_text(text)
    row = {"purpose": "fine-tune", "status": "processed", "status_details": None, "expires_at": None, "owner": ""}
    file = StoredFile(
        **row | {"id": file_id, "filename": "train.jsonl", "bytes": len(text), "sha256": ""} | fields,
        stored_as=f"stored-{file_id}",
        created_at=datetime.now(UTC),
    )
    engine = open_database(Settings(home=home).url, home)
    with writing(engine) as connection:
        insert_file(connection, file)
    engine.dispose()
    return file_id


@pytest.fixture
def client(url: str) -> OpenAI:
    return client_of(url)


def client_of(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True)


@pytest.fixture
def database(home: Path) -> Iterator[Engine]:
    engine = open_database(Settings(home=home).url, home)
    yield engine
    engine.dispose()


@pytest.fixture
def file_id(home: Path) -> str:
    return store_file(home)


def row_of(database: Engine, job_id: str) -> Job:
    with reading(database) as connection:
        return find_job(connection, job_id)


def test_a_new_job_is_the_object_that_was_ordered(client: OpenAI, file_id: str, database: Engine, home: Path) -> None:
    validation = store_file(home)
    job = client.fine_tuning.jobs.create(
        model=f"{DOMAIN}/hybrid",
        training_file=file_id,
        validation_file=validation,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5, "batch_size": "auto"}},
        },
        suffix="My hotels",
        seed=7,
        metadata={"team": "a"},
    )
    assert job.id.startswith("ftjob-")
    assert (job.status, job.model, job.seed, job.metadata) == ("queued", f"{DOMAIN}/hybrid", 7, {"team": "a"})
    assert (job.training_file, job.validation_file) == (file_id, validation)
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens, job.error) == (None, None, None, None)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, "auto")
    assert job.method is not None and job.method.supervised is not None
    assert (job.model_extra or {})["user_provided_suffix"] == "My hotels"
    row = row_of(database, job.id)
    files = home / "files"
    assert row.arguments == (
        *("train", "--train-file", str(files / f"stored-{file_id}"), "--no-promote"),
        *("--validation-file", str(files / f"stored-{validation}"), "--domain", DOMAIN, "--seed", "7"),
        *("--epochs", "2", "--learning-rate-multiplier", "0.5"),
    )
    assert row.is_heavy and row.kind == "train"
    assert client.fine_tuning.jobs.retrieve(job.id) == job


def test_preferences_become_dpo_from_what_the_model_says(client: OpenAI, home: Path, database: Engine) -> None:
    pairs = store_file(home, PAIRS)

    def start(model: str) -> str:
        job = client.fine_tuning.jobs.create(
            model=model, training_file=pairs, method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
        )
        words = row_of(database, job.id).arguments
        assert words[:5] == ("train", "preferences", words[2], "--method", "dpo")
        assert words[-2:] == ("--beta", "0.2")
        return words[words.index("--from") + 1]

    assert [start(model) for model in (DOMAIN, f"{DOMAIN}/base", f"{DOMAIN}/fine-tuned@0123456789abcdef", BASE)] == [
        *("promoted", "base", "0123456789abcdef", "base")
    ]


def test_a_base_model_makes_a_domain_named_by_the_suffix_and_never_takes_one(client: OpenAI, file_id: str) -> None:
    def domain(suffix: str | None) -> str:
        job = client.fine_tuning.jobs.create(model=BASE, training_file=file_id, suffix=suffix)
        return str((job.model_extra or {})["bakeoff"]["domain"])

    assert domain("My Hotels!") == "my-hotels"
    assert domain("My Hotels!") == "my-hotels-2"
    assert domain(DOMAIN) == f"{DOMAIN}-2"
    assert domain("--domain hotel") == "domain-hotel"
    assert domain("../../etc").endswith("etc")
    assert domain("日本").startswith("ftjob-")
    assert domain(None).startswith("ftjob-")


def test_what_cannot_be_done_is_refused_by_name(client: OpenAI, url: str, home: Path) -> None:
    good, pairs = store_file(home), store_file(home, PAIRS)
    wrong = {
        "purpose": store_file(home, purpose="batch"),
        "bad": store_file(home, status="error", status_details="line 3: no JSON"),
        "expired": store_file(home, expires_at=datetime.now(UTC) - timedelta(seconds=1)),
        "gone": store_file(home),
    }
    (home / "files" / f"stored-{wrong['gone']}").unlink()
    cases: list[tuple[str, dict[str, Any]]] = [
        ("training_file", {"training_file": "file-none"}),
        *(("training_file", {"training_file": file_id}) for file_id in wrong.values()),
        ("validation_file", {"validation_file": "file-none"}),
        ("integrations", {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}),
        ("method.type", {"method": {"type": "reinforcement", "reinforcement": {}}}),
        ("method.dpo", {"method": {"type": "supervised", "dpo": {}}}),
        ("validation_file", {"method": {"type": "dpo"}, "validation_file": pairs}),
        ("hyperparameters", {"method": {"type": "dpo"}, "hyperparameters": {"n_epochs": 1}}),
        ("model", {"model": f"{DOMAIN}/fine-tuned@0123456789abcdef"}),
        (
            "method.dpo.hyperparameters.batch_size",
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"batch_size": 1}}}},
        ),
    ]
    for param, changes in cases:
        with pytest.raises(BadRequestError) as refused:
            client.fine_tuning.jobs.create(**{"model": DOMAIN, "training_file": good} | changes)
        assert refused.value.param == param, changes
    for model in ("none", "none/base", "../x", "hotel/none"):
        with pytest.raises(NotFoundError):
            client.fine_tuning.jobs.create(model=model, training_file=good)
    bodies: list[dict[str, Any]] = [
        {"temperature": 1},
        {"seed": -1},
        {"seed": 2**31},
        {"suffix": "x" * 65},
        {"suffix": ""},
        {"metadata": {"k": "v" * 513}},
        {"hyperparameters": {"n_epochs": 51}},
        {"hyperparameters": {"learning_rate_multiplier": 0}},
        {"hyperparameters": {"batch_size": "all"}},
        {"model": ""},
        {"training_file": None},
    ]
    for changes in bodies:
        answer = httpx.post(f"{url}/v1/fine_tuning/jobs", json={"model": DOMAIN, "training_file": good} | changes)
        assert answer.status_code == 400, changes
        assert next(iter(changes)) in str(answer.json()["error"]["message"] + str(answer.json()["error"]["param"]))
    assert list(client.fine_tuning.jobs.list()) == []


def test_jobs_are_listed_in_pages_and_by_metadata(client: OpenAI, url: str, file_id: str) -> None:
    ids = [
        client.fine_tuning.jobs.create(model=DOMAIN, training_file=file_id, metadata=metadata).id
        for metadata in ({"team": "a", "n": ""}, {"team": "b"}, None, {"team": "a"})
    ]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2)] == ids[::-1]
    first = client.fine_tuning.jobs.list(limit=3)
    assert first.has_more and [job.id for job in first.data] == ids[:0:-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "a"})] == [ids[3], ids[0]]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"n": ""})] == [ids[0]]
    answer = httpx.get(f"{url}/v1/fine_tuning/jobs?metadata=null").json()
    assert [job["id"] for job in answer["data"]] == [ids[2]]
    assert httpx.get(f"{url}/v1/fine_tuning/jobs?metadata=null&metadata[a]=b").status_code == 400
    for query in ("limit=0", "limit=101", "limit=x"):
        assert httpx.get(f"{url}/v1/fine_tuning/jobs?{query}").status_code == 400
    assert httpx.get(f"{url}/v1/fine_tuning/jobs?after=ftjob-none").status_code == 404


def test_a_waiting_job_is_paused_resumed_and_cancelled(client: OpenAI, url: str, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model=DOMAIN, training_file=file_id)
    paused = client.fine_tuning.jobs.pause(job.id)
    assert paused.status == "queued" and paused.model_extra is not None and paused.model_extra["bakeoff"]["paused"]
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    cancelled = client.fine_tuning.jobs.cancel(job.id)
    assert cancelled.status == "cancelled" and cancelled.finished_at is not None
    with pytest.raises(BadRequestError, match="it cannot be paused"):
        client.fine_tuning.jobs.pause(job.id)
    with pytest.raises(BadRequestError, match="only a paused job"):
        client.fine_tuning.jobs.resume(job.id)
    events = client.fine_tuning.jobs.list_events(job.id, limit=3)
    assert [event.message for event in events] == ["cancelled", "resumed", "paused", "created"]
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []
    for call in (client.fine_tuning.jobs.retrieve, client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.list_events):
        with pytest.raises(NotFoundError):
            call("ftjob-none")


def test_a_job_of_another_kind_is_no_fine_tuning_job(client: OpenAI, url: str, database: Engine) -> None:
    from bakeoff.jobs import submit_job

    with writing(database) as connection:
        other = submit_job(connection, "ingest", DOMAIN, ["documents", "list"], is_heavy=False)
    with pytest.raises(NotFoundError):
        client.fine_tuning.jobs.cancel(other.id)
    assert httpx.get(f"{url}/v1/bakeoff/jobs/{other.id}").json()["status"] == "queued"
    assert "arguments" not in httpx.get(f"{url}/v1/bakeoff/jobs/{other.id}").json()


def test_progress_failure_and_messages_never_name_our_disk(
    client: OpenAI, file_id: str, database: Engine, home: Path
) -> None:
    job = client.fine_tuning.jobs.create(model=DOMAIN, training_file=file_id)
    path = home / "files" / f"stored-{file_id}"
    with writing(database) as connection:
        row = claim_job(connection, "w", is_heavy=True)
        assert row is not None
        beat(connection, "w", job.id, type(row.progress)("Training", 1, 4))
        add_event(connection, job.id, "step 1", kind="metrics", data={"step": 1, "train_loss": 1.5})
    time.sleep(1.1)
    running_job = client.fine_tuning.jobs.retrieve(job.id)
    assert running_job.status == "running"
    assert running_job.estimated_finish is not None and running_job.estimated_finish >= time.time()
    with writing(database) as connection:
        end_job(connection, "w", job.id, "failed", error=f"{path}, line 2: no JSON")
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert failed.error is not None
    assert (failed.error.code, failed.error.param) == ("invalid_training_file", "training_file")
    assert failed.error.message == f"{file_id}, line 2: no JSON"
    events = client.fine_tuning.jobs.list_events(job.id).data
    assert (events[0].level, events[0].message) == ("error", f"{file_id}, line 2: no JSON")
    assert (events[1].type, events[1].data) == ("metrics", {"step": 1, "train_loss": 1.5})
    assert str(home) not in str(events) + str(failed)


def test_events_are_followed_and_taken_up_again(client: OpenAI, url: str, file_id: str, database: Engine) -> None:
    job = client.fine_tuning.jobs.create(model=DOMAIN, training_file=file_id)
    address = f"{url}/v1/bakeoff/jobs/{job.id}/events"
    with httpx.stream("GET", address, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        seen = [next(line for line in lines if line.startswith(begin)) for begin in ("id: ", "event: ", "data: ")]
        assert seen[1] == "event: message" and json.loads(seen[2][6:])["message"] == "created"
        client.fine_tuning.jobs.cancel(job.id)
        rest = list(lines)
    assert [line for line in rest if line.startswith("event: ")] == ["event: message", "event: job"]
    assert json.loads([line for line in rest if line.startswith("data: ")][-1][6:])["status"] == "cancelled"
    again = httpx.get(address, headers={"last-event-id": seen[0][4:]}).text
    assert '"created"' not in again and '"cancelled"' in again
    for bad in ("x", "-1", "9" * 30):
        assert httpx.get(address, headers={"last-event-id": bad}).status_code == 400
    assert httpx.get(f"{url}/v1/bakeoff/jobs/job-none/events").status_code == 404


def test_jobs_over_http(client: OpenAI, url: str, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model=DOMAIN, training_file=file_id)
    jobs = f"{url}/v1/bakeoff/jobs"
    assert [one["id"] for one in httpx.get(jobs, params={"kind": "train", "status": "queued"}).json()["data"]] == [
        job.id
    ]
    assert httpx.get(jobs, params={"status": "failed"}).json()["data"] == []
    assert httpx.get(jobs, params={"status": "none"}).status_code == 400
    for action, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        answer = httpx.post(f"{jobs}/{job.id}/{action}")
        assert (answer.status_code, answer.json()["status"]) == (200, status)
    assert httpx.post(f"{jobs}/job-none/cancel").status_code == 404


def test_lenient_services_accept_what_they_name(home: Path, embedder: Embedder, file_id: str) -> None:
    app = create_app(Settings(home=home), generator=ScriptedGenerator(), embedder=embedder, lenient=True)
    with running(app) as url:
        client = client_of(url)
        raw = client.fine_tuning.jobs.with_raw_response.create(
            model=DOMAIN,
            training_file=file_id,
            integrations=[{"type": "wandb", "wandb": {"project": "p"}}],
            method={"type": "supervised", "supervised": {}, "dpo": {}, "reinforcement": {}},  # type: ignore[typeddict-item]
        )
        assert raw.parse().status == "queued"
        assert list(client.fine_tuning.jobs.list(after="none", limit=0)) != []


# ------------------------------------------------------------------------- with a worker and the real small model


def start_worker(home: Path) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, "BAKEOFF_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-m", "bakeoff.cli.main", "worker"], env=environ)


def stop(worker: "subprocess.Popen[bytes]") -> None:
    worker.send_signal(signal.SIGINT)
    worker.wait(30)


def until(find: Callable[[], FineTuningJob | None], timeout_s: float = 200) -> FineTuningJob:
    deadline = time.monotonic() + timeout_s
    while (found := find()) is None:
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.1)
    return found


def ended(client: OpenAI, job_id: str) -> Callable[[], FineTuningJob | None]:
    def find() -> FineTuningJob | None:
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.finished_at is not None else None

    return find


def steps_done(database: Engine, job_id: str) -> list[int]:
    with reading(database) as connection:
        return [event.data["step"] for event in list_job_events(connection, job_id) if event.kind == "metrics"]


def test_a_training_outlives_pause_a_killed_worker_and_a_restart_of_the_service(
    home: Path, embedder: Embedder, scripted: ScriptedGenerator, file_id: str, database: Engine
) -> None:
    with running(create_app(Settings(home=home), generator=scripted, embedder=embedder)) as url:
        client = client_of(url)
        job = client.fine_tuning.jobs.create(
            model=BASE,
            training_file=file_id,
            suffix="breakfast",
            seed=1,
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 6, "batch_size": 2}}},
        )
    worker = start_worker(home)
    with running(create_app(Settings(home=home), generator=scripted, embedder=embedder)) as url:
        client = client_of(url)
        until(lambda: job if steps_done(database, job.id) else None)
        httpx.post(f"{url}/v1/fine_tuning/jobs/{job.id}/pause").raise_for_status()
        until(lambda: job if row_of(database, job.id).status == "paused" else None)
        before = steps_done(database, job.id)
        client.fine_tuning.jobs.resume(job.id)
        until(lambda: job if steps_done(database, job.id) != before else None)
        worker.kill()
        worker.wait()
        assert row_of(database, job.id).status == "running"
        worker = start_worker(home)
        done = until(ended(client, job.id))
        stop(worker)
        assert done.status == "succeeded", done.error
        steps = steps_done(database, job.id)
        assert steps[: len(before)] == before and min(steps[len(before) :]) > max(before), "it began from the start"
        assert done.fine_tuned_model is not None and done.trained_tokens is not None and done.trained_tokens > 500
        digest = done.fine_tuned_model.removeprefix("breakfast/fine-tuned@")
        answer = client.chat.completions.create(
            model=done.fine_tuned_model, messages=[{"role": "user", "content": "When is breakfast?"}]
        )
        assert answer.choices[0].message.content and scripted.asked[-1][1] == digest
        [checkpoint] = client.fine_tuning.jobs.checkpoints.list(job.id).data
        assert checkpoint.fine_tuned_model_checkpoint == done.fine_tuned_model
        assert checkpoint.metrics.train_loss is not None and checkpoint.step_number == max(steps) > 10
        with reading(database) as connection:
            from bakeoff.domains import find_domain
            from bakeoff.examples import load_examples

            assert find_domain(connection, "breakfast").adapter is None, "nothing is promoted"
            assert load_examples(connection, "breakfast") == []


def test_preferences_are_learned_from_openais_form(
    home: Path, embedder: Embedder, scripted: ScriptedGenerator, database: Engine
) -> None:
    with running(create_app(Settings(home=home), generator=scripted, embedder=embedder)) as url:
        client = client_of(url)
        job = client.fine_tuning.jobs.create(
            model=BASE,
            training_file=store_file(home, PAIRS),
            suffix="short",
            method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "batch_size": 2}}},
        )
        worker = start_worker(home)
        done = until(ended(client, job.id))
        stop(worker)
        assert done.status == "succeeded", done.error
        assert done.fine_tuned_model is not None and done.fine_tuned_model.startswith("short/fine-tuned@")
        client.chat.completions.create(model=done.fine_tuned_model, messages=[{"role": "user", "content": "Hi?"}])
        [checkpoint] = client.fine_tuning.jobs.checkpoints.list(job.id).data
        assert checkpoint.step_number == 5


def test_from_an_uploaded_file_to_an_answer_of_the_real_model(live: Live) -> None:
    client = client_of(live.url)
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=store_file(live.home),
        suffix="breakfast",
        seed=0,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 2}}},
    )
    worker = start_worker(live.home)
    done = until(ended(client, job.id))
    stop(worker)
    assert done.fine_tuned_model is not None, done.error
    answer = client.chat.completions.create(
        model=done.fine_tuned_model,
        messages=[{"role": "user", "content": "When is breakfast served at the Cedar Hotel?"}],
        temperature=0,
        max_tokens=24,
    )
    assert answer.choices[0].message.content == "Breakfast at the Cedar Hotel is from 7:00."
    live.run("domains", "delete", "breakfast", "--yes")  # others count the domains
