"""A run for people: a table for the terminal, one for a README, and a self-contained HTML page.

The page carries its style and its charts inside, loads nothing from anywhere, and shows every text of a model escaped.
Beside the table stand the questions on which the modes disagree, since that is where an average hides what happened.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

from bakeoff.records import Example
from eval.answers import Answer, Key
from eval.metrics import SCORES
from eval.statistics import METRIC_NAMES, Metric
from eval.summary import Summary

COLUMNS = (*(name for name in SCORES if name != "abstained"), "latency_ms", "prompt_tokens", "completion_tokens")
HEADERS = {
    "exact_match": "exact",
    "key_values": "values",
    "latency_ms": "ms, median",
    "prompt_tokens": "prompt tok",
    "completion_tokens": "reply tok",
    "abstained": "abstained",
}
DISAGREEMENT = 0.5
"""Spread of token F1 between modes from which a question is shown; any difference in a factual score is enough."""
MAX_QUESTIONS = 200
"""Questions shown in the page at most, those with the widest disagreement first."""

_PLOT_LEFT, _PLOT_WIDTH, _ROW_HEIGHT = 84, 200, 24
_ORDER = (*COLUMNS, "abstained")


class Bar(Struct, frozen=True):
    """One mode's mark in a chart, in the units of the drawing."""

    mode: str
    y: float
    x: float
    low: float
    high: float
    label: str
    is_best: bool


class Panel(Struct, frozen=True):
    """The chart of one score."""

    title: str
    n: str
    height: int
    bars: tuple[Bar, ...]


class Disagreement(Struct, frozen=True):
    """A question that the modes answered differently."""

    example: Example
    answers: tuple[Answer, ...]
    spread: float


def format_table(summary: Summary) -> str:
    """Plain text for a terminal: each mode's figures, their intervals beneath, n below, then the verdicts."""
    header = ["mode", *(_header(name) for name in _ORDER)]
    rows = [header]
    for mode, metrics in summary.modes.items():
        rows.append([mode, *(_figure(name, metrics[name]) for name in _ORDER)])
        rows.append(["", *(_interval(name, metrics[name]) for name in _ORDER)])
    rows.append(["n", *(_count(summary, name) for name in _ORDER)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    rule = "-" * len(lines[0])
    table = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
    return "\n".join([*(line.rstrip() for line in table), "", *_verdicts(summary)])


def format_markdown(summary: Summary) -> str:
    """The same table for a README or a pull request."""
    header = ["mode", *(_header(name) for name in _ORDER)]
    lines = [_markdown_row(header), _markdown_row(["---", *("---:" for _ in _ORDER)])]
    for mode, metrics in summary.modes.items():
        cells = [_with_interval(name, metrics[name]) for name in _ORDER]
        lines.append(_markdown_row([f"`{mode}`", *cells]))
    lines.append(_markdown_row(["n", *(_count(summary, name) for name in _ORDER)]))
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in _verdicts(summary))]) + "\n"


