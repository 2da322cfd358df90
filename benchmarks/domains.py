"""Does training pay, and where? One default recipe over several data sets, every mode scored on the same questions.

    python benchmarks/domains.py DATA [DATA ...] [--modes A,B] [--limit N] [--seed N] [--home DIR] [--json FILE]
                                 [--drop-leaks] [--train-words "..."]

DATA is a folder with documents.jsonl, train.jsonl and test.jsonl. For each: documents and examples are imported, an
adapter is trained by the default recipe, and `bakeoff eval` asks a seeded sample of the test questions in each mode.
Printed: each mode's figures with 95% intervals, and the paired differences fine-tuned - base and hybrid - rag, whose
interval says whether the adapter helped. An adapter that the gate refuses is scored all the same, and the refusal
printed. Sets whose examples carry a `label` are asked and scored as classification
(scikit-learn): accuracy, macro precision, recall and F1 over the labels asked; `first passage` is retrieval by itself,
the label of the document found first. A run that was interrupted goes on.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from bakeoff.statistics import bootstrap_interval
from eval.answers import Answer, read_answers
from eval.metrics import normalise_answer

PAIRS = (
    ("fine-tuned", "base"),
    ("hybrid", "rag"),
    ("fine-tuned", "few-shot"),
    ("fine-tuned", "rag"),
    ("hybrid", "few-shot"),
    ("fine-tuned", "first passage"),
)
NUM_RESAMPLES = 1_000


def main() -> None:
    """Train and score each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="folders with documents, train and test JSONL")
    parser.add_argument("--modes", default="base,fine-tuned,rag,hybrid")
    parser.add_argument("--limit", type=int, default=150, help="test questions of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, default=Path(".bakeoff-domains"), help="state; kept, so a run goes on")
    parser.add_argument("--drop-leaks", action="store_true", help="remove leaked training examples before training")
    parser.add_argument("--train-words", default="", help='more words for bakeoff train, such as "--tokens 400000"')
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    figures = {}
    for data in arguments.data:
        modes = arguments.modes.split(",")
        answers = _make_answers(data, modes, arguments)
        figures[data.name] = {**_score_text(answers, modes), **_score_labels(answers, modes, data, arguments.seed)}
        print(f"\n{data.name}, seed {arguments.seed}")
        for name, (value, low, high) in figures[data.name].items():
            print(f"  {name:48} {value:+.3f}  ({low:+.3f} to {high:+.3f})", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def _make_answers(data: Path, modes: list[str], arguments: argparse.Namespace) -> dict[str, dict[str, Answer]]:
    """Import, train and ask; mode -> example id -> answer."""
    home = arguments.home / data.name
    domain, seed = data.name.replace("_", "-"), str(arguments.seed)
    if not (home / "imported").exists():
        _bakeoff(home, "documents", "add", str(data / "documents.jsonl"), "--domain", domain)
        for split in ("train", "test"):
            file = data / f"{split}.jsonl"
            task = "classification" if '"label"' in file.read_text().split("\n", 1)[0] else "answer"
            words = ("--domain", domain, "--split", split, "--task", task)
            _bakeoff(home, "examples", "import", str(file), *words)
        if arguments.drop_leaks:
            print(
                data.name, _bakeoff(home, "examples", "remove", "--domain", domain, "--leaks", "--yes"), file=sys.stderr
            )
        (home / "imported").touch()
    if {"fine-tuned", "hybrid"} & set(modes):
        trained = json.loads(
            _bakeoff(home, "train", "--domain", domain, "--seed", seed, *arguments.train_words.split())
        )
        for check in trained["gate"]["checks"]:
            print(f"{data.name}, gate, {check['name']}: {check['passed']}: {check['sentence']}", flush=True)
        if not trained["promoted"]:
            reason = "a benchmark scores it whatever the gate says"
            _bakeoff(home, "adapters", "promote", trained["adapter"], "--domain", domain, "--anyway", reason)
    words = ("--modes", ",".join(modes), "--limit", str(arguments.limit), "--injections", "0", "--seed", "0")
    summary = json.loads(_bakeoff(home, "eval", "--domain", domain, *words))
    found = read_answers(home / "runs" / domain / summary["run"] / "answers.jsonl")
    return {mode: {name: answer for (of, name), answer in found.items() if of == mode} for mode in modes}


def _score_text(answers: dict[str, dict[str, Answer]], modes: list[str]) -> dict[str, tuple[float, float, float]]:
    figures = {}
    for score in ("token_f1", "exact_match"):
        by_mode = {mode: np.array([answer.scores[score] for answer in answers[mode].values()]) for mode in modes}
        for mode, values in by_mode.items():
            figures[f"{mode}, {score}"] = (float(values.mean()), *bootstrap_interval(values))
        for first, second in PAIRS:
            if first in by_mode and second in by_mode:
                difference = by_mode[first] - by_mode[second]
                figures[f"{first} - {second}, {score}"] = (float(difference.mean()), *bootstrap_interval(difference))
    return figures


def _score_labels(
    answers: dict[str, dict[str, Answer]], modes: list[str], data: Path, seed: int
) -> dict[str, tuple[float, float, float]]:
    """A completion counts as a label when it says that label's words, and nothing else."""
    lines = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    if "label" not in lines[0]:
        return {}
    gold = {line["id"]: line["label"] for line in lines}
    names = {normalise_answer(answer): line["label"] for line in lines for answer in line["answers"]}
    rng = np.random.default_rng(seed)
    ids = list(answers[modes[0]])
    truth = np.array([gold[name] for name in ids])
    draws = [rng.integers(len(ids), size=len(ids)) for _ in range(NUM_RESAMPLES)]
    figures, by_mode = {}, {}
    named_by = {mode: [names.get(_bare(answers[mode][name].completion), "(none)") for name in ids] for mode in modes}
    if "rag" in modes:
        of_document = {document: line["label"] for line in lines for document in line["document_ids"]}
        first = [(answers["rag"][name].document_ids or ("",))[0] for name in ids]
        named_by["first passage"] = [of_document.get(document, "(none)") for document in first]
    for mode, labels in named_by.items():
        named = np.array(labels)
        by_mode[mode] = resampled = np.array([_classification(truth[draw], named[draw]) for draw in draws])
        for number, name in enumerate(("accuracy", "macro precision", "macro recall", "macro F1")):
            low, high = np.quantile(resampled[:, number], [0.025, 0.975])
            figures[f"{mode}, {name}"] = (_classification(truth, named)[number], float(low), float(high))
    for first, second in PAIRS:
        if first in by_mode and second in by_mode:
            low, high = np.quantile((by_mode[first] - by_mode[second])[:, 0], [0.025, 0.975])
            value = figures[f"{first}, accuracy"][0] - figures[f"{second}, accuracy"][0]
            figures[f"{first} - {second}, accuracy"] = (value, float(low), float(high))
    return figures


def _bare(completion: str) -> str:
    return normalise_answer(completion.split("[")[0])


def _classification(truth: np.ndarray, named: np.ndarray) -> tuple[float, float, float, float]:
    """Accuracy, and macro precision, recall and F1 over the labels that the questions have."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, named, labels=np.unique(truth), average="macro", zero_division=0
    )
    return float((truth == named).mean()), float(precision), float(recall), float(f1)


def _bakeoff(home: Path, *words: str) -> str:
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "bakeoff.cli.main", *words, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "BAKEOFF_HOME": str(home)},
    )
    return done.stdout


if __name__ == "__main__":
    main()
