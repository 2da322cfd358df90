"""The rows that a gate looks at: a few for parity, more for the comparison, none that either side has learned from.

Prompts are those of the modes `fine-tuned` and `hybrid` with the passages that serving would find. Which examples an
adapter has learned from stands in its lineage; that, and not the split of today, decides what is held out, because the
serving adapter may have been trained with another seed or before examples were moved.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from bakeoff.records import Example
from training.draw import draw
from training.recipe import load_recipe
from training.rows import FindPassages, Row, make_rows

MAX_EXAMPLES = 120
PASSAGES_TOKENS = 8_000
"""Of the rows with passages, each of them about 700; closed-book rows are ten times shorter and all taken."""
NUM_PROBES = {"closed-book": 6, "passages": 2}
_ALL_TOKENS = 10**9


class GateRows(Struct, frozen=True):
    """What both sides are scored on."""

    probes: tuple[Row, ...]
    """For parity with the serving engine."""
    validation: tuple[Row, ...]


def hold_out(
    validation: Sequence[Example], train: Sequence[Example], manifests: Iterable[Mapping[str, Any]]
) -> list[Example]:
    """The examples that no adapter of these manifests has learned from: of the validation split first, then of train.

    Args:
        validation: of the domain, or those that were cut from train.
        train: examples that the token budget left out are as good as held out; the test split is never among them.
        manifests: of the candidate and of the serving adapter.
    """
    learned = {example for manifest in manifests for example in manifest.get("lineage", {}).get("examples", ())}
    found = {example.id: example for example in (*validation, *train) if example.id not in learned}
    return list(found.values())


def make_gate_rows(
    examples: Sequence[Example], tokenizer: Any, find_passages: FindPassages, *, max_examples: int = MAX_EXAMPLES
) -> GateRows:
    """Make the rows of the first examples, both kinds where documents are known.

    Args:
        examples: held out, the best first (see `hold_out`).
        find_passages: what serving would retrieve.
    """
    chosen = _choose(examples, max_examples)
    if not chosen:
        return GateRows((), ())
    recipe = load_recipe()
    closed_book = make_rows(
        chosen,
        tokenizer,
        find_passages,
        msgspec.structs.replace(recipe, passages_share=0.0),
        budget=_ALL_TOKENS,
        epochs=1,
        seed=0,
    ).rows
    with_documents = [example for example in chosen if example.document_ids]
    with_passages: tuple[Row, ...] = ()
    if with_documents:
        only = msgspec.structs.replace(recipe, passages_share=1.0)
        found = make_rows(with_documents, tokenizer, find_passages, only, budget=PASSAGES_TOKENS, epochs=1, seed=0).rows
        with_passages = tuple(row for row in found if row.kind == "passages")
    probes = (*closed_book[: NUM_PROBES["closed-book"]], *with_passages[: NUM_PROBES["passages"]])
    return GateRows(probes, (*closed_book, *with_passages))


def _choose(examples: Sequence[Example], max_examples: int) -> list[Example]:
    """The first ones, in an order that no team's sorting decides."""
    return sorted(examples[:max_examples], key=lambda example: draw(0, "gate", example.id))
