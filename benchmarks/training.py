"""Speed and loss of our training beside trl's SFTTrainer, on the shipped recipe's rows, in one run.

    python -m benchmarks.training [--tokens N] [--seeds N] [--data DIR] [--output FILE]

Every contender gets the very same rows (made by the default recipe from the sample domain), the same LoRA shape, peak
learning rate, schedule, warm-up share and seed, and ends in the same measurement of the validation loss. Each runs in a
process of its own, one after another within each seed, so that a slow moment of a shared machine hits all alike and
peak memory is that of one. Useful tokens are those of the rows, padding excluded; loading the model is not counted.

bakeoff           the shipped recipe: 512 tokens a batch
bakeoff, steps    the same with the batch that makes as many optimiser steps as trl's defaults: equal data, seed, steps
trl               SFTTrainer as it comes: 8 rows a batch, padded, gradient checkpointing on
trl, no ckpt      the same without gradient checkpointing
trl, packed       packing (its default strategy), no gradient checkpointing; on CPU, rows then see each other
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import msgspec

from bakeoff.chat_template import load_tokenizer
from bakeoff.database import open_database
from bakeoff.examples import cut_validation
from bakeoff.models import find_embedder, find_model
from bakeoff.records import Document, Passage
from bakeoff.settings import CHECKOUT, Settings
from retrieval.embedder import open_embedder
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import add_documents
from training.data.formats import read_file
from training.recipe import Recipe, load_recipe
from training.rows import Row, make_rows

CONTENDERS = ("bakeoff", "bakeoff, steps", "trl", "trl, no ckpt", "trl, packed")
BASELINE = "trl"
TRL_ROWS = 8
"""Rows of a batch in trl's defaults."""
PACKED_TOKENS = 1024
"""Length of trl's packs: its default `max_length`, which no row passes."""


class Inputs(msgspec.Struct):
    """What one worker is handed."""

    contender: str
    seed: int
    recipe: Recipe
    rows: list[Row]
    validation: list[Row]


@click.command()
@click.option("--tokens", default=12_000, show_default=True, help="Tokens of the training rows.")
@click.option("--seeds", default=3, show_default=True, help="Seeds: rows, order and first weights.")
@click.option("--only", multiple=True, type=click.Choice(CONTENDERS), help="Contenders; all by default.")
@click.option("--data", type=click.Path(path_type=Path), default=CHECKOUT / "samples" / "concierge", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default="benchmarks/training.json", show_default=True)
@click.option("--worker", type=click.Path(path_type=Path), hidden=True)
def main(tokens: int, seeds: int, only: tuple[str, ...], data: Path, output: Path, worker: Path | None) -> None:
    """Measure tokens per second, memory and final validation loss of our loop and of trl's."""
    if worker is not None:
        print(json.dumps(_work(msgspec.json.decode(worker.read_bytes(), type=Inputs))))
        return
    contenders = only or CONTENDERS
    results: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for seed, (rows, validation) in enumerate(_make_rows(data, tokens, seeds)):
        recipe = load_recipe(overrides={"token_budget": tokens, "validations": 1})
        for name in contenders:
            results[name].append(_start(Inputs(name, seed, recipe, rows, validation)))
            print(f"seed {seed}  {name:16} {results[name][-1]}", file=sys.stderr, flush=True)
    medians = {
        name: {field: statistics.median(each[field] for each in found) for field in found[0]}
        for name, found in results.items()
    }
    report = {"machine": _describe_machine(), "tokens": tokens, "medians": medians, "seeds": results}
    output.write_text(json.dumps(report, indent=2) + "\n")
    _print(medians, results)


def _print(medians: dict[str, dict[str, float]], results: dict[str, list[dict[str, float]]]) -> None:
    print(f"{'':16} {'tokens/s':>9} {'ratio':>7} {'steps':>6} {'validation loss, each seed':>30} {'peak GiB':>9}")
    for name, of in medians.items():
        ratios = [
            ours["tokens_per_s"] / theirs["tokens_per_s"]
            for ours, theirs in zip(results[name], results.get(BASELINE, []), strict=False)
        ]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        losses = " ".join(f"{each['validation_loss']:.3f}" for each in results[name])
        print(f"{name:16} {of['tokens_per_s']:9.0f} {ratio:>7} {of['steps']:6.0f} {losses:>30} {of['peak_gib']:9.2f}")


