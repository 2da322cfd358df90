"""`bakeoff examples check`: what in a domain's examples, or in a file, would spoil a training; `--scrub` mends some."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from bakeoff.artefacts import write_json
from bakeoff.cli.examples import embed_train, load_splits
from bakeoff.cli.output import domain_option, json_option, print_json, progress_of, say
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import NotReady
from bakeoff.examples import replace_examples
from bakeoff.models import find_model
from bakeoff.records import Example, Split

if TYPE_CHECKING:
    from training.data.check import CheckReport


@click.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@domain_option(required=False)
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="Whose max_row_tokens counts.")
@click.option(
    "--report", "report_path", type=click.Path(path_type=Path), metavar="FILE", help="Markdown, here as well."
)
@click.option("--scrub", is_flag=True, help="Replace personal data in the domain's examples by its kind, as [E-MAIL].")
@json_option()
def check_command(
    file: Path | None, domain: str | None, recipe: Path | None, report_path: Path | None, scrub: bool, as_json: bool
) -> None:
    """Find empties, repeats, conflicts, too long texts, other languages, personal data, and leaks into held-out splits.

    Checks the examples of a domain, or a FILE before its import. The whole report is written as Markdown and JSON under
    BAKEOFF_HOME/checks/. Findings are no error: the exit status is 0.
    """
    if (file is None) == (domain is None):
        raise click.UsageError("Give a FILE or --domain, one of them.")
    if scrub and domain is None:
        raise click.UsageError("--scrub works on a domain; import the file first.")
    workspace = Workspace()
    if file is not None:
        from training.data.formats import read_file

        splits: Mapping[str, Sequence[Example]] = {"file": read_file(file)}
    else:
        assert domain is not None
        if scrub:
            _scrub(workspace, domain)
        splits = {split: examples for split, examples in load_splits(workspace, domain).items() if examples}
        if not splits:
            raise NotReady(
                f"domain {domain!r} has no examples; import some with: "
                f"bakeoff examples import FILE --domain {domain} --split train"
            )
    report = check_splits(workspace, domain or str(file), splits, recipe)

    from training.data.rendering import list_findings, render_markdown, render_text

    findings = list_findings(report, splits, domain)
    folder = workspace.settings.home / "checks" / (domain or "file")
    folder.mkdir(parents=True, exist_ok=True)
    markdown = render_markdown(report, findings)
    (folder / "report.md").write_text(markdown, encoding="utf-8")
    write_json(folder / "report.json", msgspec.to_builtins(report))
    if report_path is not None:
        report_path.write_text(markdown, encoding="utf-8")
    if as_json:
        print_json(report)
        return
    click.echo(render_text(report, findings))
    say(f"The whole report: {folder / 'report.md'} and report.json")


def check_splits(
    workspace: Workspace, source: str, splits: Mapping[str, Sequence[Example]], recipe: Path | None = None
) -> "CheckReport":
    """Run every check with the workspace's embedder and base model."""
    from bakeoff.chat_template import load_tokenizer, row_ids
    from bakeoff.modes import MODES
    from bakeoff.prompts import pose_example, render_messages, render_target
    from bakeoff.tasks import find_task
    from training.data.check import check_examples
    from training.recipe import load_recipe

    max_row_tokens = load_recipe(recipe).max_row_tokens
    tokenizer = load_tokenizer(find_model(workspace.settings))

    def count_tokens(texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]

    def count_row_tokens(example: Example) -> int:
        prompt = render_messages(MODES["fine-tuned"], pose_example(example), task=find_task(example.task))
        return len(row_ids(tokenizer, prompt, render_target(example))[0])

    with progress_of("Checking") as progress:
        return check_examples(
            source, splits, workspace.embedder.embed, count_tokens, count_row_tokens, max_row_tokens, progress
        )


def _scrub(workspace: Workspace, domain: str) -> None:
    """Replace personal data in every split, in one transaction."""
    from training.data.personal import scrub_example

    changed: list[tuple[Split, Example]] = []
    for split, examples in load_splits(workspace, domain).items():
        changed += [(split, clean) for example in examples if (clean := scrub_example(example)) != example]
    with workspace.engine.begin() as connection:
        replace_examples(connection, domain, changed)
    say(f"{domain}: personal data replaced in {len(changed)} examples")
    if any(split == "train" for split, _ in changed):
        embed_train(workspace, domain)
