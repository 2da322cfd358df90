"""A whole evaluation against a real server on a port: order, resuming, failures, and what lies in the run folder."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bakeoff.artefacts import read_manifest
from bakeoff.errors import BadInput, EngineDown, Mismatch, NotFound, NotReady
from bakeoff.modes import MODES
from bakeoff.records import Example
from eval.metrics import MEASURES, SCORES
from eval.run import evaluate
from eval.runner import MAX_OUTAGES, WARM_UP_QUESTION
from eval.summary import Summary

KEYS = {
    *("mode", "example_id", "question", "targets", "completion", "passage_ids", "citations", "scores", "error"),
    *("latency_ms", "first_token_ms", "prompt_tokens", "completion_tokens", "document_ids"),
    *("evidence", "abstained"),
}


@pytest.fixture
def run(service: Any, examples: list[Example], tmp_path: Path) -> Any:
    def call(**changes: Any) -> Summary:
        arguments: dict[str, Any] = {
            "url": service.url,
            "domain": "inn",
            "modes": ["base", "rag"],
            "examples": examples,
            "limit": None,
            "seed": 0,
            "runs_dir": tmp_path,
            "progress": lambda done, total, note: None,
            **changes,
        }
        return evaluate(**{**arguments, "modes": [MODES[name] for name in arguments["modes"]]})

    return call


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def measured(service: Any) -> list[tuple[str, str]]:
    return [asked for asked in service.asked if asked[1] != WARM_UP_QUESTION]


def test_a_run_folder_holds_what_others_script_against(run: Any, tmp_path: Path) -> None:
    summary = run()
    folder = tmp_path / summary.run
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "summary.json", "answers.jsonl", "report.html"}
    lines = read_lines(folder)
    assert len(lines) == 8
    assert all(set(line) == KEYS for line in lines)
    rag = next(line for line in lines if line["mode"] == "rag")
    assert rag["passage_ids"] == ["c1", "c2"]
    assert rag["document_ids"] == ["d1", "d2"]
    assert [citation["title"] for citation in rag["citations"]] == ["T1", "T2"]
    assert rag["completion"] == "rag says yes [1]."
    assert rag["scores"]["token_f1"] == pytest.approx(0.5)
    assert rag["latency_ms"] >= rag["first_token_ms"] > 0
    assert (rag["prompt_tokens"], rag["completion_tokens"]) == (40, 7)
    written = json.loads((folder / "summary.json").read_text())
    assert set(written["modes"]["rag"]) == {*SCORES, *MEASURES}
    assert set(written["modes"]["rag"]["token_f1"]) == {"value", "low", "high", "n"}
    assert written["modes"]["base"]["recall_at_5"] == {"value": None, "low": None, "high": None, "n": 0}
    assert written["modes"]["rag"]["recall_at_5"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 4}
    assert set(written["comparison"]) == {"token_f1", "polarity"}
    assert written["failed"] == {"base": 0, "rag": 0}


def test_the_manifest_says_what_was_compared_and_vouches_for_the_files(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / run().run
    manifest = read_manifest(folder, "run")
    assert manifest["models"]["rag"]["epoch"] == 3
    assert manifest["config"] == {"domain": "inn", "modes": ["base", "rag"], "limit": None, "seed": 0, "max_tokens": 64}
    assert manifest["examples"]["n"] == 4
    assert manifest["host"]["cores"] == os.cpu_count()
    (folder / "summary.json").write_text("{}")
    with pytest.raises(Mismatch):
        read_manifest(folder, "run")


def test_requests_are_greedy_streamed_and_seeded(run: Any, service: Any) -> None:
    run(seed=5, max_tokens=33)
    body = service.bodies[-1]
    assert body["stream"] is True
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0, 5, 33)
    assert body["stream_options"] == {"include_usage": True}
    assert [message["role"] for message in body["messages"]] == ["user"]


def test_modes_take_turns_on_each_question_after_one_warm_up_each(run: Any, service: Any) -> None:
    run(modes=["base", "rag", "hybrid"])
    assert service.asked[:3] == [(mode, WARM_UP_QUESTION) for mode in ("base", "rag", "hybrid")]
    asked = service.asked[3:]
    assert len(asked) == 12
    for start in range(0, 12, 3):
        turn = asked[start : start + 3]
        assert len({question for _, question in turn}) == 1
        assert {mode for mode, _ in turn} == {"base", "rag", "hybrid"}
    assert {asked[start][0] for start in range(0, 12, 3)} == {"base", "rag", "hybrid"}


def test_running_again_asks_nothing_and_says_the_same(run: Any, service: Any, tmp_path: Path) -> None:
    first = run()
    num_asked = len(service.asked)
    assert run() == first
    assert len(service.asked) == num_asked
    assert len(read_lines(tmp_path / first.run)) == 8


def test_fresh_measures_anew_beside_the_old_run(run: Any, service: Any, tmp_path: Path) -> None:
    first = run()
    again = run(fresh=True)
    assert again.run != first.run
    assert len(measured(service)) == 16
    assert (tmp_path / first.run / "report.html").exists()
    assert run(fresh=True).run not in {first.run, again.run}


@pytest.mark.parametrize(
    ("fact", "value", "modes", "is_new"),
    [
        ("adapter", "adapter-2", ["base", "hybrid"], True),
        ("adapter", "adapter-2", ["base", "rag"], False),
        ("epoch", 4, ["base", "rag"], True),
        ("epoch", 4, ["base", "fine-tuned"], False),
        ("engine", "other", ["base", "rag"], True),
        ("prompts_version", 2, ["base", "rag"], True),
        ("reason", "whatever", ["base", "rag"], False),
    ],
)
def test_what_an_answer_depends_on_starts_a_new_run(
    run: Any, service: Any, fact: str, value: object, modes: list[str], is_new: bool
) -> None:
    before = run(modes=modes).run
    service.facts[fact] = value
    assert (run(modes=modes).run != before) == is_new


def test_changed_examples_or_settings_start_a_new_run(run: Any, examples: list[Example]) -> None:
    changed = [*examples[:-1], Example("e3", examples[3].question, "No.")]
    runs = {run().run, run(examples=changed).run, run(seed=1).run, run(limit=2).run, run(max_tokens=9).run}
    assert len(runs) == 5
    assert run(examples=list(reversed(examples))).run in runs


def test_a_run_stopped_half_way_goes_on_where_it_stopped(run: Any, service: Any, tmp_path: Path) -> None:
    def stop(done: int, total: int, note: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop)
    steps: list[tuple[int, int]] = []
    summary = run(progress=lambda done, total, note: steps.append((done, total)))
    assert sorted(measured(service)) == sorted(set(measured(service)))
    assert len(measured(service)) == 8
    assert steps == [(done, 8) for done in range(3, 9)]
    assert summary.modes["rag"]["token_f1"].n == 4


def test_a_killed_run_is_resumed_though_its_last_line_is_torn(
    run: Any, service: Any, examples: list[Example], tmp_path: Path
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if len(measured(service)) == 5 and not go_on.is_set():
            reached.set()
            go_on.wait(30)

    service.before_answer = hold
    code = (
        "import sys, msgspec; from pathlib import Path; from bakeoff.records import Example;"
        "from bakeoff.modes import MODES; from eval.run import evaluate;"
        "evaluate(url=sys.argv[1], domain='inn', modes=[MODES['base'], MODES['rag']], limit=None, seed=0,"
        "runs_dir=Path(sys.argv[2]),"
        "examples=msgspec.json.decode(sys.argv[3], type=list[Example]), progress=lambda done, total, note: None)"
    )
    content = msgspec.json.encode(examples).decode()
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, service.url, str(tmp_path), content], cwd=root)
    assert reached.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    go_on.set()
    (folder,) = tmp_path.iterdir()
    assert len(read_lines(folder)) == 4
    with (folder / "answers.jsonl").open("a") as file:
        file.write('{"mode":"base","example_id":"e')
    service.asked.clear()
    summary = run()
    assert summary.run == folder.name
    assert len(measured(service)) == 4
    assert len(read_lines(folder)) == 8
    assert not list(folder.glob(".*.partial"))


def test_a_damaged_line_in_the_middle_is_not_passed_over(run: Any, tmp_path: Path) -> None:
    path = tmp_path / run().run / "answers.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0][:20], *lines[1:]]) + "\n")
    with pytest.raises(Mismatch, match=r"line 1 .*--fresh"):
        run()


def test_a_corrected_metric_needs_no_new_answers(run: Any, service: Any, tmp_path: Path) -> None:
    folder = tmp_path / run().run
    lines = read_lines(folder)
    for line in lines:
        line["scores"]["token_f1"] = 0.0
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    num_asked = len(service.asked)
    assert run().modes["rag"]["token_f1"].value == pytest.approx(0.5)
    assert len(service.asked) == num_asked
    assert read_lines(folder)[0]["scores"]["token_f1"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ({"status": 400, "message": "the context is too long"}, "HTTP 400: the context is too long"),
        ({"text": "some text", "broken": "the engine broke"}, "the engine broke"),
        ({"text": "some text", "torn": True}, "ended before"),
    ],
)
def test_a_failed_example_is_recorded_counted_and_asked_again(
    run: Any, service: Any, tmp_path: Path, failure: dict[str, Any], error: str
) -> None:
    healthy = service.reply
    service.reply = lambda mode, question: failure if (mode, question[-2]) == ("rag", "2") else healthy(mode, question)
    summary = run()
    assert summary.failed == {"base": 0, "rag": 1}
    assert summary.modes["rag"]["token_f1"].n == 3
    assert summary.modes["rag"]["latency_ms"].n == 3
    assert summary.modes["base"]["token_f1"].n == 4
    assert summary.comparison["token_f1"].n == 3
    folder = tmp_path / summary.run
    (failed,) = [line for line in read_lines(folder) if line["error"]]
    assert error in failed["error"]
    assert failed["scores"] == {}
    assert "Failed answers" in (folder / "report.html").read_text()
    service.reply = healthy
    service.asked.clear()
    assert run().failed == {"base": 0, "rag": 0}
    assert len(measured(service)) == 1
    assert len(read_lines(folder)) == 8


def test_a_service_that_keeps_failing_stops_the_run(run: Any, service: Any) -> None:
    service.reply = lambda mode, question: {"status": 503, "message": "the engine is down"}
    with pytest.raises(EngineDown, match=r"the engine is down.*run the same command"):
        run()
    assert len(measured(service)) == MAX_OUTAGES


def test_one_bad_mode_does_not_stop_the_others(run: Any, service: Any, examples: list[Example]) -> None:
    healthy = service.reply
    broken = {"status": 500, "message": "boom"}
    service.reply = lambda mode, question: broken if mode == "rag" else healthy(mode, question)
    more = [Example(f"m{number}", f"Is it {number}?", "Yes.") for number in range(12)]
    summary = run(examples=more)
    assert summary.failed == {"base": 0, "rag": 12}
    assert "token_f1" not in summary.comparison


def test_a_service_that_dies_on_the_way_says_so_and_keeps_the_answers(run: Any, service: Any, tmp_path: Path) -> None:
    def die(done: int, total: int, note: str) -> None:
        if done == 2:
            service.close()

    with pytest.raises(EngineDown, match="bakeoff serve"):
        run(progress=die)
    (folder,) = tmp_path.iterdir()
    assert len(read_lines(folder)) == 2


def test_no_service_at_all_is_said_at_once(run: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineDown, match="bakeoff serve"):
        run(url="http://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_changes_on_the_way_ends_the_run(run: Any, service: Any, tmp_path: Path) -> None:
    def swap(done: int, total: int, note: str) -> None:
        if done == 2:
            service.facts["adapter"] = "adapter-2"

    with pytest.raises(Mismatch, match="adapter-1 to adapter-2"):
        run(modes=["fine-tuned", "hybrid"], progress=swap)
    (folder,) = tmp_path.iterdir()
    assert len(read_lines(folder)) == 2


def test_a_mode_that_is_not_ready_names_the_command(run: Any, service: Any) -> None:
    service.facts["ready"] = False
    with pytest.raises(NotReady, match="bakeoff train --domain inn"):
        run(modes=["hybrid"])
    service.facts["reason"] = "it has no adapter yet; train one: bakeoff train --domain inn"
    with pytest.raises(NotReady, match="no adapter yet"):
        run(modes=["hybrid"])


def test_bad_arguments_are_named(run: Any) -> None:
    with pytest.raises(BadInput, match="each once"):
        run(modes=["rag", "rag"])
    with pytest.raises(BadInput, match="at least one"):
        run(modes=[])
    with pytest.raises(NotFound, match="does not exist"):
        run(domain="elsewhere")


def test_the_address_may_end_in_v1(run: Any, service: Any) -> None:
    assert run(url=f"{service.url}/v1/").modes["base"]["token_f1"].n == 4
