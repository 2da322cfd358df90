"""Examples -> training rows, through the renderer and the chat template that serving uses, and nothing else.

A closed-book row is the prompt of mode `fine-tuned` plus the target; a row with passages is the prompt of mode `hybrid`
plus a target that cites its passage. The passages are what the retriever really returns for the question: the passage
of a document of the example among distractors (RAFT, Zhang et al. 2024, section 3). A few-shot row is the prompt of
mode `few-shot`. One mixture of kinds, and of tasks, teaches one adapter all of them. Labels stand on the target and its
end token alone. The same seed gives the same rows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from bakeoff.chat_template import row_ids
from bakeoff.errors import BadInput
from bakeoff.modes import MODES
from bakeoff.prompts import pose_example, render_messages, render_target
from bakeoff.records import Example, Passage
from bakeoff.tasks import find_task
from training.draw import draw
from training.recipe import Recipe

FindPassages = Callable[[list[str]], Sequence[Sequence[Passage]]]
"""Questions -> for each the passages that serving would put into its prompt, best first."""
FindShots = Callable[[Example], Sequence[Example]]
"""Example -> the worked examples that serving would put before it, the nearest last, itself not among them."""
Kind = Literal["closed-book", "passages", "no-gold", "few-shot"]
_SEARCH_BLOCK = 32
"""Questions searched at a time, so that a small budget does not embed every question of a large domain."""


class Row(Struct, frozen=True):
    """What one step of training sees of one example."""

    example_id: str
    kind: Kind
    ids: tuple[int, ...]
    """Token ids: the prompt as served, then the target and its end token."""
    num_prompt: int
    """How many of `ids` are the prompt; the labels are the others."""
    document_ids: tuple[str, ...]
    """Documents that the row learns from: those of the example and those of its passages."""
    task: str = "answer"
    shot_ids: tuple[str, ...] = ()
    """Examples that stand before the question."""


class RowSet(Struct, frozen=True):
    """The rows of a training, and what was left out of them."""

    rows: tuple[Row, ...]
    num_too_long: int
    """Rows left out because they are longer than `max_row_tokens`."""
    num_without_gold: int
    """Examples for which no passage of one of their documents was found, and which became no row with passages."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(len(row.ids) for row in self.rows)


def make_rows(
    examples: Sequence[Example],
    tokenizer: Any,
    find_passages: FindPassages,
    recipe: Recipe,
    *,
    budget: int,
    epochs: int,
    seed: int,
    find_shots: FindShots | None = None,
) -> RowSet:
    """Make rows of every kind until the budget is spent; where `task_weights` says so, of every task by its weight.

    Args:
        examples: of one split.
        tokenizer: a Hugging Face tokenizer with a chat template.
        budget: tokens of all rows together; the row that passes it is the last of its kind.
        epochs: rows of one kind that an example may become.
        find_shots: needed where the recipe wants few-shot rows.

    Raises:
        BadInput: there is no example, none of a task that has a weight, or no row is short enough.
    """
    if not examples:
        raise BadInput(
            "there is no training example; import some: bakeoff examples import FILE --domain D --split train"
        )
    builder = _RowBuilder(tokenizer, recipe, seed, find_passages, find_shots)
    rows: list[Row] = []
    for pool, share in _divide(examples, recipe):
        rows += _make_pool(pool, builder, recipe, budget * share, epochs, seed)
    if not rows and budget > 0:
        raise BadInput(f"no example makes a row of at most max_row_tokens = {recipe.max_row_tokens}", "max_row_tokens")
    return RowSet(tuple(rows), builder.num_too_long, len(builder.without_gold))


def choose_passages(
    found: Sequence[Passage], example: Example, num_passages: int, *, with_gold: bool
) -> tuple[Passage, ...]:
    """Choose a row's passages from those found for its question, in the order in which they were found.

    Args:
        found: best first.
        with_gold: whether the best passage of the example's documents is among them; the distractors are the best of
            the others.

    Returns:
        At most `num_passages`; empty when the passages wanted were not found.
    """
    gold = [passage for passage in found if passage.document_id in example.document_ids][:1]
    others = [passage for passage in found if passage.document_id not in example.document_ids]
    if not with_gold:
        return tuple(others[:num_passages])
    if not gold:
        return ()
    chosen = (*gold, *others[: num_passages - 1])
    return tuple(passage for passage in found if passage in chosen)


