"""The embedded engine with the real base model: what it serves is what was trained, for everyone, however many ask."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from bakeoff.artefacts import write_artefact
from bakeoff.errors import BadInput, ContextTooLong, EngineDown, Mismatch, NotFound
from bakeoff.models import find_model, hash_model
from bakeoff.records import Delta, Message, Sampling
from bakeoff.settings import Settings
from service.embedded.export import export_base
from service.embedded.generator import EmbeddedGenerator

MODEL_DIR = find_model(Settings())
ENGINE_DIR = Settings().models / "engines"

TOLERANCE = 0.01
"""Mean difference of log-probabilities between what is served and PEFT in float32, nats per token."""

QUESTIONS = [
    "What is the capital of France?",
    "Name three colours of the rainbow.",
    "Is there parking at the hotel?",
    "Write one sentence about the sea.",
]
LONG_QUESTION = "Summarise: " + " ".join(f"Room {number} has a view of the garden." for number in range(75))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def trained() -> Iterator[Any]:
    """The reference: PEFT in float32, with two adapters of random matrices that change every answer."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # torch and the engine on the same two cores wait for each other
    base = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    lora = {"r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM"}
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj", "down_proj"], **lora), "one").eval()
    model.add_adapter("two", LoraConfig(target_modules="all-linear", **lora))
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=random) * (0.08 if ".one." in name else 0.05)
    yield model
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def adapters(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same two, as training leaves them on disk."""
    folder = tmp_path_factory.mktemp("adapters")
    for name in ("one", "two"):

        def save(path: Path, name: str = name) -> None:
            trained.save_pretrained(str(path), selected_adapters=[name])
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                (path / name / file).rename(path / file)
            shutil.rmtree(path / name)

        write_adapter(folder, save, name)
    return folder


@pytest.fixture(scope="module")
async def generator(adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedGenerator]:
    export_base(MODEL_DIR, ENGINE_DIR)
    generator = make_generator(adapters, tmp_path_factory.mktemp("cache"))
    await generator.start()
    yield generator
    await generator.close()


def write_adapter(folder: Path, save: Any, name: str, **facts: Any) -> Path:
    """Write an adapter as training does; `name` becomes a link to its digest."""

    def fill(path: Path) -> None:
        save(path)
        (path / "README.md").unlink(missing_ok=True)
        shutil.copy(MODEL_DIR / "chat_template.jinja", path)

    _, path = write_artefact(
        folder, "adapter", {"base_model": "x", "base_sha256": hash_model(MODEL_DIR), **facts}, fill
    )
    (folder / name).symlink_to(path)
    return path


def make_generator(adapters: Path, cache_dir: Path, **options: Any) -> EmbeddedGenerator:
    def find_adapter(digest: str) -> Path:
        if not (adapters / digest).exists():
            raise NotFound(f"no adapter {digest}")
        return (adapters / digest).resolve()

    return EmbeddedGenerator(MODEL_DIR, ENGINE_DIR, cache_dir, find_adapter, **options)


async def ask(generator: EmbeddedGenerator, question: str, adapter: str | None = None, **sampling: Any) -> Delta:
    """The whole answer in one delta."""
    sampled = Sampling(**{"max_tokens": 24, **sampling})
    deltas = [delta async for delta in generator.stream([Message("user", question)], adapter, sampled)]
    assert [delta.finish_reason is None for delta in deltas] == [True] * (len(deltas) - 1) + [False]
    last = deltas[-1]
    text = "".join(delta.text for delta in deltas)
    return Delta(text, last.finish_reason, last.prompt_tokens, last.completion_tokens, last.cached_tokens)


def reference_scores(
    trained: Any, adapter: str | None, prompt: Sequence[int], answer: Sequence[int]
) -> tuple[Any, list[int]]:
    """Log-probabilities of the answer's tokens, and the token that greedy decoding takes at each place."""
    if adapter is not None:
        trained.set_adapter(adapter)
    with torch.no_grad(), trained.disable_adapter() if adapter is None else nullcontext():
        logits = trained(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].float()
    scores = torch.log_softmax(logits, dim=-1)
    return scores[torch.arange(len(answer)), torch.tensor(answer)].numpy(), logits.argmax(dim=-1).tolist()


@pytest.mark.anyio
@pytest.mark.parametrize("adapter", [None, "one", "two"])
async def test_what_is_served_is_what_peft_computes(generator, trained, adapter):
    engine = await generator._engine(adapter)
    pairs, differences, from_base = [], [], []
    for question in QUESTIONS:
        messages = [Message("user", question)]
        progress = engine.stream(generator.tokenize(messages), generator.eos_tokens, Sampling(max_tokens=16))
        pairs.append((messages, [token async for step in progress for token in step.tokens]))
    for (messages, answer), scores in zip(pairs, await generator.score(pairs, adapter), strict=True):
        wanted, greedy = reference_scores(trained, adapter, generator.tokenize(messages), answer)
        assert greedy == answer, f"PEFT answers otherwise to {messages[0].content!r}"
        differences += list(np.abs(np.array(scores) - wanted))
        if adapter is not None:
            of_base, _ = reference_scores(trained, None, generator.tokenize(messages), answer)
            from_base += list(np.abs(np.array(scores) - of_base))
    assert np.mean(differences) <= TOLERANCE, np.mean(differences)
    if adapter is not None:
        assert np.mean(from_base) > 30 * TOLERANCE, "this adapter is too weak to notice that it is missing"


@pytest.mark.anyio
async def test_eight_at_once_get_the_answers_they_would_get_alone(generator):
    wanted = [(question, adapter) for question in QUESTIONS for adapter in (None, "one")]
    alone = [(await ask(generator, *each)).text for each in wanted]
    together = await asyncio.gather(*(ask(generator, *each) for each in wanted))
    assert [answer.text for answer in together] == alone
    assert len(set(alone)) == len(alone)


@pytest.mark.anyio
async def test_a_new_process_with_a_cold_cache_answers_the_same(generator, adapters, tmp_path):
    warm = [(await ask(generator, question)).text for question in QUESTIONS]
    again = [(await ask(generator, question)).text for question in QUESTIONS]
    other = make_generator(adapters, tmp_path)
    await other.start()
    cold = [(await ask(other, question)).text for question in QUESTIONS]
    await other.close()
    assert warm == again == cold


@pytest.mark.anyio
async def test_a_repeated_prompt_is_not_computed_twice(generator):
    question = LONG_QUESTION + f" ({time.time_ns()})"
    started = time.perf_counter()
    first = await ask(generator, "Please. " + question, max_tokens=1)
    between = time.perf_counter()
    second = await ask(generator, "Please. " + question, max_tokens=1)
    ended = time.perf_counter()
    assert first.prompt_tokens > 700
    assert first.cached_tokens < 100
    assert second.cached_tokens > 0.95 * second.prompt_tokens - 32
    assert ended - between < (between - started) / 2
    assert second.text == first.text


@pytest.mark.anyio
async def test_a_client_that_leaves_frees_its_place(generator):
    engine = await generator._engine(None)
    messages = [Message("user", "Count from one to a thousand, in words.")]
    async with aclosing(generator.stream(messages, None, Sampling(max_tokens=4000, temperature=1.0))) as deltas:
        await anext(deltas)
        assert engine.num_running == 1
    assert engine.num_running == 0
    await asyncio.sleep(0.5)
    before = cpu_seconds(engine.process_id)
    await asyncio.sleep(0.5)
    assert cpu_seconds(engine.process_id) - before < 0.1, "the engine goes on computing for nobody"


def cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.anyio
async def test_a_stop_string_across_tokens_ends_the_answer_before_it(generator):
    whole = await ask(generator, QUESTIONS[0])
    stop = whole.text[8:17]
    answer = await ask(generator, QUESTIONS[0], stop=(stop,))
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.finish_reason == "stop"
    assert answer.completion_tokens < whole.completion_tokens


@pytest.mark.anyio
async def test_finish_reason_and_counts_are_true(generator):
    cut = await ask(generator, QUESTIONS[3], max_tokens=3)
    assert (cut.finish_reason, cut.completion_tokens) == ("length", 3)
    whole = await ask(generator, QUESTIONS[0], max_tokens=400)
    assert whole.finish_reason == "stop"
    assert whole.completion_tokens == len(generator.tokenize_text(whole.text)) + 1
    assert whole.prompt_tokens == len(generator.tokenize([Message("user", QUESTIONS[0])]))


@pytest.mark.anyio
async def test_a_seed_repeats_its_answer_among_others(generator):
    first = await ask(generator, QUESTIONS[3], temperature=1.0, seed=7)
    others = [ask(generator, QUESTIONS[3], temperature=1.0, seed=seed) for seed in (8, 7, 9)]
    eight, seven, nine = [answer.text for answer in await asyncio.gather(*others)]
    assert seven == first.text
    assert len({seven, eight, nine}) == 3


@pytest.mark.anyio
async def test_the_server_stays_responsive_while_the_engine_computes(generator):
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - started)

    watcher = asyncio.create_task(watch())
    await ask(generator, f"{time.time_ns()} " + LONG_QUESTION, max_tokens=1)
    watcher.cancel()
    assert longest < 0.2


