"""What every training command gathers first: base model, examples, and how to find passages, shots and groups."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from bakeoff.cli.output import say
from bakeoff.cli.workspace import Workspace
from bakeoff.database import reading
from bakeoff.errors import BadInput
from bakeoff.examples import cut_validation, split_examples
from bakeoff.models import find_model, hash_model
from bakeoff.records import Example, Passage

if TYPE_CHECKING:
    from training.data.leaks import Leak

SHOWN_LEAKS = 3
_SPARE_SHOTS = 10
"""Shots searched beyond those wanted: the example itself is among the nearest, and validation examples may be."""


class Material(Struct, frozen=True):
    """Everything that `training` is handed."""

    base_dir: Path
    base_digest: str
    train_examples: list[Example]
    validation_examples: list[Example]
    find_passages: Callable[[list[str]], list[list[Passage]]]
    find_shots: Callable[[Example], list[Example]]
    find_groups: Callable[[Sequence[str]], Mapping[str, Sequence[str]]]


def gather_material(
    workspace: Workspace, domain: str, seed: int, files: tuple[Path, Path | None] | None = None
) -> Material:
    """Collect what a training of this domain needs.

    Args:
        files: of training and of validation examples, in place of the domain's splits, to which nothing is added.

    Raises:
        BadInput: a file of examples cannot be used.
        NotFound: no such domain.
        NotReady: it has no training examples, or the base model is missing.
    """
    from retrieval.audience import groups_on_record
    from retrieval.shots import nearest_shots

    splits = workspace.splits(domain, seed) if files is None else _read_files(*files, seed)
    train_examples, validation_examples = splits
    base_dir = find_model(workspace.settings)
    num_shots = workspace.settings.num_shots
    learned = {example.id for example in train_examples}

    def find_shots(example: Example) -> list[Example]:
        wanted = num_shots + _SPARE_SHOTS
        found = nearest_shots(workspace.engine, domain, example.question, workspace.embedder, wanted, task=example.task)
        return [shot for shot in found if shot.id != example.id and shot.id in learned][-num_shots:]

    def find_groups(documents: Sequence[str]) -> Mapping[str, Sequence[str]]:
        with reading(workspace.engine) as connection:
            return groups_on_record(connection, domain, documents)

    return Material(
        base_dir,
        hash_model(base_dir),
        train_examples,
        validation_examples,
        workspace.passages_finder(domain),
        find_shots,
        find_groups,
    )


def _read_files(train_file: Path, validation_file: Path | None, seed: int) -> tuple[list[Example], list[Example]]:
    from training.data.formats import read_file

    train_examples = read_file(train_file)
    if validation_file is not None:
        return train_examples, read_file(validation_file)
    return cut_validation(train_examples, seed)


def refuse_leaks(
    workspace: Workspace, domain: str, train_examples: Sequence[Example], *, allowed: bool
) -> "list[Leak]":
    """Compare the training questions with the test questions, which are read for nothing else.

    A few questions that only look like paraphrases are said and allowed, for the detector errs as often.

    Args:
        allowed: say what was found and go on, whatever it is.

    Returns:
        the leaks that were allowed; the manifest of what is trained names them for ever.

    Raises:
        BadInput: there are leaks, and they are not allowed.
    """
    from training.data.leaks import are_refused, find_leaks

    with reading(workspace.engine) as connection:
        test_examples = split_examples(connection, domain, "test")
    leaks = list(find_leaks(train_examples, test_examples, workspace.embedder.embed))
    if not leaks:
        return []
    shown = ", ".join(f"{leak.held_out_id} = {leak.train_id} ({leak.kind})" for leak in leaks[:SHOWN_LEAKS])
    num_questions = len({leak.held_out_id for leak in leaks})
    found = f"{num_questions} test question{'' if num_questions == 1 else 's'} in train too, or in other words: {shown}"
    found += ", ..." if len(leaks) > SHOWN_LEAKS else ""
    if not allowed and are_refused(leaks, len(test_examples)):
        raise BadInput(
            f"{found}. Scores on them would measure memory. See all: bakeoff examples check --domain {domain}. Drop "
            f"them from train: bakeoff examples remove --domain {domain} --leaks. Or train all the same, which the "
            "adapter will say for ever: --allow-leaks"
        )
    say(f"Allowed, and written down: {found}. See all: bakeoff examples check --domain {domain}")
    return leaks
