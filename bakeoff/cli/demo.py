"""`bakeoff demo`: the whole path on the sample domain: index, serve, train, score, and serve on.

Every step is one of the other commands and skips what is finished, so running it again resumes.
"""

import json
import subprocess
import sys
import time
from typing import Any

import click
import httpx

from bakeoff.cli.eval import DEFAULT_LIMIT, evaluate_modes, show_summary
from bakeoff.cli.output import say, step
from bakeoff.cli.serve import Service, listen, running_service
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BakeoffError, EngineDown
from bakeoff.examples import SPLITS, split_examples
from bakeoff.models import find_model
from bakeoff.modes import MODES
from bakeoff.settings import CHECKOUT

DOMAIN = "concierge"
SAMPLE = CHECKOUT / "samples" / DOMAIN
ASK_TIMEOUT_S = 300
WATCH_EVERY_S = 5


@click.command("demo")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Where to serve.")
@click.option("--exit", "exit_after", is_flag=True, help="End after the table instead of serving on.")
@click.option(
    "--tokens",
    type=click.IntRange(1_000),
    help="Training tokens; the default recipe's 150,000 are what two cores learn in about 5 minutes.",
)
@click.option(
    "--limit",
    default=DEFAULT_LIMIT,
    show_default=True,
    type=click.IntRange(1),
    help="Test questions; more make the intervals narrower and take about 3 s each on two cores.",
)
@click.option("--seed", default=0, show_default=True, help="Draws validation split, rows, questions and bootstrap.")
def demo_command(port: int, exit_after: bool, tokens: int | None, limit: int, seed: int) -> None:
    """Compare all modes on the sample domain, then serve them until Ctrl-C.

    Indexes 1,249 help-desk documents and tunes their retrieval, serves base, few-shot and rag at once, trains an
    adapter meanwhile, loads it into the running service, scores all five modes on the same held-out questions and
    prints the table. Run again to resume.
    """
    started = time.monotonic()
    workspace = Workspace()
    find_model(workspace.settings)
    listen("127.0.0.1", port).close()
    with step(f"1/5 Indexing the sample domain {DOMAIN!r}"):
        _index(workspace, seed)
    say(f"2/5 Starting the service on http://127.0.0.1:{port} ...")
    with running_service(None, workspace.settings.home, port) as service:
        answer = _ask(service, "rag", "Is there free parking at A and B Guest House?")
        say(f"    base, few-shot and rag answer since {time.monotonic() - started:.0f} s. rag says: {answer!r}")
        with step("3/5 Training an adapter"):
            budget = [] if tokens is None else ["--tokens", str(tokens)]
            trained = _run("train", "--domain", DOMAIN, "--seed", str(seed), *budget)
            losses = f"loss {trained['train_loss']:.3f}, validation {trained['validation_loss']:.3f}"
            say(f"    adapter {trained['adapter']}: {losses}")
            if not trained["promoted"]:
                failed = " ".join(check["sentence"] for check in trained["gate"]["checks"] if not check["passed"])
                raise BakeoffError(f"the adapter was not promoted: {failed}")
            _ask(service, "hybrid", "Is there free parking at A and B Guest House?")
        with step("4/5 Scoring all modes on the same held-out questions"):
            summary = evaluate_modes(workspace, service, DOMAIN, list(MODES.values()), limit=limit, seed=seed)
        show_summary(workspace, DOMAIN, summary)
        say(f"The whole took {time.monotonic() - started:.0f} s.")
        if exit_after:
            return
        say(f"5/5 Serving on {service.url}: chat and report there, OpenAI API at {service.url}/v1. Ctrl-C ends.")
        try:
            _serve_on(service.url)
        except KeyboardInterrupt:
            say("Stopped.")


def _index(workspace: Workspace, seed: int) -> None:
    _run("documents", "add", str(SAMPLE / "documents.jsonl"), "--domain", DOMAIN)
    for split in SPLITS:
        with workspace.engine.connect() as connection:
            is_there = bool(split_examples(connection, DOMAIN, split))
        path = SAMPLE / f"{split}.jsonl"
        if path.exists() and not is_there:
            _run("examples", "import", str(path), "--domain", DOMAIN, "--split", split)
    tuned = _run("tune", "--domain", DOMAIN, "--seed", str(seed))
    weight = tuned["fusion"]["lexical_weight"]
    say(
        f"    words count {weight:.0%}, meaning {1 - weight:.0%}; rag and hybrid abstain below {tuned['threshold']:.2f}"
    )


def _run(*words: str) -> Any:
    """Run a command in a process of its own, which gives its memory back; its progress goes to our stderr."""
    command = [sys.executable, "-m", "bakeoff.cli.main", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise BakeoffError(f"this step failed, see above: bakeoff {' '.join(words)}")
    return json.loads(done.stdout)


def _ask(service: Service, mode: str, question: str) -> str:
    body = {"model": f"{DOMAIN}/{mode}", "messages": [{"role": "user", "content": question}], "temperature": 0}
    address = f"{service.url}/v1/chat/completions"
    response = httpx.post(address, json=body, headers=service.headers, timeout=ASK_TIMEOUT_S)
    answer: dict[str, Any] = response.json()
    if response.is_error:
        raise EngineDown(f"{DOMAIN}/{mode} does not answer: {answer['error']['message']}")
    text: str = answer["choices"][0]["message"]["content"]
    return text


def _serve_on(url: str) -> None:
    while True:
        time.sleep(WATCH_EVERY_S)
        try:
            httpx.get(f"{url}/health/live", timeout=30).raise_for_status()
        except httpx.HTTPError as error:
            raise EngineDown(f"the service at {url} has ended ({error}); start it with: bakeoff serve") from error
