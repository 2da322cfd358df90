"""The gate, wired to a workspace: which examples, which folders, and the engine that would serve.

`bakeoff adapters check|promote` and `bakeoff train` come here. The engine's log-probabilities are those of the weights
it would serve: the adapter is folded where the service looks for it, so that a promotion finds it ready. Where the gate
refuses, weights that were folded for it alone are taken away again.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.adapter_files import KIND, check_adapter_folder
from bakeoff.adapters import GateReport, find_adapter
from bakeoff.artefacts import adapters_dir, read_manifest
from bakeoff.cli.output import progress_of, say
from bakeoff.cli.workspace import Workspace
from bakeoff.database import reading
from bakeoff.domains import find_domain
from bakeoff.errors import BakeoffError, NotReady
from bakeoff.examples import split_examples
from bakeoff.models import find_model, hash_model
from bakeoff.records import Example

if TYPE_CHECKING:
    from bakeoff.probes import ProbePair
    from training.gate.parity import Score
    from training.gate.validation import Paired


def gate_adapter(
    workspace: Workspace, domain: str, digest: str, *, seen: "Callable[[Paired], None] | None" = None
) -> GateReport:
    """Run every check of the gate on an adapter of a domain.

    Args:
        digest: whole, or its first eight or more digits.
        seen: is given the paired validation scores, for whoever resamples them.

    Raises:
        NotFound: the domain has no such adapter.
        NotReady: the base model or its export is missing.
    """
    from bakeoff.chat_template import load_tokenizer
    from training.gate.gate import run_gate
    from training.gate.parity import TOLERANCES
    from training.gate.rows import GateRows, make_gate_rows

    settings = workspace.settings
    base_dir = find_model(settings)
    base_digest = hash_model(base_dir)
    with reading(workspace.engine) as connection:
        folder = find_adapter(connection, settings.home, domain, digest).path
        against = find_domain(connection, domain).adapter
    serving = _find_serving(adapters_dir(settings.home), against, folder, base_dir, base_digest)

    def check_folder() -> None:
        check_adapter_folder(folder, base_dir, base_digest)

    def record(pairs: "Sequence[ProbePair]") -> None:
        from bakeoff.cli.probing import record_probe

        record_probe(workspace, folder.name, base_digest, pairs)

    manifest: dict[str, Any] = {}
    rows = GateRows((), ())
    tokenizer = load_tokenizer(base_dir)
    if _passes(check_folder):
        manifest = read_manifest(folder, KIND)
        held_out = find_held_out(workspace, domain, manifest, serving)

        rows = make_gate_rows(held_out, tokenizer, workspace.passages_finder(domain))
    folded = settings.home / "engines" / f"{folder.name}-{settings.engine_precision}"
    was_folded = folded.exists()
    with progress_of("Gate") as progress:
        report = run_gate(
            base_dir=base_dir,
            folder=folder,
            manifest=manifest,
            against=against,
            serving=serving,
            rows=rows,
            tokenizer=tokenizer,
            score=engine_score(workspace, base_dir),
            check_folder=check_folder,
            progress=progress,
            tolerance=TOLERANCES[settings.engine_precision],
            seen=seen,
            probed=record if settings.vllm_urls else None,
        )
    if not report.passed and not was_folded:
        shutil.rmtree(folded, ignore_errors=True)
    return report


def engine_score(workspace: Workspace, base_dir: Path) -> "Score":
    """Log-probabilities by the weights and the arithmetic that the embedded engine serves with."""
    from service.embedded.export import find_export
    from service.embedded.fold import fold_adapter
    from service.embedded.manifest import read_manifest as read_engine
    from service.embedded.scoring import score_tokens

    settings = workspace.settings
    base_engine = find_export(base_dir, settings.models / "engines", settings.engine_precision)

    def score(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None) -> Sequence[Sequence[float]]:
        engine = base_engine
        if adapter is not None:
            engine = fold_adapter(
                adapters_dir(settings.home) / adapter, base_dir, base_engine, settings.home / "engines"
            )
        return score_tokens(engine, read_engine(engine), pairs, settings.engine_threads)

    return score


def find_held_out(
    workspace: Workspace, domain: str, manifest: dict[str, Any], serving: Path | None = None
) -> list[Example]:
    """Examples of the domain that neither adapter has learned from, those of the validation split first."""
    from training.gate.rows import hold_out

    with reading(workspace.engine) as connection:
        train = split_examples(connection, domain, "train")
    try:
        validation = workspace.validation_examples(domain, int(manifest.get("seed") or 0))
    except NotReady:
        validation = []
    others = [read_manifest(serving, KIND)] if serving is not None else []
    return hold_out(validation, train, [manifest, *others])


def _find_serving(
    adapters: Path, against: str | None, candidate: Path, base_dir: Path, base_digest: str
) -> Path | None:
    """The folder to compare with: of the serving adapter, unless that is the candidate or cannot serve any more."""
    if against is None or against == candidate.name:
        return None
    try:
        check_adapter_folder(adapters / against, base_dir, base_digest)
    except BakeoffError as error:
        say(f"The serving adapter cannot be compared with, so the base model is: {error}")
        return None
    return adapters / against


def _passes(check: Callable[[], None]) -> bool:
    try:
        check()
    except BakeoffError:
        return False
    return True
