"""What a manifest says of a training: the rows, the lineage, the learning."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bakeoff.records import Example
from training.batches import fill_of, make_batches
from training.curve import Gap, describe_training
from training.loop import Learned
from training.recipe import Recipe
from training.rows import Row, RowSet

FindGroups = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]
"""Document ids -> the groups that may see each."""


def describe_rows(rows: RowSet, recipe: Recipe, seed: int) -> dict[str, Any]:
    """How many rows of each kind and task there are, what was left out, and how full the batches are."""
    lengths = [len(row.ids) for row in rows.rows]
    kinds = Counter(row.kind for row in rows.rows)
    tasks = Counter(row.task for row in rows.rows)
    batches = make_batches(lengths, recipe.batch_tokens, seed, recipe.batching)
    return {
        **dict(sorted(kinds.items())),
        "tasks": dict(sorted(tasks.items())),
        "left_out_too_long": rows.num_too_long,
        "examples_without_gold_passage": rows.num_without_gold,
        "fill": round(fill_of(batches, lengths, recipe.batching), 4),
    }


def trace_lineage(rows: Sequence[Row], examples: Sequence[Example], find_groups: FindGroups) -> dict[str, Any]:
    """Everything that the rows show: documents and who may see them, examples, and which of these a model made."""
    documents = sorted({document for row in rows for document in row.document_ids})
    learned = {name for row in rows for name in (row.example_id, *row.shot_ids)}
    synthetic = [example.id for example in examples if example.id in learned and "synthetic" in example.tags]
    return {
        "documents": documents,
        "groups": {document: list(groups) for document, groups in find_groups(documents).items()},
        "examples": sorted(learned),
        "synthetic_examples": sorted(synthetic),
    }


def describe_learning(learned: Learned, model: Any, gaps: Sequence[Gap]) -> dict[str, Any]:
    """The curve, which step was kept, the gap to held-out rows, tokens and seconds."""
    return {
        "dtype": str(model.get_base_model().dtype).removeprefix("torch."),
        "curve": [(point.step, point.train_loss, point.validation_loss) for point in learned.curve],
        "best_step": learned.best_step,
        "num_steps": learned.num_steps,
        "gaps": gaps,
        "report": describe_training(learned.curve, gaps, learned.best_step, learned.num_steps),
        "tokens": learned.tokens,
        "seconds": round(learned.seconds, 3),
    }