def _divide(examples: Sequence[Example], recipe: Recipe) -> list[tuple[Sequence[Example], float]]:
    """Pools of examples with their parts of the budget, which sum to 1."""
    if not recipe.task_weights:
        return [(examples, 1.0)]
    total = sum(recipe.task_weights.values())
    pools: list[tuple[Sequence[Example], float]] = []
    for task, weight in recipe.task_weights.items():
        pool = [example for example in examples if example.task == task]
        if weight and not pool:
            raise BadInput(
                f"task_weights gives {task!r} the weight {weight:g}, but no example of this split has that task", task
            )
        if weight:
            pools.append((pool, weight / total))
    return pools


def _make_pool(
    examples: Sequence[Example], builder: "_RowBuilder", recipe: Recipe, budget: float, epochs: int, seed: int
) -> list[Row]:
    """Rows of one pool.

    The rows with passages are made first, from one end of a seeded order, few-shot rows next, and the closed-book rows
    from the other end, so that the kinds share examples only when there are few. What the others leave of their share
    (no document known, none found) goes to closed-book rows.
    """
    order = sorted(examples, key=lambda example: draw(seed, "order", example.id))
    others: list[Row] = []
    if recipe.passages_share > 0:
        sourced = [example for example in order[::-1] if example.document_ids]
        others += _take(builder.all_with_passages(sourced * epochs), budget * recipe.passages_share)
    if recipe.few_shot_share > 0:
        rest = order[::-1][len({row.example_id for row in others}) :] or order
        others += _take((builder.few_shot(example) for example in rest * epochs), budget * recipe.few_shot_share)
    left = budget - sum(len(row.ids) for row in others)
    return [*_take((builder.closed_book(example) for example in order * epochs), left), *others]


class _RowBuilder:
    """Renders rows and counts what it leaves out."""

    def __init__(
        self, tokenizer: Any, recipe: Recipe, seed: int, find_passages: FindPassages, find_shots: FindShots | None
    ) -> None:
        self._tokenizer = tokenizer
        self._recipe = recipe
        self._seed = seed
        self._find_passages = find_passages
        self._find_shots = find_shots
        self.num_too_long = 0
        self.without_gold: set[str] = set()

    def closed_book(self, example: Example) -> Row | None:
        return self._build(example, "closed-book")

    def few_shot(self, example: Example) -> Row | None:
        assert self._find_shots is not None, "few_shot_share wants find_shots"
        shots = self._find_shots(example)[-self._recipe.shots_per_row :]
        return self._build(example, "few-shot", shots=shots)

    def all_with_passages(self, examples: Sequence[Example]) -> Iterator[Row | None]:
        for start in range(0, len(examples), _SEARCH_BLOCK):
            block = examples[start : start + _SEARCH_BLOCK]
            for example, found in zip(block, self._find_passages([example.question for example in block]), strict=True):
                yield self._with_passages(example, found)

    def _with_passages(self, example: Example, found: Sequence[Passage]) -> Row | None:
        with_gold = draw(self._seed, "gold", example.id) >= self._recipe.no_gold_share
        passages = choose_passages(found, example, self._recipe.passages_per_row, with_gold=with_gold)
        if not passages:
            self.without_gold.add(example.id)
            return None
        return self._build(example, "passages" if with_gold else "no-gold", passages)

    def _build(
        self, example: Example, kind: Kind, passages: Sequence[Passage] = (), shots: Sequence[Example] = ()
    ) -> Row | None:
        mode = MODES["hybrid" if passages else "few-shot" if shots else "fine-tuned"]
        prompt = render_messages(mode, pose_example(example), passages, shots, find_task(example.task))
        ids, num_prompt = row_ids(self._tokenizer, prompt, render_target(example, passages))
        if len(ids) > self._recipe.max_row_tokens:
            self.num_too_long += 1
            return None
        documents = dict.fromkeys((*example.document_ids, *(passage.document_id for passage in passages)))
        shot_ids = tuple(shot.id for shot in shots)
        return Row(example.id, kind, tuple(ids), num_prompt, tuple(documents), example.task, shot_ids)


def _take(rows: Iterator[Row | None], budget: float) -> list[Row]:
    taken: list[Row] = []
    spent = 0
    while spent < budget:
        row = next(rows, _END)
        if isinstance(row, Row):
            taken.append(row)
            spent += len(row.ids)
        elif row is _END:
            break
    return taken


_END = object()
