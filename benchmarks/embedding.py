"""Speed and ranking of the default embedder beside sentence-transformers' default, on this machine, in one run.

    python benchmarks/embedding.py
    python benchmarks/embedding.py --data DIR --data DIR

A folder holds documents.jsonl and test.jsonl, as samples/concierge does. Both contenders embed the same passages in
turn, round by round, so that a slow moment of a shared machine hits both alike; read the ratio of the medians. Then
both rank all documents for every test question: nDCG@10, a document scored by its best passage.
"""

import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from bakeoff.models import find_embedder
from bakeoff.settings import CHECKOUT, Settings
from retrieval.embedder import Embedder, SentenceTransformerEmbedder, open_embedder

BASELINE = "sentence-transformers"
TOP_K = 10
MAX_WORDS = 160
"""Words of one passage: what the window of all-MiniLM-L6-v2 holds of English."""


@click.command()
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=[CHECKOUT / "samples" / "concierge"],
    help="Folder with documents.jsonl and test.jsonl; may be repeated. Default: samples/concierge.",
)
@click.option("--rounds", default=5, show_default=True, help="Rounds; the table shows medians.")
@click.option("--passages", default=256, show_default=True, help="Passages of each round, drawn from all folders.")
@click.option("--questions", default=50, show_default=True, help="Questions embedded one by one for the latency.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(data: tuple[Path, ...], rounds: int, passages: int, questions: int, output: Path | None) -> None:
    """Measure passages per second, the latency of one question, and nDCG@10."""
    settings = Settings()
    folder = find_embedder(settings)
    ours = open_embedder(folder, settings.embedder, settings.models / "embedders")
    contenders: dict[str, Embedder] = {BASELINE: SentenceTransformerEmbedder(folder, BASELINE), ours.name: ours}
    sets = {path.name: _read_set(path) for path in data}
    texts = [text for each in sets.values() for text, _ in each["passages"]]
    asked = [question for each in sets.values() for question, _ in each["questions"]]
    random = np.random.default_rng(0)
    drawn = [texts[at] for at in random.permutation(len(texts))[:passages]]
    asked = [asked[at] for at in random.permutation(len(asked))[:questions]]
    speeds = _measure_speed(contenders, drawn, rounds)
    latencies = _measure_latency(contenders, asked)
    medians = {name: {"passages/s": statistics.median(speeds[name])} for name in contenders}
    for name, embedder in contenders.items():
        medians[name]["ratio"] = medians[name]["passages/s"] / medians[BASELINE]["passages/s"]
        medians[name]["question ms"] = statistics.median(latencies[name])
        for label, of in sets.items():
            medians[name][f"nDCG@{TOP_K} {label}"] = _measure_ndcg(embedder, of)
    columns = list(medians[BASELINE])
    click.echo(f"{'':28}" + "".join(f"{column:>{len(column) + 3}}" for column in columns))
    for name, figures in medians.items():
        cells = [f"{figures[column]:>{len(column) + 3}.{4 if 'nDCG' in column else 2}f}" for column in columns]
        click.echo(f"{name:28}" + "".join(cells))
    if output is not None:
        options = {"data": [path.name for path in data], "rounds": rounds, "passages": len(drawn)}
        report = {"machine": _describe_machine(), "options": options, "medians": medians, "rounds": speeds}
        output.write_text(json.dumps(report, indent=2) + "\n")
        click.echo(f"written to {output}")


def _read_set(folder: Path) -> dict[str, list[tuple[str, Any]]]:
    """Passages (text, document id) and questions (text, ids of the documents that answer it)."""
    passages = []
    for row in _read_rows(folder / "documents.jsonl"):
        words = row["text"].split()
        for start in range(0, len(words), MAX_WORDS):
            passages.append((f"{row['title']}\n{' '.join(words[start : start + MAX_WORDS])}", row["id"]))
    questions = [(row["question"], row["document_ids"]) for row in _read_rows(folder / "test.jsonl")]
    return {"passages": passages, "questions": [each for each in questions if each[1]]}


def _read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _measure_speed(contenders: dict[str, Embedder], texts: list[str], rounds: int) -> dict[str, list[float]]:
    """Passages per second of each contender in each round; the round before the first is not counted."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, embedder in contenders.items():
            started = time.perf_counter()
            embedder.embed(texts)
            if number:
                speeds[name].append(len(texts) / (time.perf_counter() - started))
    return speeds


def _measure_latency(contenders: dict[str, Embedder], questions: list[str]) -> dict[str, list[float]]:
    """Milliseconds of each question, alone."""
    latencies: dict[str, list[float]] = {name: [] for name in contenders}
    for question in questions:
        for name, embedder in contenders.items():
            started = time.perf_counter()
            embedder.embed([question])
            latencies[name].append(1000 * (time.perf_counter() - started))
    return latencies


def _measure_ndcg(embedder: Embedder, of: dict[str, list[tuple[str, Any]]]) -> float:
    """Mean nDCG@10 with binary relevance (Järvelin and Kekäläinen 2002, discount log2(rank + 1))."""
    vectors = embedder.embed([text for text, _ in of["passages"]])
    ids = [document_id for _, document_id in of["passages"]]
    discounts = 1 / np.log2(np.arange(2, TOP_K + 2))
    scores = []
    asked = embedder.embed([question for question, _ in of["questions"]])
    for row, (_, wanted) in zip(asked @ vectors.T, of["questions"], strict=True):
        ranked = list(dict.fromkeys(ids[at] for at in np.argsort(-row, kind="stable")))[:TOP_K]
        gain = sum(discounts[rank] for rank, document_id in enumerate(ranked) if document_id in wanted)
        scores.append(gain / discounts[: len(set(wanted))].sum())
    return float(np.mean(scores))


def _describe_machine() -> dict[str, object]:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    models = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    return {
        "cpu": ", ".join(sorted(models)) or platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("openvino", "sentence-transformers", "tokenizers", "torch")},
    }


if __name__ == "__main__":
    main()
