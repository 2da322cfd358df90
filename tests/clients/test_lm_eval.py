"""`lm-eval run --model local-chat-completions` on a local task: a few questions of the sample domain."""

import json
from pathlib import Path

from live_service import Live
from real_clients import FOLDER, Show, guide, needs, open_client

pytestmark = needs("lm-eval")


def test_scores_a_local_task(live: Live, tmp_path: Path, show: Show) -> None:
    lm_eval = open_client("lm-eval", tmp_path)
    show(f"version {lm_eval.version('lm_eval')}")
    [command] = guide("lm-eval", live.url)
    out = tmp_path / "out"
    lm_eval.run("bash", "-euc", f"{command.strip()} --log_samples --output_path {out}")
    [results_path] = out.rglob("results_*.json")
    [samples_path] = out.rglob("samples_*.jsonl")
    score = json.loads(results_path.read_text())["results"]["bakeoff_concierge"]["exact_match,first value"]
    samples = [json.loads(line) for line in samples_path.read_text().splitlines()]
    questions = (FOLDER / "concierge.jsonl").read_text().splitlines()
    assert len(samples) == len(questions)
    for sample in samples:
        [[answer]] = sample["resps"]
        assert answer
        show(f"generate_until: {sample['doc']['question']!r} -> {answer!r}, wanted {sample['target']}")
    assert score == sum(sample["exact_match"] for sample in samples) / len(samples)
    assert score >= 0.5, "with its passages the model names most values"
    show(f"{len(samples)} requests, two at a time; exact_match of the first value {score}")
