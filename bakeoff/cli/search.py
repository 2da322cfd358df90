"""`bakeoff search`: what retrieval finds, as the modes `rag` and `hybrid` would."""

from pathlib import Path

import click
import msgspec

from bakeoff.cli.output import domain_option, json_option, print_json
from bakeoff.cli.workspace import Workspace
from bakeoff.jsonl import read_jsonl

BATCH_QUESTIONS = 256


class _Question(msgspec.Struct):
    id: str
    question: str


@click.command("search")
@click.argument("question", required=False)
@click.option(
    "--questions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSONL file with id and question: search each, and print one JSON line per line of the file.",
)
@domain_option()
@click.option("--top-k", default=5, show_default=True, type=click.IntRange(1, 100), help="Passages per question.")
@json_option()
def search_command(question: str | None, questions: Path | None, domain: str, top_k: int, as_json: bool) -> None:
    """Find the passages nearest to a QUESTION, or to every question of a file."""
    if (question is None) == (questions is None):
        raise click.UsageError("give either a QUESTION or --questions FILE")
    retriever = Workspace().retriever
    if questions is not None:
        lines = [line for _, line in read_jsonl(questions, _Question)]
        for start in range(0, len(lines), BATCH_QUESTIONS):
            batch = lines[start : start + BATCH_QUESTIONS]
            results = retriever.search_many(domain, [line.question for line in batch], top_k)
            for line, result in zip(batch, results, strict=True):
                print_json({"id": line.id, "epoch": result.epoch, "passages": result.passages})
        return
    assert question is not None
    result = retriever.search(domain, question, top_k)
    if as_json:
        print_json(result)
        return
    for passage in result.passages:
        click.echo(
            f"{passage.rank}. {passage.score:.3f}  {passage.title}  [{passage.document_id}]\n   {passage.text}\n"
        )
