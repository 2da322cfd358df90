"""The whole gate on real adapters and the real engine; and each check where only that one is wrong."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from bakeoff.adapters import GateReport
from bakeoff.artefacts import read_manifest
from bakeoff.cli.gating import engine_score, gate_adapter
from bakeoff.cli.workspace import Workspace
from bakeoff.database import writing
from bakeoff.domains import domains_table, find_domain
from bakeoff.errors import Mismatch
from training.adapter import KIND
from training.gate.gate import CANDIDATE, load_sides, run_gate, using
from training.gate.parity import check_differs, check_parity, make_pairs, score_by_peft
from training.gate.rows import GateRows, make_gate_rows
from training.rows import Row

DOMAIN = "hotels"


@pytest.fixture(scope="module")
def rows(home: Any, tokenizer: Any) -> GateRows:
    return make_gate_rows(home.validation, tokenizer, lambda questions: [[] for _ in questions])


@pytest.fixture
def serve(workspace: Workspace) -> Callable[[str | None], None]:
    """Let an adapter serve the domain, past every gate."""

    def serve(digest: str | None) -> None:
        with writing(workspace.engine) as connection:
            connection.execute(update(domains_table).values(adapter=digest))

    return serve


def by_name(report: GateReport) -> dict[str, bool]:
    return {check.name: check.passed for check in report.checks}


def test_a_good_adapter_passes_every_check(
    home: Any, workspace: Workspace, serve: Callable[[str | None], None]
) -> None:
    serve(None)
    report = gate_adapter(workspace, DOMAIN, home.good[:8])
    assert (report.adapter, report.against) == (home.good, None)
    assert by_name(report) == dict.fromkeys(("folder", "parity", "differs", "validation", "forgetting"), True), report
    assert (home.path / "engines" / f"{home.good}-float32").exists(), "a promotion should find it folded"
    with workspace.engine.connect() as connection:
        assert find_domain(connection, DOMAIN).adapter is None, "the gate itself promotes nothing"


def test_a_wrecked_adapter_is_refused_for_what_it_says_and_what_it_forgot(
    home: Any, workspace: Workspace, serve: Callable[[str | None], None]
) -> None:
    serve(home.good)
    report = gate_adapter(workspace, DOMAIN, home.wrecked)
    assert not report.passed
    assert report.against == home.good
    found = by_name(report)
    assert found.pop("parity") in {True, False}, "measured, though noise this large leaves little to agree on"
    assert found == {"folder": True, "differs": True, "validation": False, "forgetting": False}, report
    assert not list((home.path / "engines").glob(f"{home.wrecked}*")), "what was folded in vain stays on the disk"


def test_an_adapter_that_serves_already_is_compared_with_base(
    home: Any, workspace: Workspace, serve: Callable[[str | None], None]
) -> None:
    serve(home.good)
    report = gate_adapter(workspace, DOMAIN, home.good)
    assert report.passed
    assert "the base model" in next(check.sentence for check in report.checks if check.name == "validation")


def test_a_damaged_folder_is_refused_before_anything_is_loaded(
    home: Any, workspace: Workspace, serve: Callable[[str | None], None], tmp_path: Path
) -> None:
    serve(None)
    path = home.folder(home.wrecked) / "adapter_config.json"
    shutil.copy(path, tmp_path)
    path.write_text("{}")
    try:
        report = gate_adapter(workspace, DOMAIN, home.wrecked)
    finally:
        shutil.copy(tmp_path / path.name, path)
    assert by_name(report) == {"folder": False}
    assert "adapter_config.json" in report.checks[0].sentence


def test_an_engine_that_serves_the_base_model_is_found_out(
    home: Any, model_dir: Path, rows: GateRows, workspace: Workspace
) -> None:
    score = engine_score(workspace, model_dir)
    pairs = make_pairs(rows.probes)
    model = load_sides(model_dir, home.folder(home.good), None)
    with using(model, CANDIDATE):
        by_peft = score_by_peft(model, pairs)
    served, base = score(pairs, home.good), score(pairs, None)
    assert check_parity(served, by_peft).passed
    assert check_differs(served, base).passed
    parity, differs = check_parity(base, by_peft), check_differs(base, base)
    assert not parity.passed
    assert not differs.passed
    assert "not what was trained" in parity.sentence
    assert "changes nothing" in differs.sentence


def test_scores_that_are_no_numbers_do_not_pass() -> None:
    assert not check_parity([[float("nan")]], [[-1.0]]).passed
    assert not check_differs([[float("nan")]], [[-1.0]]).passed


@pytest.mark.parametrize("fails", ["engine", "no examples"])
def test_what_cannot_be_measured_is_refused(
    fails: str, home: Any, model_dir: Path, tokenizer: Any, rows: GateRows
) -> None:
    def score(pairs: Sequence[Any], adapter: str | None) -> list[list[float]]:
        raise Mismatch("of another base model")

    folder = home.folder(home.good)
    report = run_gate(
        base_dir=model_dir,
        folder=folder,
        manifest=read_manifest(folder, KIND),
        against=None,
        serving=None,
        rows=rows if fails == "engine" else GateRows((), ()),
        tokenizer=tokenizer,
        score=score,
        check_folder=lambda: None,
        progress=lambda *_: None,
    )
    found = by_name(report)
    assert not found["parity"]
    assert "differs" not in found
    assert found["validation"] == (fails == "engine")


def test_pairs_end_where_the_prompt_does() -> None:
    assert make_pairs([Row("x", "closed-book", (1, 2, 3, 4), 3, ())]) == [((1, 2, 3), (4,))]
