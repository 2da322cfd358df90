import pytest

from eval.answers import Answer
from eval.risk import trace_risk


def answer(evidence: float | None, f1: float | None, error: str | None = None) -> Answer:
    scores = {} if f1 is None else {"token_f1": f1}
    return Answer("rag", "e", "q", ("t",), "c", (), (), scores, 1, 1, 1, 1, (), evidence, error=error)


def test_the_curve_takes_the_answers_with_the_most_evidence_first() -> None:
    points = trace_risk([answer(place / 10, place / 10) for place in range(1, 11)])
    assert (points[0].coverage, points[0].risk, points[0].evidence) == (1.0, pytest.approx(0.45), 0.1)
    half = next(point for point in points if point.coverage == 0.5)
    assert (half.risk, half.evidence) == (pytest.approx(0.2), 0.6)
    assert [point.risk for point in points] == sorted((point.risk for point in points), reverse=True)


def test_answers_without_evidence_and_failed_ones_make_no_curve() -> None:
    assert trace_risk([answer(None, 0.5), answer(0.9, None, "gone")]) == ()