@pytest.mark.anyio
async def test_requests_that_cannot_be_served_are_refused_with_the_numbers(generator):
    prompt_tokens = len(generator.tokenize([Message("user", QUESTIONS[0])]))
    with pytest.raises(ContextTooLong, match=rf"{prompt_tokens} tokens .* 8180.* {generator.window} tokens"):
        await ask(generator, QUESTIONS[0], max_tokens=8180)
    with pytest.raises(BadInput, match="temperature"):
        await ask(generator, QUESTIONS[0], temperature=-1)
    with pytest.raises(NotFound):
        await ask(generator, QUESTIONS[0], "missing")


@pytest.mark.anyio
async def test_adapters_of_another_base_or_template_or_name_are_refused(generator, adapters, tmp_path):
    source = (adapters / "one").resolve()

    def save(path: Path) -> None:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(source / name, path)

    write_adapter(adapters, save, "other-base", base_sha256="0" * 64)
    with pytest.raises(Mismatch, match="trained on"):
        await generator.load("other-base")
    write_adapter(adapters, save, "other-template", seed=3)
    (adapters / "other-template" / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(Mismatch, match="chat template"):
        await generator.load("other-template")
    shutil.copytree(source, adapters / "renamed")
    with pytest.raises(Mismatch, match="not what its name says"):
        await generator.load("renamed")
    shutil.copytree(source, adapters / "damaged" / source.name)
    (adapters / "damaged" / source.name / "adapter_config.json").write_text("{}")
    with pytest.raises(Mismatch, match="damaged"):
        await generator.load(f"damaged/{source.name}")


@pytest.mark.anyio
async def test_a_dead_engine_says_so_and_comes_back(generator):
    engine = await generator._engine(None)
    answer = (await ask(generator, QUESTIONS[0])).text
    with pytest.raises(EngineDown, match="stopped"):
        async for _ in generator.stream([Message("user", QUESTIONS[3])], None, Sampling(max_tokens=400)):
            os.kill(engine.process_id, signal.SIGKILL)
    assert (await ask(generator, QUESTIONS[0])).text == answer


@pytest.mark.anyio
async def test_the_least_recently_used_adapter_makes_room_after_its_last_answer(generator):
    if (loaded := generator._engines.pop("two", None)) is not None:
        await loaded.close()
    generator._max_adapters = 1
    await generator.load("one")
    first = await generator._engine("one")
    answer = asyncio.create_task(ask(generator, QUESTIONS[3], "one"))
    await asyncio.sleep(0)
    await generator.load("two")
    assert (await answer).completion_tokens == 24
    for _ in range(100):
        if not first.is_alive:
            break
        await asyncio.sleep(0.05)
    assert not first.is_alive
    assert (await generator._engine("two")).is_alive


@pytest.mark.anyio
async def test_an_adapter_that_is_let_go_ends_after_its_last_answer(generator):
    await generator.load("two")
    engine = await generator._engine("two")
    answer = asyncio.create_task(ask(generator, QUESTIONS[3], "two"))
    await asyncio.sleep(0)
    await generator.unload("two")
    await generator.unload("never loaded")
    assert (await answer).finish_reason == "stop"
    for _ in range(100):
        if not engine.is_alive:
            break
        await asyncio.sleep(0.05)
    assert not engine.is_alive
    assert "two" not in generator._engines
