"""`bakeoff train audit`: how much of its training text an adapter gives away."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from bakeoff.adapter_files import KIND
from bakeoff.adapters import Adapter, find_adapter
from bakeoff.artefacts import read_manifest
from bakeoff.cli.gating import find_held_out
from bakeoff.cli.output import domain_option, json_option, print_json, progress_of, say, step
from bakeoff.cli.promotion import note_event
from bakeoff.cli.workspace import Workspace
from bakeoff.database import reading
from bakeoff.domains import find_domain
from bakeoff.errors import BadInput, NotReady
from bakeoff.examples import find_examples
from bakeoff.models import find_model, hash_model
from bakeoff.records import Example

if TYPE_CHECKING:
    from training.audit.audit import Audit
    from training.audit.canaries import Exposure
    from training.recipe import Recipe


@click.command("audit")
@click.argument("digest", required=False)
@domain_option()
@click.option(
    "--canaries/--no-canaries",
    default=True,
    show_default=True,
    help="Plant made-up secrets and train a throw-away adapter by the same recipe: takes as long as the training did.",
)
@click.option(
    "--num-canaries",
    default=3,
    show_default=True,
    type=click.IntRange(1, 50),
    help="Secrets for each number of repetitions: 0, 1, 4, 16.",
)
@click.option("--seed", default=0, show_default=True, help="Draws the secrets.")
@json_option()
def audit_command(digest: str | None, domain: str, canaries: bool, num_canaries: int, seed: int, as_json: bool) -> None:
    """Say how much of its training text an adapter gives away; the serving adapter without DIGEST.

    Tells trained from other examples by their loss, counts the answers it repeats word for word, and plants canaries.
    The figures go into the adapter's history and onto its model card.
    """
    found, audit = audit_adapter(Workspace(), domain, digest, per_repetition=num_canaries if canaries else 0, seed=seed)
    if as_json:
        print_json({"adapter": found.digest, **msgspec.to_builtins(audit), "sentences": audit.sentences})
        return
    click.echo(f"{domain}: adapter {found.digest}")
    for sentence in audit.sentences:
        click.echo(f"  {sentence}.")


def audit_adapter(
    workspace: Workspace, domain: str, digest: str | None, *, per_repetition: int, seed: int
) -> "tuple[Adapter, Audit]":
    """Audit one of the domain's adapters and record it.

    Args:
        digest: whole or its first digits; None for the serving adapter.
        per_repetition: canaries for each number of repetitions; 0 for none.
        seed: draws them.

    Raises:
        NotFound: the domain has no such adapter.
        NotReady: no adapter serves the domain.
        BadInput: its examples are gone, or too few.
    """
    from bakeoff.chat_template import load_tokenizer
    from training.audit.audit import Audit, audit_membership

    settings = workspace.settings
    with reading(workspace.engine) as connection:
        digest = digest or find_domain(connection, domain).adapter
        if digest is None:
            raise NotReady(f"no adapter serves {domain!r}; train one with: bakeoff train --domain {domain}")
        adapter = find_adapter(connection, settings.home, domain, digest)
        manifest = read_manifest(adapter.path, KIND)
        members = find_examples(connection, domain, manifest["lineage"]["examples"])
    others = find_held_out(workspace, domain, manifest)
    base_dir = find_model(settings)
    tokenizer = load_tokenizer(base_dir)
    with step("Comparing trained with other examples"):
        membership = audit_membership(base_dir, adapter.path, members, others, tokenizer)
    exposures: tuple[Exposure, ...] = ()
    if per_repetition:
        exposures = _audit_canaries(workspace, domain, adapter, manifest, members, per_repetition, seed)
    audit = Audit(membership, exposures)
    note_event(workspace, adapter, "audited", details=audit.figures)
    return adapter, audit


def _audit_canaries(
    workspace: Workspace,
    domain: str,
    adapter: Adapter,
    manifest: dict[str, Any],
    members: Sequence[Example],
    per_repetition: int,
    seed: int,
) -> "tuple[Exposure, ...]":
    from bakeoff.chat_template import load_tokenizer
    from training.audit.audit import audit_canaries
    from training.recipe import parse_recipe
    from training.train import train

    if manifest.get("method") != "sft":
        say(f"No canaries: this adapter was made by {manifest.get('method')!r}, which is not trained again here.")
        return ()
    recipe = parse_recipe(manifest["recipe"], f"the manifest of {adapter.digest}")
    base_dir = find_model(workspace.settings)
    folder = workspace.settings.home / "audits" / f"{adapter.digest}-{per_repetition}-{seed}"

    def train_again(examples: Sequence[Example], grown: "Recipe") -> Path:
        if not examples:
            raise BadInput(f"the examples that adapter {adapter.digest} has learned from are gone; say --no-canaries")
        with progress_of("Training a throw-away adapter with canaries") as progress:
            return train(
                base_dir=base_dir,
                base_digest=hash_model(base_dir),
                domain=domain,
                train_examples=examples,
                validation_examples=(),
                find_passages=workspace.passages_finder(domain),
                recipe=msgspec.structs.replace(grown, validation_tokens=0, patience=0),
                seed=int(manifest["seed"]),
                adapters_dir=folder / "adapters",
                work_dir=folder / "training",
                progress=progress,
            ).path

    exposures = audit_canaries(
        base_dir, members, recipe, load_tokenizer(base_dir), train_again, per_repetition=per_repetition, seed=seed
    )
    shutil.rmtree(folder)  # only when all went well: an interrupted training goes on
    return exposures
