"""The model card of an adapter: what made it, what it learned from, what was found out about it, what it is not for.

In: its manifest, which never changes, and its events, which do. Out: Markdown in plain words, with units. It lies
beside the weights as MODEL_CARD.md, is no part of the manifest's files, and is written anew after each event;
`bakeoff adapters show` prints the same text.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bakeoff.adapters import AdapterEvent
from bakeoff.artefacts import write_whole

CARD_FILE = "MODEL_CARD.md"
CURVE_ROWS = 12
_METHODS = {
    "sft": "supervised fine-tuning on questions with their answers",
    "dpo": "direct preference optimisation on pairs of a better and a worse answer",
    "orpo": "odds-ratio preference optimisation on pairs of a better and a worse answer",
    "kto": "Kahneman-Tversky optimisation on answers with thumbs up and down",
    "ppo": "proximal policy optimisation on a reward",
    "rloo": "REINFORCE leave-one-out on a reward",
    "grpo": "group relative policy optimisation on a reward",
    "imported": "import of a folder that was made elsewhere",
}
_KNOBS = (
    "lora_variant",
    "lora_r",
    "lora_alpha",
    "lora_targets",
    "quantisation",
    "learning_rate",
    "beta",
    "token_budget",
    "max_epochs",
    "num_epochs",
    "batch_tokens",
    "passages_share",
    "few_shot_share",
    "no_gold_share",
    "task_weights",
)
_FORGETTING = {
    "num_questions": "general questions asked",
    "accuracy_base": "share right, base model",
    "accuracy": "share right, with the adapter",
    "lost": "fall of the right answer among four, nats",
    "lost_low": "its 95% interval, lower end",
    "lost_high": "its 95% interval, upper end",
}


def write_card(
    folder: Path, manifest: Mapping[str, Any], events: Sequence[AdapterEvent], audience: str | None = None
) -> None:
    """Write MODEL_CARD.md beside the weights: a reader sees the old card or the new one."""
    text = describe_adapter(folder.name, manifest, events, audience)
    write_whole(folder / CARD_FILE, text.encode())


def describe_adapter(
    digest: str, manifest: Mapping[str, Any], events: Sequence[AdapterEvent], audience: str | None = None
) -> str:
    """The card.

    Args:
        manifest: of the adapter; whatever a way of training does not write down is left out.
        events: `bakeoff.adapters.tell_history`.
        audience: who may be served, in one sentence; None where that is not known.
    """
    own = [event for event in events if event.digest == digest]
    sections = {
        "": _made(manifest),
        "Learned from": _learned(manifest),
        "Training": _curve(manifest),
        "General questions, before and after": _figures(manifest.get("forgetting"), _FORGETTING),
        "Held-out preferences": _figures(manifest.get("measures")),
        "Gate": _gate(own),
        "Memorisation audit": _audit(own),
        "Who may be served": [audience] if audience else [],
        "Do not use it": _limits(manifest),
        "History": [_event_line(event, digest) for event in events],
    }
    lines = [f"# Adapter {digest} of {manifest.get('domain', 'an unknown domain')}", ""]
    for title, body in sections.items():
        if body:
            lines += [f"## {title}", ""] if title else []
            lines += [*body, ""]
    return "\n".join(lines)


def _made(manifest: Mapping[str, Any]) -> list[str]:
    method = str(manifest.get("method", "unknown"))
    base = f"{manifest.get('base_model')} (sha256 {str(manifest.get('base_sha256'))[:12]})"
    recipe = manifest.get("recipe")
    knobs = recipe if isinstance(recipe, Mapping) else {}
    shown = [f"{name} {_plain(knobs[name])}" for name in _KNOBS if knobs.get(name) not in (None, {}, "none")]
    versions = manifest.get("versions", {})
    facts = {
        "Made by": f"{_METHODS.get(method, method)} (`{method}`), {manifest.get('created_at', 'date unknown')}",
        "Base model": base,
        "Started from": manifest.get("started_from"),
        "Recipe": ", ".join(shown),
        "Seed": manifest.get("seed"),
        "Computed in": manifest.get("dtype"),
        "Engines that can serve it": ", ".join(manifest.get("engines") or []),
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }
    return [f"- {name}: {value}" for name, value in facts.items() if value not in (None, "")]


def _learned(manifest: Mapping[str, Any]) -> list[str]:
    lineage = manifest.get("lineage", {})
    rows = manifest.get("rows", {})
    kinds = {name: count for name, count in rows.items() if isinstance(count, int)}
    synthetic = len(lineage.get("synthetic_examples", []))
    lines = [
        f"- {len(lineage.get('examples', [])):,} examples and {len(lineage.get('documents', [])):,} documents "
        "(their ids stand in manifest.json, lineage)"
    ]
    if manifest.get("method") == "imported":
        lines = ["- unknown: it was made elsewhere, and says nothing of what it learned from"]
    if synthetic:
        lines.append(f"- {synthetic:,} of the examples were written by a model")
    if kinds:
        lines.append("- Rows: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in kinds.items()))
    if len(rows.get("tasks", {})) > 1:
        lines.append("- Rows by task: " + ", ".join(f"{count:,} {name}" for name, count in rows["tasks"].items()))
    restricted = [groups for groups in (lineage.get("groups") or {}).values() if "everyone" not in groups]
    if restricted:
        names = sorted({group for groups in restricted for group in groups})
        lines.append(f"- At the training, {len(restricted):,} of the documents were only for {', '.join(names)}")
    leaked = {leak["held_out_id"] for leak in manifest.get("leaks") or ()}
    if leaked:
        lines.append(
            f"- **{len(leaked):,} test questions, or paraphrases of them, were among its training examples, and it was "
            "trained all the same: its scores on the test split measure memory too.**"
        )
    return lines


def _curve(manifest: Mapping[str, Any]) -> list[str]:
    curve = manifest.get("curve") or []
    lines = []
    if manifest.get("tokens"):
        lines += [f"{manifest['tokens']:,} tokens in {manifest.get('seconds', 0):,.0f} s.", ""]
    if manifest.get("report"):
        lines += [str(manifest["report"]), ""]
    points = [point for point in curve if isinstance(point, list) and len(point) == 3]
    if not points:
        return lines
    every = -(-len(points) // CURVE_ROWS)
    kept = [point for place, point in enumerate(reversed(points)) if place % every == 0][::-1]
    lines += ["Loss, nats per label token:", "", "| step | train | validation |", "|---|---|---|"]
    lines += [f"| {step:,} | {_number(train)} | {_number(validation)} |" for step, train, validation in kept]
    gaps = [
        f"- {gap['kind']}: {gap['validation_loss'] - gap['train_loss']:+.3f} nats ({gap['num_validation']} rows)"
        for gap in manifest.get("gaps") or ()
    ]
    return [*lines, "", "Gap after training, rows held out above rows learned:", "", *gaps] if gaps else lines


def _gate(events: Iterable[AdapterEvent]) -> list[str]:
    """What the gate found last, of the events that carry a report."""
    found = [event for event in events if event.details.get("gate")]
    if not found:
        return ["It never went through the gate."]
    event, report = found[-1], found[-1].details["gate"]
    against = report.get("against") or "the base model"
    lines = [f"Against {against}, {_when(event.at)}:", ""]
    for check in report["checks"]:
        lines.append(f"- {check['name']}, {'passed' if check['passed'] else '**failed**'}: {check['sentence']}")
    if event.event == "promoted" and not all(check["passed"] for check in report["checks"]):
        lines += ["", f"**Promoted all the same by {event.by}: {event.reason}**"]
    return lines


def _audit(events: Iterable[AdapterEvent]) -> list[str]:
    found = [event for event in events if event.event == "audited"]
    if not found:
        return ["How much of its training text it gives away was not measured."]
    details = found[-1].details
    sentences = [f"- {sentence}" for sentence in details.get("sentences", [])]
    return [f"{_when(found[-1].at)}:", "", *(sentences or _figures(details))]


def _figures(figures: object, names: Mapping[str, str] | None = None, prefix: str = "") -> list[str]:
    """Named figures as lines, those inside others with both names; long lists by their length."""
    if not isinstance(figures, Mapping):
        return []
    lines: list[str] = []
    for name, value in figures.items():
        title = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping) and {"mean", "low", "high"} <= value.keys():
            interval = f"{_plain(value['low'])} to {_plain(value['high'])}"
            lines.append(f"- {title}: {_plain(value['mean'])} (95% interval {interval})")
        elif isinstance(value, Mapping):
            lines += _figures(value, None, f"{title}, ")
        elif names is None:
            lines.append(f"- {title}: {f'{len(value)} values' if isinstance(value, list) else _plain(value)}")
        elif name in names:
            lines.append(f"- {names[name]}: {_plain(value)}")
    return lines


def _limits(manifest: Mapping[str, Any]) -> list[str]:
    return [
        f"- on another base model than {manifest.get('base_model')}, or another chat template: it is refused there",
        f"- for questions outside of {manifest.get('domain', 'its domain')}: nobody measured them",
        "- by itself for facts that must be right, such as prices and times: an adapter learns how to answer and makes "
        "up what it does not remember; put retrieval in front of it (mode `hybrid`)",
        "- for callers who may not see what it learned from: it can repeat its training text",
    ]


def _event_line(event: AdapterEvent, digest: str) -> str:
    reason = f": {event.reason}" if event.reason else ""
    what = event.event
    if event.digest != digest:
        what = f"rolled back to {event.digest}" if event.event == "rolled back" else f"replaced by {event.digest}"
    return f"- {_when(event.at)}, {what} in {event.domain} by {event.by}{reason}"


def _when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_plain(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_plain(part) for part in value)
    return "-" if value is None else str(value)
