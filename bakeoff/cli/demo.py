"""`bakeoff demo`: the whole path on the sample domain: index, serve, train, score, and serve on.

Every step is the one that the other commands run, and skips what is finished, so running it again resumes.
"""

import time
from typing import Any

import click
import httpx

from bakeoff.cli.eval import DEFAULT_LIMIT, evaluate_modes, show_summary
from bakeoff.cli.output import progress_of, say, step
from bakeoff.cli.serve import listen, running_service
from bakeoff.cli.train import train_adapter
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import EngineDown
from bakeoff.examples import import_examples, split_examples
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
    help="Training tokens; the default recipe's 75,000 are what two cores learn in about 5 minutes.",
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

    Indexes 1,249 help-desk documents, serves base, few-shot and rag at once, trains an adapter meanwhile, loads it into
    the running service, scores all five modes on the same held-out questions and prints the table. Run again to resume.
    """
    started = time.monotonic()
    workspace = Workspace()
    find_model(workspace.settings)
    listen("127.0.0.1", port).close()
    with step(f"1/5 Indexing the sample domain {DOMAIN!r}"):
        _index(workspace)
    say(f"2/5 Starting the service on http://127.0.0.1:{port} ...")
    with running_service(None, workspace.settings.home, port) as url:
        answer = _ask(url, "rag", "Is there free parking at A and B Guest House?")
        say(f"    base, few-shot and rag answer since {time.monotonic() - started:.0f} s. rag says: {answer!r}")
        with step("3/5 Training an adapter"):
            result = train_adapter(workspace, DOMAIN, recipe=None, seed=seed, tokens=tokens, fresh=False)
            say(f"    adapter {result.adapter}: loss {result.train_loss:.3f}, validation {result.validation_loss:.3f}")
            _ask(url, "hybrid", "Is there free parking at A and B Guest House?")
        with step("4/5 Scoring all modes on the same held-out questions"):
            summary = evaluate_modes(workspace, url, DOMAIN, list(MODES.values()), limit=limit, seed=seed)
        show_summary(workspace, DOMAIN, summary)
        say(f"The whole took {time.monotonic() - started:.0f} s.")
        if exit_after:
            return
        say(f"5/5 Serving on {url}: chat and report there, OpenAI API at {url}/v1. Ctrl-C ends.")
        try:
            _serve_on(url)
        except KeyboardInterrupt:
            say("Stopped.")


def _index(workspace: Workspace) -> None:
    from retrieval.documents import read_documents
    from retrieval.shots import embed_shots
    from retrieval.store import add_documents, document_ids

    engine, embedder = workspace.engine, workspace.embedder
    with progress_of("    documents") as progress:
        add_documents(engine, DOMAIN, read_documents([SAMPLE / "documents.jsonl"]), embedder, progress)
    for split in ("train", "test"):
        with engine.begin() as connection:
            if not split_examples(connection, DOMAIN, split):
                path = SAMPLE / f"{split}.jsonl"
                import_examples(connection, DOMAIN, split, path, document_ids(connection, DOMAIN))
    with progress_of("    training questions") as progress:
        embed_shots(engine, DOMAIN, embedder, progress)


def _ask(url: str, mode: str, question: str) -> str:
    body = {"model": f"{DOMAIN}/{mode}", "messages": [{"role": "user", "content": question}], "temperature": 0}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=ASK_TIMEOUT_S)
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
