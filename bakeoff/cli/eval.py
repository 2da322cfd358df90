"""`bakeoff eval`: modes side by side on the same held-out questions, through the service, as users get them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from bakeoff.artefacts import runs_dir
from bakeoff.cli.output import domain_option, json_option, print_json, progress_of, say
from bakeoff.cli.queueing import queue_option, submit_this
from bakeoff.cli.serve import Service, running_service
from bakeoff.cli.workspace import Workspace
from bakeoff.domains import find_domain
from bakeoff.errors import NotReady
from bakeoff.examples import split_examples
from bakeoff.modes import MODES, Mode, find_mode

if TYPE_CHECKING:
    import httpx

    from eval.statistics import Metric
    from eval.summary import Summary

DEFAULT_LIMIT = 100
"""Questions. With 100, an interval of token F1 is about +-0.06 wide and five modes take about 5 minutes on 2 cores."""
DEFAULT_INJECTIONS = 24
DEFAULT_MAX_TOKENS = 64
"""Longest scored answer: targets of the sample domain have a median of 8 words, its longest about 50."""


def _parse_modes(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[Mode]:
    return [find_mode(name.strip()) for name in value.split(",")] if value else list(MODES.values())


@click.command("eval")
@domain_option()
@click.option("--modes", callback=_parse_modes, metavar="A,B", help=f"Which to compare; all of {', '.join(MODES)}.")
@click.option("--limit", default=DEFAULT_LIMIT, show_default=True, type=click.IntRange(1), help="Test questions.")
@click.option("--seed", default=0, show_default=True, help="Draws the questions and the bootstrap.")
@click.option("--url", metavar="URL", help="Service to ask; without it a private one is started and stopped.")
@click.option("--max-tokens", default=DEFAULT_MAX_TOKENS, show_default=True, type=click.IntRange(1), help="Per answer.")
@click.option(
    "--injections",
    default=DEFAULT_INJECTIONS,
    show_default=True,
    type=click.IntRange(0),
    help="Questions asked once more of rag and hybrid with an instruction hidden in their document; 0: none.",
)
@click.option("--fresh", is_flag=True, help="Ask anew even if the same run was finished before.")
@queue_option()
@json_option()
@click.pass_context
def eval_command(
    context: click.Context,
    domain: str,
    modes: list[Mode],
    limit: int,
    seed: int,
    url: str | None,
    max_tokens: int,
    injections: int,
    fresh: bool,
    as_job: bool,
    as_json: bool,
) -> None:
    """Score modes on one seeded sample of test questions and say which wins, or that the data does not tell.

    Questions are asked one at a time, greedily, so the same seed on the same machine gives the same scores. An
    interrupted run goes on where it stopped.
    """
    workspace = Workspace()
    if as_job:
        submit_this(context, workspace, "eval", domain, is_heavy=True, as_json=as_json)
        return
    if url is None:
        say("Starting a private service (give --url to use one that runs) ...")
    settings = workspace.settings
    with running_service(url, settings.home, api_key=settings.api_key) as service:
        summary = evaluate_modes(
            workspace,
            service,
            domain,
            modes,
            limit=limit,
            seed=seed,
            max_tokens=max_tokens,
            injections=injections,
            fresh=fresh,
        )
    if as_json:
        print_json(summary)
    else:
        show_summary(workspace, domain, summary)


def evaluate_modes(
    workspace: Workspace,
    service: Service,
    domain: str,
    modes: list[Mode],
    *,
    limit: int = DEFAULT_LIMIT,
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    injections: int = DEFAULT_INJECTIONS,
    fresh: bool = False,
) -> "Summary":
    """Ask the service the domain's test questions in each mode, and write the run folder.

    Raises:
        NotReady: the domain has no test examples.
    """
    from eval.injection import probe_injection
    from eval.run import evaluate

    with workspace.engine.connect() as connection:
        find_domain(connection, domain)
        examples = split_examples(connection, domain, "test")
    if not examples:
        raise NotReady(
            f"domain {domain!r} has no test examples; import some with: "
            f"bakeoff examples import FILE --domain {domain} --split test"
        )

    def probe(client: "httpx.Client", probed: Sequence[str]) -> "Mapping[str, Metric]":
        with progress_of("Probing") as progress:
            return probe_injection(
                workspace.engine,
                workspace.embedder,
                client,
                domain,
                probed,
                examples,
                limit=injections,
                seed=seed,
                max_tokens=max_tokens,
                progress=progress,
            )

    with progress_of("Asking") as progress:
        return evaluate(
            url=service.url,
            api_key=service.api_key,
            domain=domain,
            modes=modes,
            examples=examples,
            limit=limit,
            seed=seed,
            max_tokens=max_tokens,
            runs_dir=runs_dir(workspace.settings.home, domain),
            progress=progress,
            fresh=fresh,
            probe=probe if injections else None,
        )


def show_summary(workspace: Workspace, domain: str, summary: "Summary") -> None:
    """Print the table and the verdict, and say where the whole run lies."""
    from eval.report import format_table

    click.echo(format_table(summary))
    say(f"Every answer, every score and report.html: {runs_dir(workspace.settings.home, domain) / summary.run}")
