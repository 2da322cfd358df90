"""`EmbeddedGenerator`: the `Generator` that needs no server. Messages in, deltas out, on this machine's CPU.

Every set of weights, the base model's and each adapter's, is an `Engine`: a worker process that batches continuously.
An adapter is folded into the base weights the first time it is asked for, and from then on costs nothing per token.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from bakeoff.adapter_files import check_template
from bakeoff.chat_template import load_tokenizer, prompt_ids
from bakeoff.errors import BadInput, ContextTooLong, EngineDown, Mismatch
from bakeoff.records import Delta, Message, Sampling, TokenLogprob
from service.embedded.engine import Engine, open_engine
from service.embedded.export import find_export
from service.embedded.fold import fold_adapter
from service.embedded.json_schemas import check_schema
from service.embedded.manifest import EngineManifest, read_manifest
from service.embedded.protocol import EXTRAS, WorkerOptions
from service.embedded.runtime import BLOCK_TOKENS, Precision, count_blocks
from service.embedded.scoring import score_tokens
from service.embedded.text import TextStream
from service.embedded.vocabulary import LogprobStream, TokenBytes, convert_tokenizer

LOCK_FILE = "turn.lock"


class EmbeddedGenerator:
    """Serves a base model and its adapters from worker processes. Implements `service.generator.Generator`."""

    max_running = 32
    """Questions at once that suit it; more wait in line, see `service.edge.limits`."""

    def __init__(
        self,
        model_dir: Path,
        engine_dir: Path,
        cache_dir: Path,
        find_adapter: Callable[[str], Path],
        *,
        precision: Precision = "float32",
        threads: int = 0,
        cache_mib: int = 512,
        max_adapters: int = 4,
    ) -> None:
        """Remember where things are; `start` loads them.

        Args:
            model_dir: Hugging Face folder of the base model.
            engine_dir: where `export_base` wrote it.
            cache_dir: gets the folded weights of adapters; may be deleted at any time the engine is stopped.
            find_adapter: digest -> adapter folder; raises NotFound.
            precision: which export; see `runtime`.
            threads: of each engine; 0 takes every core.
            cache_mib: key/value cache of each engine, MiB.
            max_adapters: kept loaded, least recently used makes room.
        """
        self._model_dir = model_dir
        self._engine_dir = engine_dir
        self._precision = precision
        self._cache_dir = cache_dir
        self._find_adapter = find_adapter
        self._threads = threads
        self._cache_mib = cache_mib
        self._max_adapters = max_adapters
        self._engines: OrderedDict[str | None, Engine] = OrderedDict()
        self._loading: dict[str | None, asyncio.Task[Engine]] = {}
        self._base_folder = engine_dir
        self._manifest: EngineManifest | None = None
        self._tokenizer: Any = None
        self._tokenizer_folder: Path | None = None
        self._bytes_of: TokenBytes | None = None
        self.eos_tokens: list[int] = []

    @property
    def name(self) -> str:
        """Engine, precision and base model."""
        return f"openvino/{self._precision}:{self._model_dir.name}"

    @property
    def supports(self) -> frozenset[str]:
        """Of log-probabilities only those of the chosen tokens; forms of an answer where the tokenizer allows it."""
        forms = {"response_format"} if self._tokenizer_folder is not None else set()
        return EXTRAS | {"logprobs", "frequency_penalty", "presence_penalty"} | forms

    @property
    def window(self) -> int:
        """Tokens that prompt and completion may have together: the model's positions, or what its cache can hold."""
        manifest = self._started()
        return min(manifest.window, (self._num_blocks(manifest) - 1) * BLOCK_TOKENS)

    async def start(self) -> None:
        """Load tokenizer and base model.

        Raises:
            NotReady: the base model has not been prepared.
            Mismatch: the engine folder was exported from another base model.
        """
        if self._manifest is None:
            await asyncio.to_thread(self._read_model)
        await self._engine(None)

    async def load(self, adapter: str) -> None:
        """Fold an adapter if that has not been done, and start its engine.

        Raises:
            NotFound: no adapter of this digest.
            Mismatch: it is damaged, changes nothing, or was made for another base model or chat template.
        """
        await self._engine(adapter)

    async def unload(self, adapter: str) -> None:
        """End an adapter's engine once its requests in flight are answered; does nothing if it has none."""
        if adapter in self._loading:
            await asyncio.wait([self._loading[adapter]])
        if adapter in self._engines:
            self._engines.pop(adapter).retire()

    async def stream(
        self,
        messages: Sequence[Message],
        adapter: str | None,
        sampling: Sampling,
        salt: str = "",
        *,
        whole: bool = False,
    ) -> AsyncGenerator[Delta, None]:
        """Generate. Closing the iterator stops the generation.

        Raises:
            ContextTooLong: prompt and max_tokens together exceed the window.
            BadInput: sampling outside its range, or a JSON schema that no answer can be held to.
            EngineDown: the worker process ended.
        """
        _check_sampling(sampling)
        if sampling.json_schema is not None:
            check_schema(sampling.json_schema)
        prompt = self.tokenize(messages)
        if len(prompt) + sampling.max_tokens > self.window:
            raise ContextTooLong(
                f"the prompt has {len(prompt)} tokens and max_tokens is {sampling.max_tokens}, together more than the "
                f"window of {self.window} tokens. Shorten the messages or lower max_tokens",
                param="messages",
            )
        engine = await self._engine(adapter)
        text = TextStream(self._decode, sampling.stop)
        assert self._bytes_of is not None
        logprobs = LogprobStream(self._bytes_of)
        async with aclosing(engine.stream(prompt, self.eos_tokens, sampling)) as events:
            async for event in events:
                piece = text.feed(event.tokens)
                is_last = bool(event.finish) or text.is_stopped
                if is_last:
                    piece += text.finish()
                likely: tuple[TokenLogprob, ...] = ()
                if sampling.top_logprobs is not None:
                    likely = logprobs.feed(event.tokens, event.logprobs, piece)
                if is_last:
                    finish: Literal["stop", "length"] = "length"
                    if text.is_stopped or event.finish == "stop":
                        finish = "stop"
                    counts = (len(prompt), text.num_tokens, event.cached_tokens)
                    yield Delta(piece, finish, *counts, likely, engine_seconds=event.engine_seconds)
                    return
                if piece or likely:
                    yield Delta(piece, logprobs=likely)

    def tokenize(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the prompt, as the chat template makes them, up to where the answer starts."""
        self._started()
        return prompt_ids(self._tokenizer, messages)

    def tokenize_text(self, text: str) -> list[int]:
        """Token ids of a bare text, as an answer would be made of."""
        self._started()
        return cast("list[int]", self._tokenizer(text, add_special_tokens=False)["input_ids"])

    async def score(
        self, pairs: Sequence[tuple[Sequence[Message], Sequence[int]]], adapter: str | None
    ) -> list[list[float]]:
        """Log-probability of each token of given answers, in nats. For proofs: it holds up everything else.

        Args:
            pairs: (messages, token ids of the answer).
            adapter: digest, or None for the base model.
        """
        manifest = self._started()
        folder = self._base_folder if adapter is None else await asyncio.to_thread(self._fold, adapter)
        tokens = [(self.tokenize(messages), answer) for messages, answer in pairs]
        return await asyncio.to_thread(score_tokens, folder, manifest, tokens, self._threads)

    async def close(self) -> None:
        """Stop every worker."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        engines, self._engines = list(self._engines.values()), OrderedDict()
        await asyncio.gather(*(engine.close() for engine in engines))

    async def _engine(self, adapter: str | None) -> Engine:
        self._started()
        engine = self._engines.get(adapter)
        if engine is not None and engine.is_alive:
            self._engines.move_to_end(adapter)
            return engine
        task = self._loading.get(adapter)
        if task is None:
            task = self._loading[adapter] = asyncio.create_task(self._open(adapter))
            task.add_done_callback(lambda done: self._loading.pop(adapter) if done else None)
        return await asyncio.shield(task)  # one client that leaves must not end the load others wait for

    async def _open(self, adapter: str | None) -> Engine:
        manifest = self._started()
        folder = self._base_folder if adapter is None else await asyncio.to_thread(self._fold, adapter)
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        options = WorkerOptions(
            folder=str(folder),
            precision=manifest.precision,
            num_blocks=self._num_blocks(manifest),
            num_threads=self._threads,
            lock_path=str(self._cache_dir / LOCK_FILE),
            tokenizer_folder=str(self._tokenizer_folder or ""),
        )
        engine = await open_engine(adapter or manifest.base_model, options)
        self._engines[adapter] = engine
        self._engines.move_to_end(adapter)
        adapters = [key for key in self._engines if key is not None]
        for key in adapters[: max(0, len(adapters) - self._max_adapters)]:
            self._engines.pop(key).retire()
        return engine

    def _fold(self, adapter: str) -> Path:
        adapter_dir = self._find_adapter(adapter)
        check_template(adapter_dir, self._tokenizer.chat_template or "", self._model_dir.name)
        return fold_adapter(adapter_dir, self._model_dir, self._base_folder, self._cache_dir)

    def _read_model(self) -> None:
        self._base_folder = find_export(self._model_dir, self._engine_dir, self._precision)
        self._tokenizer = load_tokenizer(self._model_dir)
        self.eos_tokens = _read_eos_tokens(self._model_dir, self._tokenizer.eos_token_id)
        manifest = read_manifest(self._base_folder)
        self._bytes_of = TokenBytes(self._tokenizer)
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        self._tokenizer_folder = convert_tokenizer(
            self._tokenizer, self._cache_dir / f"tokenizer-{manifest.base_digest[:16]}-{version('openvino-tokenizers')}"
        )
        self._manifest = manifest

    def _started(self) -> EngineManifest:
        if self._manifest is None:
            raise EngineDown("the engine has not been started")
        return self._manifest

    def _num_blocks(self, manifest: EngineManifest) -> int:
        return count_blocks(manifest.cache_shape, manifest.precision, self._cache_mib)

    def _decode(self, tokens: Sequence[int]) -> str:
        return cast("str", self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _check_sampling(sampling: Sampling) -> None:
    if sampling.max_tokens < 1:
        raise BadInput(f"max_tokens is {sampling.max_tokens}; it must be at least 1", param="max_tokens")
    if not 0 <= sampling.temperature <= 2:
        raise BadInput(f"temperature is {sampling.temperature}; it must be from 0 to 2", param="temperature")
    least = sampling.extras.get("min_tokens", 0)
    if least > sampling.max_tokens:
        raise BadInput(f"min_tokens is {least}, more than max_tokens, {sampling.max_tokens}", param="min_tokens")
    if not 0 < sampling.top_p <= 1:
        raise BadInput(f"top_p is {sampling.top_p}; it must be above 0 and at most 1", param="top_p")


def _read_eos_tokens(model_dir: Path, from_tokenizer: int | None) -> list[int]:
    """Collect the tokens that end an answer: the tokenizer's first, then those of the generation config."""
    path = model_dir / "generation_config.json"
    named = msgspec.json.decode(path.read_bytes()).get("eos_token_id") if path.is_file() else None
    found = [from_tokenizer, *(named if isinstance(named, list) else [named])]
    tokens = list(dict.fromkeys(token for token in found if token is not None))
    if not tokens:
        raise Mismatch(f"{model_dir} names no token that ends an answer (eos_token)")
    return tokens
