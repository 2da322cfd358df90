"""Does the promotion gate let through what it should, and nothing else?

    python -m benchmarks.promotion [--home DIR] [--tokens N] [--better-tokens N] [--bad-tokens N] [--json FILE]

On the sample domain: one adapter of a small budget serves; one of a larger budget is the better candidate; five more
are bad on purpose (answers shuffled among questions, thirty times the learning rate, another domain's rows, random
weights, twenty rows learned by heart). Each goes through the whole gate of `bakeoff adapters check`. Then the
decision is taken again on bootstrap resamples of the validation examples, the paired scores being those measured: 40
resamples for each of the five, 10 for the better one. The last lines move the better one's differences so that it is,
in truth, worse than the serving adapter by exactly the margin, and by a little more: at the margin itself a 95%
interval errs in 2.5% of the draws. A run that was interrupted goes on; everything is kept in --home.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bakeoff.adapters import register_adapter
from bakeoff.artefacts import adapters_dir, read_manifest
from bakeoff.cli.gating import gate_adapter
from bakeoff.cli.workspace import Workspace
from bakeoff.database import writing
from bakeoff.errors import BakeoffError
from bakeoff.examples import import_examples
from bakeoff.models import find_model, hash_model
from bakeoff.promotions import promote_adapter
from bakeoff.records import Document, Example
from bakeoff.settings import CHECKOUT
from training.adapter import KIND, write_adapter
from training.gate.validation import MARGIN, Paired, check_validation, resample
from training.recipe import load_recipe
from training.train import train

DOMAIN = "concierge"
SAMPLE = CHECKOUT / "samples" / DOMAIN
RESAMPLES_OF_BAD = 40
RESAMPLES_OF_BETTER = 10
RESAMPLES_AT_MARGIN = 400
BAD_LEARNING_RATE = 30
NOISE = 3


def main() -> None:
    """Make the adapters, gate them, resample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".bakeoff-promotion"), help="state; kept, so a run goes on")
    parser.add_argument("--tokens", type=int, default=15_000, help="of the adapter that serves")
    parser.add_argument("--better-tokens", type=int, default=100_000)
    parser.add_argument("--bad-tokens", type=int, default=8_000)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    os.environ["BAKEOFF_HOME"] = str(arguments.home)
    workspace = Workspace()
    fill(workspace)
    serving = make(workspace, "serving", arguments.tokens)
    with writing(workspace.engine) as connection:
        promote_adapter(connection, DOMAIN, serving, None, "the adapter to compare with")
    budgets = {"better": arguments.better_tokens, **dict.fromkeys(BAD, arguments.bad_tokens)}
    results = {}
    for name, tokens in budgets.items():
        try:
            results[name] = gate(workspace, name, make(workspace, name, tokens, serving))
        except BakeoffError as error:  # a learning rate can break a training, which is a refusal too
            results[name] = {"passed": False, "checks": {"training": [False, str(error), {}]}, "resampled": 0}
        show(name, results[name])
    at_margin = {
        f"worse by the margin and {extra:g}": decide_at(results["better"], MARGIN + extra)
        for extra in (0.0, 0.02, 0.05)
    }
    promoted_bad = sum(results[name]["passed"] for name in BAD)
    resampled_bad = sum(results[name]["resampled"] for name in BAD)
    print(f"\nbad adapters promoted: {promoted_bad} of {len(BAD)}")
    print(f"bad adapters promoted on resamples: {resampled_bad} of {RESAMPLES_OF_BAD * len(BAD)}")
    print(f"better adapter promoted on resamples: {results['better']['resampled']} of {RESAMPLES_OF_BETTER}")
    for name, share in at_margin.items():
        print(f"{name} nats: promoted on {share:.2%} of {RESAMPLES_AT_MARGIN} resamples")
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.encode({"adapters": results, "at_margin": at_margin}))


def fill(workspace: Workspace) -> None:
    """Import the sample domain, once."""
    marker = workspace.settings.home / "imported"
    if marker.exists():
        return
    documents = [msgspec.json.decode(line) for line in (SAMPLE / "documents.jsonl").read_bytes().splitlines()]
    from retrieval.store import add_documents

    known = [Document(each["id"], each["title"], each["text"]) for each in documents]
    add_documents(workspace.engine, DOMAIN, known, workspace.embedder, lambda *_: None)
    with writing(workspace.engine) as connection:
        import_examples(connection, DOMAIN, "train", SAMPLE / "train.jsonl", {document.id for document in known})
    marker.touch()


def gate(workspace: Workspace, name: str, digest: str) -> dict[str, Any]:
    """The whole gate once, and its validation decision on resamples; kept in a file."""
    path = workspace.settings.home / f"gated-{digest}.json"
    if path.exists():
        return dict(msgspec.json.decode(path.read_bytes()))
    found: list[Paired] = []
    report = gate_adapter(workspace, DOMAIN, digest, seen=found.append)
    others = all(check.passed for check in report.checks if check.name != "validation")
    drawn = range(RESAMPLES_OF_BETTER if name == "better" else RESAMPLES_OF_BAD)
    passed = [check_validation(resample(found[0], seed), against=report.against).passed for seed in drawn]
    result = {
        "passed": report.passed,
        "checks": {check.name: [check.passed, check.sentence, check.figures] for check in report.checks},
        "others_passed": others,
        "resampled_validation": sum(passed),
        "resampled": sum(passed) if others else 0,
        "differences": found[0].of_examples.tolist(),
    }
    path.write_bytes(msgspec.json.encode(result))
    return result


