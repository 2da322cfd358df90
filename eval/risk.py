"""How wrong a mode is when it answers only the questions with the most evidence: a curve, not one number."""

from collections.abc import Sequence

from msgspec import Struct

from eval.answers import Answer

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
SCORE = "token_f1"


class RiskPoint(Struct, frozen=True):
    """One point of the risk-coverage curve (El-Yaniv and Wiener 2010, On the Foundations of Noise-free Selection)."""

    coverage: float
    """Share of the questions answered."""
    risk: float
    """1 - mean token F1 of those answers."""
    evidence: float
    """The least evidence among them."""


def trace_risk(answers: Sequence[Answer]) -> tuple[RiskPoint, ...]:
    """The curve of one mode; empty where its answers carry no evidence.

    Args:
        answers: of one mode, with their scores; failed ones are left out.
    """
    scored = [
        (answer.evidence, score)
        for answer in answers
        if answer.evidence is not None and (score := answer.scores.get(SCORE)) is not None
    ]
    ranked = sorted(scored, key=lambda pair: -pair[0])
    if not ranked:
        return ()
    points = []
    for coverage in COVERAGES:
        answered = ranked[: max(1, round(coverage * len(ranked)))]
        risk = 1 - sum(score for _, score in answered) / len(answered)
        points.append(RiskPoint(coverage, round(risk, 4), round(answered[-1][0], 4)))
    return tuple(points)
