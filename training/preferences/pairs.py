"""Judgements -> what is learned from and what is held out: pairs by epoch, thumbs, and questions on one side only.

A ranking of n answers makes n (n - 1) / 2 pairs, all from one reading by one person (Ouyang et al. 2022, section 3.5).
Learning from each would let one long ranking outweigh many votes. So an epoch takes only as many of its pairs as it
has borders between levels, n - 1 without ties: as many comparisons as the order needs. Epoch after epoch takes other
pairs until all were had. What measures pairs weights them the same.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from training.draw import draw
from training.preferences.judgements import Context, Preferences, Ranking, Thumb


class Pair(Struct, frozen=True):
    """Two answers to one prompt, one of which was liked better."""

    context: Context
    chosen: str
    rejected: str
    weight: float
    """How many comparisons it stands for: 1 for a vote; those of a ranking add up to its borders between levels."""
    source: str
    """Id of the line."""


class Sides(Struct, frozen=True):
    """The judgements of a file in two parts that share no question."""

    learned: Preferences
    held_out: Preferences


def make_pairs(ranking: Ranking) -> list[Pair]:
    """Make every pair of answers of different levels, the better one chosen."""
    made = [
        (chosen, rejected)
        for position, level in enumerate(ranking.levels)
        for chosen in level
        for worse in ranking.levels[position + 1 :]
        for rejected in worse
    ]
    weight = _borders(ranking) / len(made)
    return [Pair(ranking.context, chosen, rejected, weight, ranking.id) for chosen, rejected in made]


def draw_epochs(rankings: Sequence[Ranking], num_epochs: int, seed: int) -> list[Pair]:
    """Draw the pairs of all epochs, in the order in which they are learned.

    Returns:
        For each epoch, for each ranking, as many pairs as it has borders between levels, shuffled; no pair comes again
        before all pairs of its ranking have come.
    """
    drawn: list[Pair] = []
    orders = [
        sorted(make_pairs(ranking), key=lambda pair: draw(seed, "pair", pair.source, pair.chosen, pair.rejected))
        for ranking in rankings
    ]
    for epoch in range(num_epochs):
        taken = [
            order[place % len(order)]
            for ranking, order in zip(rankings, orders, strict=True)
            for place in range(epoch * _borders(ranking), (epoch + 1) * _borders(ranking))
        ]
        keys = [draw(seed, "epoch", epoch, position) for position in range(len(taken))]
        drawn += [taken[position] for position in sorted(range(len(taken)), key=keys.__getitem__)]
    return drawn


def draw_thumbs(thumbs: Sequence[Thumb], num_epochs: int, seed: int) -> list[Thumb]:
    """Draw the thumbs of all epochs: each once an epoch, in another order every time."""
    return [
        thumb
        for epoch in range(num_epochs)
        for thumb in sorted(thumbs, key=lambda thumb: draw(seed, "thumb", epoch, thumb.id))
    ]


def thumbs_of(rankings: Iterable[Ranking]) -> list[Thumb]:
    """Split rankings into thumbs: the answers of the best level are up, those of the worst are down.

    What stands between is neither, and is left out.
    """
    return [
        Thumb(f"{ranking.id}-{place}-{number}", ranking.context, answer, place == "best")
        for ranking in rankings
        for place, level in (("best", ranking.levels[0]), ("worst", ranking.levels[-1]))
        for number, answer in enumerate(level)
    ]


def cut_held_out(preferences: Preferences, share: float, seed: int) -> Sides:
    """Hold out a share of the questions, at least one of two or more, with everything that was said about them.

    The same file, share and seed hold out the same questions, so that a reward model has not seen those on which the
    adapter trained with it is measured.
    """
    judgements: list[Ranking | Thumb] = [*preferences.rankings, *preferences.thumbs]
    questions = {_key(judgement) for judgement in judgements}
    order = sorted(questions, key=lambda question: draw(seed, "held-out", question))
    num_held_out = min(len(order) - 1, max(1, round(len(order) * share))) if share else 0
    held_out = set(order[:num_held_out])

    def part(is_held_out: bool) -> Preferences:
        return Preferences(
            tuple(ranking for ranking in preferences.rankings if (_key(ranking) in held_out) == is_held_out),
            tuple(thumb for thumb in preferences.thumbs if (_key(thumb) in held_out) == is_held_out),
        )

    return Sides(part(False), part(True))


def contexts_of(preferences: Preferences) -> list[Context]:
    """The prompts that were judged, each once, in the order of the file."""
    judgements: list[Ranking | Thumb] = [*preferences.rankings, *preferences.thumbs]
    return list(dict.fromkeys(judgement.context for judgement in judgements))


def _borders(ranking: Ranking) -> int:
    return len(ranking.levels) - 1


def _key(judgement: Ranking | Thumb) -> str:
    """A question, however it was spaced and capitalised."""
    return " ".join(judgement.context.question.casefold().split())
