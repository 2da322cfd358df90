"""What stands before a promotion: folder, parity, difference from base, validation, forgetting; in this order.

In: the candidate's folder, what serves now, the rows to look at, and a way to ask the serving engine for
log-probabilities. Out: a `GateReport` with a sentence for each check, passed or not. One base model is loaded once, in
float32 for parity and then in the type that training would choose; candidate, serving adapter and bare base are three
settings of it, so that they differ in nothing else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch

from bakeoff.adapters import Check, GateReport
from bakeoff.errors import BakeoffError
from bakeoff.probes import ProbePair
from bakeoff.progress import Progress
from training.attention import register_attention
from training.gate.forgetting import Forgetting, check_forgetting, measure_forgetting, read_questions
from training.gate.parity import TOLERANCES, Score, check_differs, check_parity, make_pairs, score_by_peft
from training.gate.probes import measure_pairs
from training.gate.rows import GateRows
from training.gate.scores import score_rows
from training.gate.validation import Paired, check_validation, pair_scores
from training.model import choose_dtype

CANDIDATE = "candidate"
SERVING = "serving"
NUM_STEPS = 4


def run_gate(
    *,
    base_dir: Path,
    folder: Path,
    manifest: Mapping[str, Any],
    against: str | None,
    serving: Path | None,
    rows: GateRows,
    tokenizer: Any,
    score: Score,
    check_folder: Callable[[], None],
    progress: Progress,
    tolerance: float = TOLERANCES["float32"],
    seen: Callable[[Paired], None] | None = None,
    probed: Callable[[Sequence[ProbePair]], None] | None = None,
) -> GateReport:
    """Check a candidate.

    Args:
        base_dir: Hugging Face folder of the base model.
        folder: of the candidate, named by its digest.
        manifest: of the candidate; a measure of forgetting in it is not taken again.
        against: digest of the adapter that serves now, for the report; None if none does.
        serving: its folder; None to compare with the base model, because none serves or it cannot any more.
        rows: that neither has learned from.
        score: asks the serving engine.
        check_folder: raises BakeoffError where the candidate's folder must not serve.
        tolerance: of the engine's precision, see `parity.TOLERANCES`.
        seen: is given the paired scores, for whoever resamples them.
        probed: is given what PEFT computed for the parity check, with the candidate and without, for engines that
            cannot be asked from here.
    """
    digest = folder.name
    progress(0, NUM_STEPS, "the folder")
    try:
        check_folder()
    except BakeoffError as error:
        return GateReport(digest, against, (Check("folder", False, f"the folder cannot be served: {error}"),))
    checks = [Check("folder", True, "the folder is whole, and made for this base model and chat template")]
    progress(1, NUM_STEPS, "parity with the serving engine")
    model = load_sides(base_dir, folder, serving)
    checks += _check_engine(model, rows, digest, score, tolerance, probed)
    progress(2, NUM_STEPS, "validation examples")
    compute_as_in_training(model)
    reference = against if serving is not None else None
    paired = compare_sides(model, rows)
    checks.append(check_validation(paired, against=reference))
    if seen is not None:
        seen(paired)
    progress(3, NUM_STEPS, "general questions")
    known = forgetting_of(manifest)
    if known is None:
        with using(model, CANDIDATE):
            known = measure_forgetting(model, tokenizer)
    checks.append(check_forgetting(known))
    progress(4, NUM_STEPS, "done")
    return GateReport(digest, against, tuple(checks))


def load_sides(base_dir: Path, folder: Path, serving: Path | None) -> Any:
    """The base model in float32 with one or two adapters on it, by transformers' own attention."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(
        base_dir, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    model: Any = PeftModel.from_pretrained(base, str(folder), adapter_name=CANDIDATE)
    if serving is not None:
        model.load_adapter(str(serving), adapter_name=SERVING)
    if torch.cuda.is_available():
        model.to("cuda")
    return model.eval()


def compute_as_in_training(model: Any) -> None:
    """Change to the type and the attention of training, which are several times faster on the rows of a comparison."""
    config = model.get_base_model().config
    uses_dora = any(adapter.use_dora for adapter in model.peft_config.values())
    model.to(torch.float32 if uses_dora else choose_dtype(config.hidden_size, config.intermediate_size))
    model.get_base_model().set_attn_implementation(register_attention())


@contextmanager
def using(model: Any, side: str | None) -> Iterator[None]:
    """The model with one adapter, or with none."""
    if side is None:
        with model.disable_adapter():
            yield
    else:
        model.set_adapter(side)
        yield


def compare_sides(model: Any, rows: GateRows) -> Paired:
    """Score the rows with the candidate and with what it is compared to."""
    sides = (CANDIDATE, SERVING if SERVING in model.peft_config else None)
    scores = []
    for side in sides:
        with using(model, side):
            scores.append(score_rows(model, rows.validation))
    return pair_scores(*scores)


def forgetting_of(manifest: Mapping[str, Any]) -> Forgetting | None:
    """The measure that training took, if it was taken with the questions of today."""
    found = manifest.get("forgetting")
    if not found or found.get("questions_sha256") != read_questions()[1]:
        return None
    return msgspec.convert(found, Forgetting)


def _check_engine(
    model: Any,
    rows: GateRows,
    digest: str,
    score: Score,
    tolerance: float,
    probed: Callable[[Sequence[ProbePair]], None] | None,
) -> list[Check]:
    pairs = make_pairs(rows.probes)
    if not pairs:
        return [Check("parity", False, "there is no validation example whose prompt the serving engine could be asked")]
    try:
        served, served_base = score(pairs, digest), score(pairs, None)
    except BakeoffError as error:
        return [Check("parity", False, f"the serving engine refuses the adapter: {error}")]
    with using(model, CANDIDATE):
        if probed is None:
            by_peft = score_by_peft(model, pairs)
        else:
            measured = measure_pairs(model, pairs)
            probed(measured)
            by_peft = [list(pair.adapter) for pair in measured]
    return [check_parity(served, by_peft, tolerance), check_differs(served, served_base, tolerance)]
