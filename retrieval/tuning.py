"""How a domain is searched, and what its scores mean: chosen and fitted on its own validation questions.

A tuning is one row of the database. A domain without one is searched by the defaults, whose scores were fitted on
training questions of four other domains (docs/log.md) and whose evidence never makes a mode abstain.
"""

import math
from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, insert, select

from retrieval.ranking import Candidate, Fusion
from retrieval.tables import tunings_table

NUM_EVIDENCE_FEATURES = 10


class Logistic(Struct, frozen=True):
    """A probability from features: 1 / (1 + exp(-(bias + weights . features)))."""

    bias: float
    weights: tuple[float, ...]

    def probability(self, features: Sequence[float]) -> float:
        """In (0, 1)."""
        total = self.bias + sum(weight * value for weight, value in zip(self.weights, features, strict=True))
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


class RiskPoint(Struct, frozen=True):
    """One point of the risk-coverage curve (El-Yaniv and Wiener 2010): answer only above a threshold."""

    coverage: float
    """Share of the questions answered."""
    risk: float
    """Share of those for which no passage holds the answer."""
    threshold: float


class Tuning(Struct, frozen=True):
    """How a domain is searched."""

    fusion: Fusion = Fusion()
    passage: Logistic = Logistic(-7.626, (7.098, 4.577))
    """Whether a passage comes from a document of the answer, by `passage_features`."""
    evidence: Logistic = Logistic(-3.404, (-5.93, -2.671, 8.232, 4.745, 4.615, -1.163, -1.894, 7.634, -4.688, 2.048))
    """Whether any passage does, by `evidence_features`."""
    threshold: float = 0.0
    """Evidence below it makes the modes with retrieval abstain."""
    num_questions: int = 0
    """Validation questions it was fitted on; 0 for the defaults."""
    embedder: str = ""
    """It was fitted with; scores of another mean something else."""
    ndcg: dict[str, float] = {}
    """nDCG@10 on the validation questions of each method that was tried."""
    risk_coverage: tuple[RiskPoint, ...] = ()
    """By cross-validation, half of the questions made unanswerable."""
    answered: float = 1.0
    """Share of the questions with a right passage whose evidence reaches the threshold, by cross-validation."""
    declined: float = 0.0
    """Share of the other questions whose evidence does not."""
    calibration_error: float = 0.0
    """Of the passage scores, by cross-validation: expected calibration error over ten bins."""
    fitted_at: datetime | None = None


def passage_features(candidate: Candidate) -> tuple[float, float]:
    """What tells whether a passage is the right one: cosine, and share of the question's words by weight."""
    return candidate.cosine, candidate.coverage


def evidence_features(candidates: Sequence[Candidate]) -> tuple[float, ...]:
    """What tells whether there is a right passage: how good the best is, and how far it stands out.

    Args:
        candidates: best first.

    Returns:
        The highest cosine and coverage; both of the first candidate; how far the first is above the second and the
        fifth, fused; how far the highest cosine and coverage are above the fifth and the second highest.
    """
    if not candidates:
        return (0.0,) * NUM_EVIDENCE_FEATURES
    first = candidates[0]
    cosines = sorted((candidate.cosine for candidate in candidates), reverse=True)
    coverages = sorted((candidate.coverage for candidate in candidates), reverse=True)
    fused = [candidate.fused for candidate in candidates]
    return (
        cosines[0],
        coverages[0],
        first.cosine,
        first.coverage,
        *(
            values[0] - values[min(place, len(values) - 1)]
            for values in (fused, cosines, coverages)
            for place in (1, 4)
        ),
    )


def load_tuning(connection: Connection, domain: str, embedder: str) -> Tuning:
    """The domain's tuning, or the defaults where it has none for this embedder."""
    text = connection.scalar(select(tunings_table.c.tuning).where(tunings_table.c.domain == domain))
    tuning = Tuning() if text is None else msgspec.json.decode(text, type=Tuning)
    return tuning if tuning.embedder == embedder else Tuning()


def save_tuning(connection: Connection, domain: str, tuning: Tuning | None) -> None:
    """Put a domain's tuning in place of the one before; None goes back to the defaults."""
    connection.execute(delete(tunings_table).where(tunings_table.c.domain == domain))
    if tuning is not None:
        text = msgspec.json.encode(tuning).decode()
        connection.execute(insert(tunings_table).values(domain=domain, tuning=text))
