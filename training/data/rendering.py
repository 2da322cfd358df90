"""A report of a check -> lines for people: what was found, a few cases, and the next command for each kind.

The same findings are printed and written as Markdown. Questions are shown, since somebody has to judge them; personal
data never is.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from bakeoff.records import Example
from training.data.check import CheckReport, LabelCount, Lengths
from training.data.duplicates import Conflict
from training.data.personal import scrub

SHOWN = 5
"""Cases of each kind that are shown; the JSON report has all."""
MAX_SHOWN_LABELS = 12


class Finding(Struct, frozen=True):
    """One kind of trouble."""

    title: str
    count: int
    cases: tuple[str, ...]
    """The first few, one line each."""
    advice: str
    """What to do about it, with the next command."""


def list_findings(report: CheckReport, splits: Mapping[str, Sequence[Example]], domain: str | None) -> list[Finding]:
    """Every kind of trouble that was found, the worst first.

    Args:
        domain: None for a file that has not been imported: the advice is then to mend the file.
    """
    by_id = {one.id: one for examples in splits.values() for one in examples}

    def show(example_id: str) -> str:
        return f"{example_id} {_short(by_id[example_id].question)}"

    command = f"bakeoff examples remove --domain {domain}"
    mend = "mend the file before importing it"

    def advise(text: str) -> str:
        return text if domain is not None else mend

    findings = [
        Finding(
            f"leaks into {split}",
            len(leaks),
            tuple(
                f"{leak.kind} ({leak.similarity:.2f}): {show(leak.train_id)} <- {show(leak.held_out_id)}"
                for leak in leaks[:SHOWN]
            ),
            advise(f"drop the training side: {command} --leaks"),
        )
        for split, leaks in report.leaks.items()
    ]
    findings += [
        Finding(
            "personal data",
            len(report.personal),
            tuple(f"{one.example_id}: {', '.join(one.kinds)}" for one in report.personal[:SHOWN]),
            advise(f"replace it by its kind: bakeoff examples check --domain {domain} --scrub"),
        ),
        Finding(
            "conflicting answers",
            len(report.conflicts),
            tuple(
                f"{_short(one.question)}: {' | '.join(f'{key} {_short(answer)}' for key, answer in _pairs(one))}"
                for one in report.conflicts[:SHOWN]
            ),
            advise(f"decide which answer is right and drop the others: {command} ID..."),
        ),
        Finding(
            "exact duplicates",
            len(report.duplicates),
            tuple(f"{one.repeated_id} repeats {show(one.kept_id)}" for one in report.duplicates[:SHOWN]),
            advise(f"keep the first of each: {command} --duplicates"),
        ),
        Finding(
            "near duplicates",
            len(report.near_duplicates),
            tuple(
                f"({one.similarity:.2f}) {show(one.repeated_id)} <- {show(one.kept_id)}"
                for one in report.near_duplicates[:SHOWN]
            ),
            advise(f"keep the first of each: {command} --duplicates; or leave them, they only weigh more"),
        ),
        Finding(
            "without a word in question or answer",
            len(report.empties),
            tuple(map(show, report.empties[:SHOWN])),
            advise(f"drop them: {command} ID..."),
        ),
        Finding(
            f"longer than max_row_tokens = {report.max_row_tokens}",
            len(report.too_long),
            tuple(map(show, report.too_long[:SHOWN])),
            "training leaves them out: shorten them, or raise max_row_tokens in a recipe",
        ),
        Finding(
            f"not in {report.language.majority or 'the usual language'}",
            len(report.language.foreign),
            tuple(f"{one.language}: {show(one.example_id)}" for one in report.language.foreign[:SHOWN]),
            advise(f"keep them if the domain speaks several languages, else drop them: {command} ID..."),
        ),
    ]
    return [finding for finding in findings if finding.count]


def render_text(report: CheckReport, findings: Sequence[Finding]) -> str:
    """The report for a terminal."""
    lines = [f"{report.source}: {_sizes(report)}", *(f"  {line}" for line in _facts(report)), ""]
    if not findings:
        lines.append("Nothing was found that would spoil a training.")
    for finding in findings:
        lines.append(f"{finding.count} {finding.title}")
        lines += [f"    {case}" for case in finding.cases]
        if finding.count > len(finding.cases):
            lines.append(f"    ... and {finding.count - len(finding.cases)} more in the report")
        lines.append(f"  -> {finding.advice}")
    return "\n".join(lines).rstrip()


def render_markdown(report: CheckReport, findings: Sequence[Finding]) -> str:
    """The report as a file."""
    lines = [f"# Examples of {report.source}", "", f"{_sizes(report)}.", ""]
    lines += [f"- {line}" for line in _facts(report)]
    if not findings:
        lines += ["", "Nothing was found that would spoil a training."]
    for finding in findings:
        lines += ["", f"## {finding.count} {finding.title}", ""]
        lines += [f"- {case}" for case in finding.cases]
        if finding.count > len(finding.cases):
            lines.append(f"- ... and {finding.count - len(finding.cases)} more in `report.json`")
        lines += ["", f"What to do: {finding.advice}."]
    for title, counts in (("Tasks", report.tasks), ("Labels", report.labels)):
        if len(counts) > 1:
            lines += ["", f"## {title}", "", *_table(counts, tuple(report.sizes))]
    return "\n".join(lines) + "\n"


def _sizes(report: CheckReport) -> str:
    return ", ".join(f"{count} in {split}" for split, count in report.sizes.items())


def _facts(report: CheckReport) -> list[str]:
    facts = [
        f"{report.with_documents} of {sum(report.sizes.values())} name a document; {report.synthetic} are synthetic",
        f"question, tokens: {_lengths(report.question_tokens)}",
        f"answer, tokens: {_lengths(report.answer_tokens)}",
        f"language: {report.language.majority or 'too little text to tell'}",
    ]
    for split, count in report.same_document.items():
        facts.append(f"{count} in {split} ask about a document that train asks about too: no leak, but good to know")
    for title, counts in (("tasks", report.tasks), ("labels", report.labels)):
        if len(counts) > 1:
            few = [f"{one.label} {sum(one.counts.values())}" for one in counts[:MAX_SHOWN_LABELS]]
            smallest = min(sum(one.counts.values()) for one in counts)
            more = "" if len(counts) <= MAX_SHOWN_LABELS else f", ... ({len(counts)} in all, the rarest {smallest})"
            facts.append(f"{title}: {', '.join(few)}{more}")
            unseen = [one.label for one in counts if one.counts.get("train") == 0]
            if unseen and report.sizes.get("train"):
                facts.append(f"{title} that train does not have: {', '.join(unseen[:MAX_SHOWN_LABELS])}")
    return facts


def _lengths(lengths: Lengths) -> str:
    return f"{lengths.shortest} to {lengths.longest}, median {lengths.median}, 95% up to {lengths.p95}"


def _table(counts: Sequence[LabelCount], splits: Sequence[str]) -> list[str]:
    head = [f"| label | {' | '.join(splits)} |", f"|---|{'---|' * len(splits)}"]
    return head + [f"| {one.label} | {' | '.join(str(one.counts[split]) for split in splits)} |" for one in counts]


def _pairs(conflict: Conflict) -> list[tuple[str, str]]:
    return list(zip(conflict.ids, conflict.answers, strict=True))


def _short(text: str, length: int = 70) -> str:
    line = " ".join(scrub(text).split())
    return repr(line if len(line) <= length else f"{line[: length - 3]}...")
