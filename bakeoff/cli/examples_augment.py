"""`bakeoff examples augment`: question/answer pairs from a domain's documents, written by a chat model, into train."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import httpx
import msgspec

from bakeoff.artefacts import digest_of
from bakeoff.cli.examples import embed_train, load_splits
from bakeoff.cli.output import domain_option, group_option, json_option, print_json, progress_of, say
from bakeoff.cli.serve import running_service
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BadInput, EngineDown, NotReady
from bakeoff.examples import store_examples
from bakeoff.modes import MODES
from bakeoff.prompts import render_messages
from bakeoff.records import Example, Message

if TYPE_CHECKING:
    from training.data.drafts import Draft, Source

CONCURRENT = 8
BATCH_SIZE = 32
"""Sentences between two looks at what was kept."""
PASSES = 20
"""Sentences asked about at most, for each pair that is wanted."""
MAX_TOKENS = 64
TEMPERATURE = 0.3
TIMEOUT_S = 120
TRIES = 3


class _Kept(msgspec.Struct):
    """One line of the file that makes an interrupted run go on."""

    key: str
    reply: str


@click.command("augment")
@domain_option()
@click.option("--count", required=True, type=click.IntRange(1), help="Pairs to keep.")
@click.option("--url", help="Base address of an OpenAI-compatible API (.../v1); default: a private service of our own.")
@click.option("--model", help="Its name there; default: <domain>/base of the private service.")
@click.option("--api-key-env", metavar="VAR", help="Environment variable that holds the key for --url.")
@group_option("Also use documents that only this group may see; their text goes to --url.")
@click.option("--seed", default=0, show_default=True, help="Draws the sentences and the model's words.")
@json_option()
def augment_command(
    domain: str,
    count: int,
    url: str | None,
    model: str | None,
    api_key_env: str | None,
    groups: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Let a model write questions about sentences of the domain's documents, and add the good pairs to train.

    A pair is kept if its answer is supported by the passage, its question is about it and says what it is about, and it
    neither repeats a known question nor gives a held-out one away. Each is tagged `synthetic`. Only documents that
    everyone may see are used, unless a group is named. An interrupted run goes on where it stopped; nothing is imported
    before the end.
    """
    if url is not None and model is None:
        raise click.UsageError("--url needs --model: the name of a model there.")
    if api_key_env is not None and api_key_env not in os.environ:
        raise BadInput(f"the environment has no variable {api_key_env}; set it to the key, or leave --api-key-env out")
    from retrieval.catalogue import document_ids
    from retrieval.permissions import caller_groups
    from training.data.augment import AUGMENT_VERSION, augment, count_reasons, draw_sources
    from training.data.drafts import judge_drafts
    from training.draw import draw

    workspace = Workspace()
    splits = load_splits(workspace, domain)
    with workspace.engine.connect() as connection:
        sources = draw_sources(connection, domain, seed, caller_groups(groups))[: count * PASSES]
    if not sources:
        raise NotReady(
            f"domain {domain!r} has no documents to ask about; add some: bakeoff documents add PATH --domain {domain}"
        )
    name = model or f"{domain}/base"
    held_out = splits["validation"] + splits["test"]
    plain = [example for example in splits["train"] if "synthetic" not in example.tags and example.task == "answer"]
    shots = sorted(plain, key=lambda example: draw(seed, "shot", example.id))[:3]
    folder = workspace.settings.home / "augment" / domain
    path = folder / f"{digest_of((AUGMENT_VERSION, name, url, seed, [shot.id for shot in shots]))}.jsonl"

    def judge(replies: list[tuple["Source", str]], kept: list[Example]) -> list["Draft"]:
        return judge_drafts(replies, name, [*splits["train"], *kept], held_out, workspace.embedder.embed)

    with (
        _endpoint(url, api_key_env, workspace.settings.home) as client,
        progress_of("Writing pairs") as progress,
    ):

        def show(drafts: list["Draft"]) -> None:
            kept = sum(draft.example is not None for draft in drafts)
            progress(min(kept, count), count, f"kept of {len(drafts)} sentences asked")

        writer = _Writer(client, name, seed, shots, path, pose=_pose_as_base if url is None else str)
        drafts = augment(sources, count, writer.ask, judge, BATCH_SIZE, show)
    kept = [draft.example for draft in drafts if draft.example is not None][:count]
    if kept:
        with workspace.engine.begin() as connection:
            known = document_ids(connection, domain)
            store_examples(connection, domain, "train", kept, known, f"{name}, seed {seed}")
        embed_train(workspace, domain)
    reasons = count_reasons(drafts)
    if as_json:
        print_json({"kept": len(kept), "asked": len(drafts), "reasons": reasons, "ids": [one.id for one in kept]})
        return
    click.echo(f"{domain}: {len(kept)} pairs added to train, of {len(drafts)} sentences that {name} was asked about")
    for reason, number in reasons.items():
        click.echo(f"  {number:6} {reason}")
    for example in kept[:3]:
        click.echo(f"  e.g. {example.question} -> {example.answer}")
    if len(kept) < count:
        say(
            f"{count - len(kept)} pairs short: add documents, use a stronger model (--url, --model), or another --seed."
        )


