"""inspect_ai's `openai-api` provider: a service is named by two variables."""

import json
from pathlib import Path
from typing import Any

import pytest
from live_service import DOMAIN, Live
from real_clients import FOLDER, Client, Show, guide, needs, open_client

pytestmark = needs("inspect")


@pytest.fixture
def inspect(tmp_path: Path) -> Client:
    return open_client("inspect", tmp_path)


def evaluate(inspect: Client, script: str) -> dict[str, Any]:
    """The log of one run of the task."""
    options = "--temperature 0 --max-tokens 32 --max-retries 0 --display none --log-format json"
    inspect.run("bash", "-euc", f"{script.strip()} {options} --log-dir {inspect.home}")
    [path] = inspect.home.glob("*.json")
    log: dict[str, Any] = json.loads(path.read_text())
    return log


def test_scores_a_task(inspect: Client, live: Live, show: Show) -> None:
    show(f"version {inspect.version('inspect_ai')}")
    [script] = guide("inspect_ai", live.url)
    log = evaluate(inspect, script)
    assert log["status"] == "success"
    assert len(log["samples"]) == len((FOLDER / "concierge.jsonl").read_text().splitlines())
    for sample in log["samples"]:
        answer = sample["output"]["choices"][0]["message"]["content"]
        assert answer
        show(f"generate: {sample['input']!r} -> {answer!r}, wanted {sample['target']}")
    accuracy = log["results"]["scores"][0]["metrics"]["accuracy"]["value"]
    assert accuracy >= 0.5, "with its passages the model names most values"
    [usage] = log["stats"]["model_usage"].values()
    assert usage["output_tokens"] > 0
    show(f"accuracy {accuracy}, {usage['total_tokens']} tokens")


def test_a_wrong_model_ends_the_run_with_the_reason(inspect: Client, live: Live, show: Show) -> None:
    [script] = guide("inspect_ai", live.url)
    log = evaluate(inspect, script.replace(f"{DOMAIN}/rag", "nowhere/rag"))
    assert log["status"] == "error"
    assert "domain 'nowhere' does not exist" in log["error"]["message"]
    show("a wrong model: the run ends as an error, with the service's own sentence")