def _make_rows(data: Path, tokens: int, seeds: int) -> list[tuple[list[Row], list[Row]]]:
    """Training and validation rows of each seed, with passages that the retriever finds."""
    settings = Settings()
    tokenizer = load_tokenizer(find_model(settings))
    embedder = open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")
    lines = [json.loads(line) for line in (data / "documents.jsonl").read_text().splitlines()]
    documents = [Document(line["id"], line["title"], line["text"]) for line in lines]
    examples = read_file(data / "train.jsonl")
    recipe = load_recipe(overrides={"token_budget": tokens})
    made = []
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{Path(folder) / 'bakeoff.db'}", Path(folder))
        add_documents(engine, "sample", documents, embedder, lambda *_: None)
        retriever = Retriever(engine, embedder, Path(folder) / "indexes")
        options = SearchOptions(top_k=settings.top_k, max_tokens=settings.passage_tokens)

        def find_passages(questions: list[str]) -> list[list[Passage]]:
            return [list(found.passages) for found in retriever.search_many("sample", questions, options)]

        for seed in range(seeds):
            train, validation = cut_validation(examples, seed)
            splits = ((train, tokens), (validation, 10_000))
            made.append(
                tuple(
                    list(
                        make_rows(
                            split, tokenizer, find_passages, recipe, budget=budget, epochs=recipe.max_epochs, seed=seed
                        ).rows
                    )
                    for split, budget in splits
                )
            )
        engine.dispose()
    return made


def _start(inputs: Inputs) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.json"
        path.write_bytes(msgspec.json.encode(inputs))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.training", "--worker", str(path)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=CHECKOUT,
        )
        return json.loads(done.stdout.splitlines()[-1])


def _work(inputs: Inputs) -> dict[str, float]:
    """One contender, one seed, in a process of its own."""
    from training.batches import make_batches
    from training.model import load_model, validation_loss

    model = load_model(find_model(Settings()), inputs.recipe, inputs.seed)
    learn = _learn_trl if inputs.contender.startswith("trl") else _learn_ours
    seconds, steps = learn(model, inputs)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, module in model.named_modules():
        if "lora_dropout" not in name:
            module.training = False
    batches = make_batches([len(row.ids) for row in inputs.validation], 512, 0)
    num_tokens = sum(len(row.ids) for row in inputs.rows)
    return {
        "tokens_per_s": num_tokens / seconds,
        "seconds": seconds,
        "steps": steps,
        "validation_loss": validation_loss(model, inputs.validation, batches),
        "peak_gib": peak_kib / 2**20,
    }


def _learn_ours(model: Any, inputs: Inputs) -> tuple[float, int]:
    from training.loop import learn, make_steps

    recipe = inputs.recipe
    if inputs.contender == "bakeoff, steps":
        recipe = _match_steps(inputs)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        learn(
            model,
            inputs.rows,
            [],
            recipe,
            seed=inputs.seed,
            checkpoint_path=Path(folder) / "checkpoint.pt",
            progress=lambda *_: None,
        )
        seconds = time.perf_counter() - start
    return seconds, len(make_steps([len(row.ids) for row in inputs.rows], recipe, inputs.seed))


def _match_steps(inputs: Inputs) -> Recipe:
    """The recipe with the batch size whose number of steps is nearest to that of trl's defaults."""
    from training.loop import make_steps

    lengths = [len(row.ids) for row in inputs.rows]
    wanted = -(-len(lengths) // TRL_ROWS)
    recipes = [msgspec.structs.replace(inputs.recipe, batch_tokens=tokens) for tokens in range(256, 4096, 32)]
    return min(recipes, key=lambda recipe: abs(len(make_steps(lengths, recipe, inputs.seed)) - wanted))


def _learn_trl(model: Any, inputs: Inputs) -> tuple[float, int]:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    recipe, base_dir = inputs.recipe, find_model(Settings())
    dataset = Dataset.from_list(
        [
            {"input_ids": list(row.ids), "labels": [-100] * row.num_prompt + list(row.ids[row.num_prompt :])}
            for row in inputs.rows
        ]
    )
    dtype = model.get_base_model().dtype
    base = AutoModelForCausalLM.from_pretrained(base_dir, dtype=dtype, local_files_only=True)
    is_packed = inputs.contender == "trl, packed"
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=recipe.schedule,
            warmup_steps=recipe.warmup_share,
            num_train_epochs=1,
            seed=inputs.seed,
            max_length=PACKED_TOKENS,
            per_device_train_batch_size=1 if is_packed else TRL_ROWS,
            packing=is_packed,
            save_strategy="no",
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=True,
            **({} if inputs.contender == "trl" else {"gradient_checkpointing": False}),
        )
        trainer = SFTTrainer(
            base,
            args=config,
            train_dataset=dataset,
            peft_config=model.peft_config["default"],
            processing_class=load_tokenizer(base_dir),
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        steps = trainer.state.global_step
    _copy_adapter(trainer.model, model)
    return seconds, steps


def _copy_adapter(source: Any, target: Any) -> None:
    """Put what trl learned into our model, so that one function measures every contender's loss."""
    learned = {name: weight for name, weight in source.named_parameters() if "lora_" in name}
    for name, parameter in target.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(learned[name].detach())


def _describe_machine() -> dict[str, Any]:
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "trl")}
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(), **packages}


if __name__ == "__main__":
    main()
