"""Probes, wired to a workspace: `bakeoff adapters probe`, `bakeoff models probe`, and the gate beside its own checks.

The service starts these commands where vLLM serves and a probe is missing, for it imports neither torch nor training.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bakeoff.adapter_files import KIND, check_adapter_folder
from bakeoff.artefacts import adapters_dir, read_manifest
from bakeoff.chat_template import load_tokenizer
from bakeoff.cli.gating import find_held_out
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BakeoffError, NotFound
from bakeoff.models import find_model, hash_model
from bakeoff.probes import Probe, ProbePair, base_name, write_probe

if TYPE_CHECKING:
    from training.gate.parity import Pair


def probe_adapter(workspace: Workspace, digest: str) -> Probe:
    """Measure an adapter with PEFT and write its probe.

    Args:
        digest: whole.

    Raises:
        NotFound: no folder of this digest.
        NotReady: the base model is missing.
        Mismatch: the folder must not serve.
    """
    from training.gate.gate import load_sides
    from training.gate.probes import general_pairs, measure_pairs

    base_dir = find_model(workspace.settings)
    base_sha256 = hash_model(base_dir)
    folder = adapters_dir(workspace.settings.home) / digest
    if not folder.is_dir():
        raise NotFound(f"there is no adapter {digest} in {folder.parent}; list them with: bakeoff adapters list")
    check_adapter_folder(folder, base_dir, base_sha256)
    pairs = _held_out_pairs(workspace, digest) or general_pairs(load_tokenizer(base_dir))
    return record_probe(workspace, digest, base_sha256, measure_pairs(load_sides(base_dir, folder, None), pairs))


def probe_base(workspace: Workspace) -> Probe:
    """Measure the base model and write its probe.

    Raises:
        NotReady: the base model is missing.
    """
    from training.gate.probes import general_pairs, measure_base

    base_dir = find_model(workspace.settings)
    base_sha256 = hash_model(base_dir)
    pairs = measure_base(base_dir, general_pairs(load_tokenizer(base_dir)))
    return record_probe(workspace, base_name(base_sha256), base_sha256, pairs)


def record_probe(workspace: Workspace, name: str, base_sha256: str, pairs: Sequence[ProbePair]) -> Probe:
    """Write the probe of what was measured, with the conversations beside it."""
    from training.gate.probes import make_conversations

    conversations = make_conversations(load_tokenizer(find_model(workspace.settings)))
    probe = Probe(name, base_sha256, conversations, tuple(pairs))
    write_probe(workspace.settings.home, probe)
    return probe


def _held_out_pairs(workspace: Workspace, digest: str) -> "list[Pair]":
    """Of closed-book rows that the adapter has not learned from; none where its domain has no such example."""
    from training.gate.parity import make_pairs
    from training.gate.rows import make_gate_rows

    manifest = read_manifest(adapters_dir(workspace.settings.home) / digest, KIND)
    try:
        held_out = find_held_out(workspace, str(manifest["domain"]), manifest)
        tokenizer = load_tokenizer(find_model(workspace.settings))
        return make_pairs(make_gate_rows(held_out, tokenizer, lambda questions: [()] * len(questions)).probes)
    except BakeoffError:
        return []