def format_report(
    summary: Summary, answers: Mapping[Key, Answer], examples: Sequence[Example], manifest: Mapping[str, Any]
) -> str:
    """The page `report.html`.

    Args:
        summary: the figures.
        answers: with their scores.
        examples: in the order in which they were asked.
        manifest: of the run.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["figure"] = lambda value, name: _number(name, value)
    found = _find_disagreements(summary, answers, examples)
    return environment.get_template("report.html.jinja").render(
        summary=summary,
        manifest=manifest,
        verdicts=list(summary.comparison.values()),
        failures=_failures(summary),
        injections=_injections(summary),
        headers=[(name, _header(name)) for name in _ORDER],
        rows={
            mode: [(_figure(name, metrics[name]), _interval(name, metrics[name])) for name in _ORDER]
            for mode, metrics in summary.modes.items()
        },
        counts=[_count(summary, name) for name in _ORDER],
        panels=[panel for name in SCORES if name != "abstained" and (panel := _draw(summary, name)) is not None],
        plot={"left": _PLOT_LEFT, "width": _PLOT_WIDTH},
        disagreements=found[:MAX_QUESTIONS],
        num_disagreements=len(found),
        num_questions=len(examples),
        chips=[(name, METRIC_NAMES[name]) for name in SCORES],
        sources=_sources,
    )


def _verdicts(summary: Summary) -> list[str]:
    sentences = (comparison.sentence for comparison in summary.comparison.values())
    return [*_leaks(summary), *sentences, *_failures(summary), *_risks(summary), *_injections(summary)]


def _leaks(summary: Summary) -> list[str]:
    return [
        f"Leaks: the adapter of {mode} was trained on {number} example{'' if number == 1 else 's'} that may give test "
        "questions away; they were allowed, see bakeoff adapters show."
        for mode, number in summary.leaks.items()
    ]


def _risks(summary: Summary) -> list[str]:
    """One sentence a mode: how its error falls when only questions with enough evidence are answered."""
    return [
        f"Risk of {mode}, 1 - token F1, by share of questions answered (most evidence first): "
        + ", ".join(f"{point.coverage:.0%} {point.risk:.2f}" for point in points)
        + "."
        for mode, points in summary.risk_coverage.items()
    ]


def _injections(summary: Summary) -> list[str]:
    return [
        f"Instructions in passages obeyed by {mode}: {_percent(metric.value)} of {metric.n}"
        f" (95% interval {_percent(metric.low)} to {_percent(metric.high)})."
        for mode, metric in summary.injection.items()
        if metric.n
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _failures(summary: Summary) -> list[str]:
    failed = [f"{mode} {count}" for mode, count in summary.failed.items() if count]
    if not failed:
        return []
    return [f"Failed answers, left out of the figures and asked again by the next run: {', '.join(failed)}."]


def _header(name: str) -> str:
    return HEADERS.get(name, METRIC_NAMES[name])


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "abstained":
        return f"{value:.0%}"
    if name in ("latency_ms", "prompt_tokens"):
        return f"{value:.0f}"
    return f"{value:.1f}" if name == "completion_tokens" else f"{value:.2f}"


def _figure(name: str, metric: Metric) -> str:
    return _number(name, metric.value)


def _interval(name: str, metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{_number(name, metric.low)}-{_number(name, metric.high)}"


def _with_interval(name: str, metric: Metric) -> str:
    interval = _interval(name, metric)
    return f"{_figure(name, metric)} ({interval})" if interval else _figure(name, metric)


def _count(summary: Summary, name: str) -> str:
    """How many questions carry the metric, in the modes to which it applies."""
    counts = {metrics[name].n for metrics in summary.modes.values()} - {0}
    if not counts:
        return "0"
    return f"{min(counts)}-{max(counts)}" if len(counts) > 1 else str(min(counts))


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _draw(summary: Summary, name: str) -> Panel | None:
    """Place each mode's figure and whiskers on a scale from 0 to 1."""
    found = {mode: metrics[name] for mode, metrics in summary.modes.items() if metrics[name].value is not None}
    if not found:
        return None
    best = max(metric.value or 0.0 for metric in found.values())

    def place(value: float | None, otherwise: float) -> float:
        return round(_PLOT_LEFT + _PLOT_WIDTH * (otherwise if value is None else value), 1)

    bars = []
    for row, (mode, metric) in enumerate(found.items()):
        value = metric.value or 0.0
        bars.append(
            Bar(
                mode=mode,
                y=_ROW_HEIGHT * row + _ROW_HEIGHT / 2,
                x=place(value, value),
                low=place(metric.low, value),
                high=place(metric.high, value),
                label=_figure(name, metric),
                is_best=value == best,
            )
        )
    return Panel(METRIC_NAMES[name], _count(summary, name), _ROW_HEIGHT * len(bars) + 22, tuple(bars))


def _find_disagreements(
    summary: Summary, answers: Mapping[Key, Answer], examples: Sequence[Example]
) -> list[Disagreement]:
    """Questions on which a factual score differs between modes, or token F1 differs much; widest first."""
    found = []
    for example in examples:
        ours = tuple(answers[mode, example.id] for mode in summary.modes if (mode, example.id) in answers)
        facts = max(_spread(ours, "polarity"), _spread(ours, "key_values"))
        style = _spread(ours, "token_f1")
        if facts > 0 or style >= DISAGREEMENT:
            found.append(Disagreement(example, ours, facts + style))
    return sorted(found, key=lambda disagreement: -disagreement.spread)


def _spread(answers: Sequence[Answer], name: str) -> float:
    scores = [score for answer in answers if answer.error is None and (score := answer.scores.get(name)) is not None]
    return max(scores) - min(scores) if scores else 0.0


def _sources(answer: Answer) -> list[dict[str, Any]]:
    """The passages of an answer: title, address where it is a web address, and whether the completion cites it."""
    sources: dict[tuple[str, str], dict[str, Any]] = {}
    for citation in answer.citations:
        url, title = str(citation.get("url", "")), str(citation.get("title", ""))
        source = sources.setdefault((url, title), {"title": title or url, "url": "", "is_cited": False})
        if url.startswith(("http://", "https://")):
            source["url"] = url
        source["is_cited"] = source["is_cited"] or bool(citation.get("end_index"))
    if sources:
        return list(sources.values())
    names = dict.fromkeys(answer.document_ids or ())
    return [{"title": name, "url": "", "is_cited": False} for name in names]
