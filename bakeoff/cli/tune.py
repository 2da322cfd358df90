"""`bakeoff tune`: fit how a domain is searched to its validation questions."""

import click

from bakeoff.cli.output import domain_option, json_option, print_json, progress_of, say
from bakeoff.cli.workspace import Workspace


@click.command("tune")
@domain_option()
@click.option(
    "--keep",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0.5, 1.0),
    help="Share of the questions with a right passage that must stay answered. Lower: says more often that it does "
    "not know, and is wrong less often.",
)
@click.option("--seed", default=0, show_default=True, help="Cuts a validation split where there is none; folds.")
@click.option("--defaults", is_flag=True, help="Go back to the defaults instead: no abstention.")
@json_option()
def tune_command(domain: str, keep: float, seed: int, defaults: bool, as_json: bool) -> None:
    """Choose how a domain is searched, and fit what its scores mean, on its validation questions.

    Tries ranking by meaning, by words, and both fused in several ways; fits passage scores and the evidence of a
    question, below which rag and hybrid say that they do not know. Counts from the next question on, in every running
    service. The test split is never read.
    """
    from bakeoff.database import writing
    from retrieval.fitting import fit_tuning
    from retrieval.tuning import Tuning, save_tuning

    workspace = Workspace()
    tuning = Tuning()
    if not defaults:
        validation = workspace.validation_examples(domain, seed)
        with progress_of("Tuning retrieval") as progress:
            tuning = fit_tuning(
                workspace.retriever,
                domain,
                validation,
                workspace.embedder,
                progress,
                options=workspace.search_options,
                keep=keep,
                seed=seed,
            )
    with writing(workspace.engine) as connection:
        save_tuning(connection, domain, None if defaults else tuning)
    if as_json:
        print_json(tuning)
        return
    if defaults:
        click.echo(f"{domain}: searched by the defaults ({tuning.fusion}); no abstention")
        return
    for name, value in sorted(tuning.ndcg.items(), key=lambda item: -item[1]):
        click.echo(f"  {name:22} nDCG@10 {value:.3f}{'  <- chosen' if name == str(tuning.fusion) else ''}")
    click.echo("  answered   without a right passage   evidence from")
    for point in tuning.risk_coverage:
        click.echo(f"  {point.coverage:8.0%}   {point.risk:23.1%}   {point.threshold:13.3f}")
    click.echo(
        f"{domain}: {tuning.fusion}; below evidence {tuning.threshold:.3f} rag and hybrid abstain: "
        f"{tuning.answered:.0%} of the questions with a right passage stay answered, {tuning.declined:.0%} of the "
        f"others are declined (half of the {2 * tuning.num_questions} cases were made unanswerable by hiding documents)"
    )
    say(f"Passage scores are off by {tuning.calibration_error:.3f} on average (expected calibration error).")