def decide_at(result: dict[str, Any], truth: float) -> float:
    """How often an adapter is promoted whose differences have exactly this mean, on resamples of the examples."""
    differences = np.array(result["differences"])
    moved = Paired(differences - differences.mean() + truth, {}, truth, 0.0)
    drawn = range(RESAMPLES_AT_MARGIN)
    return sum(check_validation(resample(moved, seed), against="serving").passed for seed in drawn) / len(drawn)


def show(name: str, result: dict[str, Any]) -> None:
    """One adapter's checks."""
    print(f"\n{name}: {'promoted' if result['passed'] else 'refused'}")
    for check, (passed, sentence, _) in result["checks"].items():
        print(f"  {'ok ' if passed else 'NO '} {check:11} {sentence}", flush=True)


def make(workspace: Workspace, name: str, tokens: int, serving: str | None = None) -> str:
    """Train or make one adapter and register it; the same call again finds it."""
    home = workspace.settings.home
    noted = home / f"made-{name.replace(' ', '-')}-{tokens}"
    if not noted.exists():
        if name == "random weights":
            assert serving is not None
            digest = randomise(adapters_dir(home), serving)
        else:
            examples, validation = workspace.splits(DOMAIN, 0)
            digest = learn(workspace, BAD[name](examples) if name in BAD else examples, validation, name, tokens)
        noted.write_text(digest)
    digest = noted.read_text().strip()
    with writing(workspace.engine) as connection:
        register_adapter(connection, DOMAIN, digest)
    return digest


def learn(
    workspace: Workspace, examples: Sequence[Example], validation: Sequence[Example], name: str, tokens: int
) -> str:
    """Train by the default recipe, or by what makes this one bad."""
    recipe = load_recipe(overrides={"token_budget": tokens})
    if name == "learning rate x30":
        recipe = msgspec.structs.replace(recipe, learning_rate=recipe.learning_rate * BAD_LEARNING_RATE)
    if name == "twenty rows by heart":
        recipe = msgspec.structs.replace(recipe, max_epochs=100, passages_share=0.0)
    base_dir = find_model(workspace.settings)
    home = workspace.settings.home

    def progress(done: int, total: int, note: str) -> None:
        if done % 10 == 0 or done == total:
            print(f"  training {name}: {done}/{total} {note}", flush=True)

    return train(
        base_dir=base_dir,
        base_digest=hash_model(base_dir),
        domain=DOMAIN,
        train_examples=examples,
        validation_examples=validation,
        find_passages=workspace.passages_finder(DOMAIN),
        recipe=recipe,
        seed=0,
        adapters_dir=adapters_dir(home),
        work_dir=home / "training",
        progress=progress,
    ).adapter


def shuffle_answers(examples: Sequence[Example]) -> list[Example]:
    """Every question gets the answer of another."""
    answers = [example.answer for example in examples]
    changed = zip(examples, np.random.default_rng(0).permutation(answers).tolist(), strict=True)
    return [msgspec.structs.replace(example, answer=answer, answers=(answer,)) for example, answer in changed]


def other_domain(examples: Sequence[Example]) -> list[Example]:
    """Rows of a warehouse, which the guests of the sample domain do not ask about."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(len(examples)):
        part, shelf = f"{rng.choice(list('KLMR'))}-{rng.integers(1000)}", rng.integers(100)
        made.append(Example(f"part-{number}", f"Where is part {part}?", f"SHELF {shelf:02}/{part}/OK"))
    return made


BAD = {
    "answers shuffled": shuffle_answers,
    "learning rate x30": list,
    "another domain's rows": other_domain,
    "random weights": list,
    "twenty rows by heart": lambda examples: list(examples[:20]),
}


def randomise(adapters: Path, serving: str) -> str:
    """Matrices of the serving adapter's shapes, filled with noise of a few times its size."""
    from safetensors.numpy import load_file, save_file

    source = adapters / serving
    facts = {
        key: value
        for key, value in read_manifest(source, KIND).items()
        if key not in {"format", "kind", "files", "versions", "created_at", "prompts_version", "forgetting"}
    }

    def save(folder: Path) -> None:
        rng = np.random.default_rng(0)
        weights = load_file(source / "adapter_model.safetensors")
        filled = {
            name: (rng.normal(size=weight.shape) * NOISE * weight.std()).astype(np.float32)
            for name, weight in weights.items()
        }
        save_file(filled, folder / "adapter_model.safetensors")
        shutil.copy(source / "adapter_config.json", folder)

    template = (source / "chat_template.jinja").read_text(encoding="utf-8")
    return write_adapter(adapters, {**facts, "method": "noise"}, chat_template=template, save=save)


if __name__ == "__main__":
    main()
