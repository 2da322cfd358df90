"""`bakeoff search`: what retrieval finds, as the modes `rag` and `hybrid` would, and why."""

from pathlib import Path

import click
import msgspec

from bakeoff.cli.output import domain_option, group_option, json_option, print_json
from bakeoff.cli.workspace import Workspace
from bakeoff.jsonl import read_jsonl
from bakeoff.prompts import describe_place
from bakeoff.records import Passage

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
@group_option("Search as a member of this group; may be repeated. Without it, as everyone.")
@click.option("--epoch", type=int, help="Search an epoch of the past (see: bakeoff documents epochs).")
@click.option("--repeats", is_flag=True, help="Let several passages come from one document.")
@click.option("--max-tokens", default=0, type=click.IntRange(0), help="Of all passages together; 0: no limit.")
@click.option("--explain", is_flag=True, help="Say why each passage was found.")
@json_option()
def search_command(
    question: str | None,
    questions: Path | None,
    domain: str,
    top_k: int,
    groups: tuple[str, ...],
    epoch: int | None,
    repeats: bool,
    max_tokens: int,
    explain: bool,
    as_json: bool,
) -> None:
    """Find the best passages for a QUESTION, or for every question of a file."""
    from retrieval.permissions import caller_groups
    from retrieval.retriever import SearchOptions

    if (question is None) == (questions is None):
        raise click.UsageError("give either a QUESTION or --questions FILE")
    options = SearchOptions(
        top_k=top_k, groups=caller_groups(groups), epoch=epoch, repeats=repeats, max_tokens=max_tokens
    )
    workspace = Workspace()
    retriever = workspace.retriever
    if questions is not None:
        lines = [line for _, line in read_jsonl(questions, _Question)]
        for start in range(0, len(lines), BATCH_QUESTIONS):
            batch = lines[start : start + BATCH_QUESTIONS]
            results = retriever.search_many(domain, [line.question for line in batch], options)
            for line, result in zip(batch, results, strict=True):
                found = {"epoch": result.epoch, "passages": result.passages, "evidence": result.evidence}
                print_json({"id": line.id} | found | ({"explanations": result.explanations} if explain else {}))
        return
    assert question is not None
    result = retriever.search(domain, question, options)
    if as_json:
        print_json(result if explain else msgspec.structs.replace(result, explanations=()))
        return
    if explain:
        _explain_search(workspace, domain, question, result.evidence)
    for place, passage in enumerate(result.passages):
        click.echo(
            f"{passage.rank}. {passage.score:.3f}  {describe_place(passage, passage.title)}  [{passage.document_id}]"
        )
        if explain:
            click.echo(f"   {_explain_passage(question, passage, result.explanations[place])}")
        click.echo(f"   {passage.text}\n")
    if not result.passages:
        click.echo("Nothing was found that you may see.")
    elif not result.is_answerable:
        click.echo(f"The evidence, {result.evidence:.3f}, is too weak: rag and hybrid would say that they do not know.")


def _explain_search(workspace: Workspace, domain: str, question: str, evidence: float) -> None:
    from retrieval.index.terms import extract_terms
    from retrieval.normalise import fold_text
    from retrieval.tuning import load_tuning

    with workspace.engine.connect() as connection:
        tuning = load_tuning(connection, domain, workspace.embedder.name)
    fitted = f"tuned on {tuning.num_questions} questions" if tuning.num_questions else "defaults; see: bakeoff tune"
    click.echo(f"Searched by {tuning.fusion} ({fitted}); words: {', '.join(extract_terms(fold_text(question)))}")
    abstains = f"abstains below {tuning.threshold:.3f}" if tuning.threshold else "never abstains"
    click.echo(f"Evidence {evidence:.3f}; {abstains}\n")


def _explain_passage(question: str, passage: Passage, why: msgspec.Struct) -> str:
    from retrieval.index.terms import extract_terms
    from retrieval.normalise import fold_text
    from retrieval.passages import Explanation

    assert isinstance(why, Explanation)
    in_passage = extract_terms(fold_text(f"{passage.title} {passage.heading} {passage.text}"))
    shared = [term for term in extract_terms(fold_text(question)) if term in in_passage]
    parts = [
        f"by meaning {'not found' if why.dense_rank is None else f'rank {why.dense_rank}'}, cosine {why.cosine:.3f}",
        f"by words {'not found' if why.lexical_rank is None else f'rank {why.lexical_rank}'}, BM25 {why.bm25:.2f}, "
        f"{why.coverage:.0%} of the highest possible ({', '.join(shared) or 'no word'})",
        f"fused {why.fused:.4f}",
    ]
    if why.reranked is not None:
        parts.append(f"reranker {why.reranked:.3f}")
    if len(passage.chunk_ids) > 1:
        parts.append(f"{len(passage.chunk_ids)} neighbouring chunks joined")
    return "; ".join(parts)