class _Writer:
    """Asks the model and keeps its replies in a file, so that none is asked for twice."""

    def __init__(
        self,
        client: httpx.Client,
        model: str,
        seed: int,
        shots: Sequence[Example],
        path: Path,
        pose: Callable[[str], str],
    ) -> None:
        from bakeoff.jsonl import read_jsonl

        path.parent.mkdir(parents=True, exist_ok=True)
        self._client, self._model, self._seed, self._path = client, model, seed, path
        self._shots, self._pose = shots, pose
        self._replies: dict[str, str] = {}
        if path.exists():
            whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
            path.write_text(whole + "\n" if whole else "", encoding="utf-8")  # a crash may leave half a line
            self._replies = {line.key: line.reply for _, line in read_jsonl(path, _Kept)}

    def ask(self, sources: Sequence["Source"]) -> list[str]:
        """The reply about each sentence."""
        from training.data.augment import ask_question

        new = [source for source in sources if source.key not in self._replies]
        with ThreadPoolExecutor(CONCURRENT) as pool, self._path.open("a", encoding="utf-8") as file:
            asked = {
                pool.submit(self._complete, ask_question(source, self._shots, self._pose)): source for source in new
            }
            failure: EngineDown | None = None
            for future in as_completed(asked):
                if future.cancelled():
                    continue
                try:
                    kept = _Kept(asked[future].key, future.result())
                except EngineDown as error:  # what is on its way is still kept
                    failure = error
                    for other in asked:
                        other.cancel()
                    continue
                self._replies[kept.key] = kept.reply
                file.write(msgspec.json.encode(kept).decode() + "\n")
                file.flush()
        if failure is not None:
            raise failure
        return [self._replies[source.key] for source in sources]

    def _complete(self, messages: Sequence[Message]) -> str:
        body = {
            "model": self._model,
            "messages": [msgspec.to_builtins(message) for message in messages],
            "max_tokens": MAX_TOKENS,
            "temperature": TEMPERATURE,
            "seed": self._seed,
        }
        trouble = ""
        for _ in range(TRIES):
            try:
                response = self._client.post("chat/completions", json=body)
                if response.is_success:
                    return str(response.json()["choices"][0]["message"]["content"] or "")
                trouble = f"{response.status_code} {response.text[:200]}"
                if response.status_code < 500 and response.status_code != 429:
                    break
            except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
                trouble = f"{type(error).__name__}: {error}"
        raise EngineDown(
            f"{self._model} at {self._client.base_url} did not answer: {trouble}. What was written is kept; run the "
            "same command again to go on"
        )


def _pose_as_base(request: str) -> str:
    """A request as mode `base` puts it before the model."""
    return render_messages(MODES["base"], [Message("user", request)])[-1].content


@contextmanager
def _endpoint(url: str | None, api_key_env: str | None, home: Path) -> Iterator[httpx.Client]:
    """A client of the API at `url`, or of a private service that ends with the block."""
    if url is not None:
        base = url.rstrip("/")
        headers = {"authorization": f"Bearer {os.environ[api_key_env]}"} if api_key_env else {}
        with httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S) as client:
            yield client
        return
    say("Starting a private service ...")
    with running_service(None, home) as service:
        base = f"{service.url}/v1"
        with httpx.Client(base_url=base, headers=service.headers, timeout=TIMEOUT_S) as client:
            yield client
