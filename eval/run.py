"""One evaluation, from examples to a run folder: `manifest.json`, `answers.jsonl`, `summary.json`, `report.html`.

The run's id is a digest of what is compared: the questions and targets, the modes, and what the service says stands
behind each of them (adapter, index epoch, engine, prompts). The same command therefore goes on where it stopped, and a
new adapter or a changed index starts a new run.
"""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bakeoff.artefacts import FORMAT, MANIFEST, digest_of, hash_file, write_json
from bakeoff.errors import BadInput, Mismatch, NotReady
from bakeoff.modes import Mode, check_domain_name
from bakeoff.progress import Progress
from bakeoff.records import Example
from eval.answers import write_answers, write_atomically
from eval.client import describe_model, open_client
from eval.dataset import sample_examples
from eval.report import format_report
from eval.runner import Plan, run_plan, uses_adapter, uses_retrieval
from eval.statistics import Metric
from eval.summary import Summary, rescore_answers, summarise_answers

DEFAULT_MAX_TOKENS = 64
"""Targets of the sample domain have 8 words in the median and 34 at most; a completion past 64 tokens rambles."""

ANSWERS, SUMMARY, REPORT, INJECTION = "answers.jsonl", "summary.json", "report.html", "injection.json"

Probe = Callable[[httpx.Client, Sequence[str]], Mapping[str, Metric]]
"""(client, modes) -> how often each obeyed an instruction in a passage."""
_LIBRARIES = ("bakeoff", "httpx", "jinja2", "msgspec", "numpy")


def evaluate(
    *,
    url: str,
    domain: str,
    modes: Sequence[Mode],
    examples: Sequence[Example],
    limit: int | None,
    seed: int,
    runs_dir: Path,
    progress: Progress,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    fresh: bool = False,
    probe: Probe | None = None,
    api_key: str = "",
) -> Summary:
    """Score modes on one sample of examples through a running service, and write the run folder.

    Running it again with the same arguments resumes: answers that are there are kept, failed ones are asked again,
    and all scores are computed anew.

    Args:
        url: base address of the service.
        domain: whose modes are asked.
        modes: in the order in which they are shown.
        examples: of one split, any order.
        limit: size of the sample; None takes all.
        seed: of the sample, of the requests and of the resampling.
        runs_dir: the run's folder is made in here, named by its id.
        progress: told after each answer.
        max_tokens: where a completion is cut.
        fresh: measure anew in a folder of its own, though a run of the same content is there.
        probe: tries instructions hidden in passages; asked once a run.
        api_key: of the service, where it asks for one.

    Raises:
        BadInput: no mode, or one named twice; no example.
        NotFound: the service has no such domain or model.
        NotReady: a mode that cannot answer yet, with the command that makes it ready.
        EngineDown: the service is gone; the answers so far are kept.
        Mismatch: adapter or index changed on the way, or the folder is damaged or of another format.
    """
    check_domain_name(domain)
    names = [mode.name for mode in modes]
    if not names or len(set(names)) != len(names):
        raise BadInput(f"modes {', '.join(names)!r}: name at least one, each once", param="modes")
    sample = sample_examples(examples, limit, seed)
    with open_client(url, api_key) as client:
        models = {name: describe_model(client, f"{domain}/{name}") for name in names}
        _check_ready(domain, models)
        plan = Plan(domain, models, sample, seed, max_tokens)
        config = {"domain": domain, "modes": names, "limit": limit, "seed": seed, "max_tokens": max_tokens}
        folder = _find_folder(runs_dir, _run_id(plan, config), fresh)
        manifest = _open_manifest(folder, plan, config, url)
        answers = run_plan(client, plan, folder / ANSWERS, progress)
        injection = _probe_once(folder / INJECTION, probe, client, [name for name in names if uses_retrieval(name)])
    scored = rescore_answers(answers, names, sample)
    leaks = {name: int(facts.get("leaks", 0)) for name, facts in models.items()}
    summary = summarise_answers(folder.name, scored, names, seed, injection, leaks)
    write_answers(folder / ANSWERS, scored.values())
    write_json(folder / SUMMARY, summary)
    write_atomically(folder / REPORT, format_report(summary, scored, sample, manifest).encode())
    files = {name: hash_file(folder / name) for name in (ANSWERS, SUMMARY, REPORT)}
    write_json(folder / MANIFEST, {**manifest, "finished_at": datetime.now(UTC).isoformat(), "files": files})
    return summary


def _probe_once(path: Path, probe: Probe | None, client: httpx.Client, modes: Sequence[str]) -> Mapping[str, Metric]:
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Metric])
    if probe is None or not modes:
        return {}
    found = probe(client, modes)
    write_json(path, found)
    return found


def _check_ready(domain: str, models: Mapping[str, Mapping[str, Any]]) -> None:
    for mode, facts in models.items():
        if facts.get("ready") is False:
            reason = facts.get("reason") or (
                f"train its adapter with bakeoff train --domain {domain}"
                if uses_adapter(mode)
                else f"add documents or examples to domain {domain}"
            )
            raise NotReady(f"{domain}/{mode} cannot answer yet: {reason}")


def _run_id(plan: Plan, config: Mapping[str, Any]) -> str:
    """Digest of everything that the answers depend on, and of nothing else."""
    compared = {mode: _relevant(mode, facts) for mode, facts in plan.models.items()}
    return digest_of({"format": FORMAT, "config": config, "examples": plan.examples, "models": compared})


def _relevant(mode: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a mode's answers depend on: documents added to the domain leave a mode without retrieval as it was."""
    unused = {"ready", "reason"}
    if not uses_adapter(mode):
        unused.add("adapter")
    if not uses_retrieval(mode):
        unused |= {"epoch", "top_k", "retrieval"}
    return {name: value for name, value in facts.items() if name not in unused}


def _find_folder(runs_dir: Path, run_id: str, fresh: bool) -> Path:
    folder = runs_dir / run_id
    attempt = 1
    while fresh and folder.exists():
        attempt += 1
        folder = runs_dir / f"{run_id}-{attempt}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _open_manifest(folder: Path, plan: Plan, config: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Write the manifest of a new run before its first answer, or read that of one to resume."""
    path = folder / MANIFEST
    if path.exists():
        try:
            found: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Mismatch(f"{path} is damaged ({error}): measure anew with --fresh") from error
        if (found.get("format"), found.get("kind")) != (FORMAT, "run"):
            raise Mismatch(f"{path} is of another format than {FORMAT}: measure anew with --fresh")
        return found
    manifest = {
        "format": FORMAT,
        "kind": "run",
        "run": folder.name,
        "created_at": datetime.now(UTC).isoformat(),
        "finished_at": None,
        "config": dict(config),
        "url": url,
        "models": plan.models,
        "examples": {
            "n": len(plan.examples),
            "sha256_16": digest_of(plan.examples),
            "ids": [example.id for example in plan.examples],
        },
        "versions": {name: _version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "host": {"system": platform.platform(), "cpu": _cpu_model(), "cores": os.cpu_count()},
        "files": {},
    }
    write_json(path, manifest)
    return manifest


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
