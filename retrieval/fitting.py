"""Validation questions -> a domain's tuning: how to fuse, what scores mean, and when the evidence is too weak.

Whether and how to fuse is the choice with the highest nDCG@10 on the questions; the default stays unless another beats
it by more than one standard error of the paired differences. Scores and evidence are logistic regressions over two and
ten measures. For the evidence, each question is searched twice, once as if the documents of its answer were not there;
the curve of risk against coverage, and the calibration error, come from cross-validation, never from the fit itself.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bakeoff.errors import BadInput
from bakeoff.progress import Progress
from bakeoff.records import Example
from retrieval.embedder import Embedder
from retrieval.normalise import fold_text
from retrieval.ranking import Candidate, Fusion
from retrieval.retriever import Retriever, SearchOptions
from retrieval.tuning import Logistic, RiskPoint, Tuning, evidence_features, passage_features

MIN_QUESTIONS = 20
CHOICES = (
    *(Fusion("weighted-sum", tenth / 10) for tenth in range(11)),
    *(Fusion("reciprocal-rank", share) for share in (0.3, 0.5, 0.7)),
)
_CUTOFF = 10
_FOLDS = 5
_COVERAGES = tuple(percent / 100 for percent in range(100, 0, -10))

Floats = NDArray[np.float64]
Found = list[tuple[str, Candidate]]


class _Question(Struct, frozen=True):
    text: str
    query: Any
    gold: frozenset[str]


def fit_tuning(
    retriever: Retriever,
    domain: str,
    examples: Sequence[Example],
    embedder: Embedder,
    progress: Progress,
    *,
    options: SearchOptions,
    keep: float = 0.95,
    seed: int = 0,
) -> Tuning:
    """Choose and fit how a domain is searched.

    Args:
        examples: of the validation split; those that name documents of the domain are used.
        progress: called with (choices tried, choices, note).
        options: what the modes search with.
        keep: share of the questions with a right passage that must stay answered; it sets the threshold.
        seed: of the folds.

    Raises:
        BadInput: too few questions name a document of the domain.
    """
    known = _ask(examples, embedder)
    if len(known) < MIN_QUESTIONS:
        raise BadInput(
            f"{len(known)} validation questions of domain {domain!r} name documents (`document_ids`); tuning needs "
            f"{MIN_QUESTIONS}: import more with bakeoff examples import FILE --split validation"
        )

    def search(fusion: Fusion) -> list[Found]:
        tuning = Tuning(fusion=fusion)
        return [retriever.candidates(domain, asked.text, asked.query, options, tuning) for asked in known]

    fusion, ndcg = _choose_fusion(search, known, progress)
    chosen = Tuning(fusion=fusion)
    found = search(fusion)
    scored, labels = _label_passages(found, known)
    passage, held_out = _fit_logistic(scored, labels, seed)
    calibration_error = _calibration_error(held_out, labels)
    robbed = []
    for asked in known:
        without = SearchOptions(top_k=options.top_k, groups=options.groups, without=asked.gold)
        robbed.append(retriever.candidates(domain, asked.text, asked.query, without, chosen))
    has_answer = np.array([_holds(ids, asked.gold, options.top_k) for ids, asked in zip(found, known, strict=True)])
    features = np.array([evidence_features([candidate for _, candidate in of]) for of in (*found, *robbed)])
    answerable = np.concatenate([has_answer, np.zeros(len(robbed), bool)])
    evidence, held_out = _fit_logistic(features, answerable, seed)
    threshold = float(np.quantile(held_out[answerable], 1 - keep)) if answerable.any() else 0.0
    return Tuning(
        fusion=fusion,
        passage=passage,
        evidence=evidence,
        threshold=round(threshold, 4),
        num_questions=len(known),
        embedder=embedder.name,
        ndcg={name: round(value, 4) for name, value in ndcg.items()},
        risk_coverage=_trace_risk(held_out, answerable),
        calibration_error=round(calibration_error, 4),
        answered=round(float((held_out[answerable] >= threshold).mean()), 4) if answerable.any() else 0.0,
        declined=round(float((held_out[~answerable] < threshold).mean()), 4),
        fitted_at=datetime.now(UTC),
    )


def ndcg_at(ranked: Sequence[str], gold: frozenset[str], cutoff: int = _CUTOFF) -> float:
    """Normalised discounted cumulative gain with equal gains (Jarvelin and Kekalainen 2002), 0 to 1.

    Args:
        ranked: document ids, best first, each once.
        gold: the right ones; at least one.
    """
    gain = sum(1 / np.log2(rank + 1) for rank, name in enumerate(ranked[:cutoff], start=1) if name in gold)
    return float(gain / sum(1 / np.log2(rank + 1) for rank in range(1, min(cutoff, len(gold)) + 1)))


def _ask(examples: Sequence[Example], embedder: Embedder) -> list[_Question]:
    named = [example for example in examples if example.document_ids]
    texts = [fold_text(example.question) for example in named]
    queries = embedder.embed(texts)
    return [
        _Question(text, query, frozenset(example.document_ids))
        for text, query, example in zip(texts, queries, named, strict=True)
    ]


def _choose_fusion(
    search: Callable[[Fusion], list[Found]], known: Sequence[_Question], progress: Progress
) -> tuple[Fusion, dict[str, float]]:
    scores: dict[Fusion, Floats] = {}
    for done, fusion in enumerate(CHOICES, start=1):
        ranked = [[name for name, _ in of] for of in search(fusion)]
        scores[fusion] = np.array([ndcg_at(ids, asked.gold) for ids, asked in zip(ranked, known, strict=True)])
        progress(done, len(CHOICES), f"{fusion}: nDCG@{_CUTOFF} {scores[fusion].mean():.3f}")
    best = max(scores, key=lambda fusion: scores[fusion].mean())
    default = Fusion()
    gains = scores[best] - scores[default]
    is_better = gains.mean() > gains.std(ddof=1) / len(gains) ** 0.5
    return best if is_better else default, {str(fusion): float(found.mean()) for fusion, found in scores.items()}


def _label_passages(found: Sequence[Found], known: Sequence[_Question]) -> tuple[Floats, NDArray[np.bool_]]:
    features, labels = [], []
    for of, asked in zip(found, known, strict=True):
        for name, candidate in of[:_CUTOFF]:
            features.append(passage_features(candidate))
            labels.append(name in asked.gold)
    return np.array(features), np.array(labels, bool)


def _holds(found: Found, gold: frozenset[str], top_k: int) -> bool:
    return any(name in gold for name, _ in found[:top_k])


def _fit_logistic(features: Floats, labels: NDArray[np.bool_], seed: int) -> tuple[Logistic, Floats]:
    """The fit to all of the data, and the probability of each row from a fit to the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    smaller = int(min(labels.sum(), (~labels).sum()))
    if smaller < _FOLDS:
        raise BadInput(
            f"only {smaller} of {len(labels)} cases are of one kind (right passages, or wrong ones); "
            "tuning needs validation questions of which some are found and some are not: import more"
        )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=10.0, max_iter=2000))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    held_out: Floats = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")[:, 1]
    scaler, regression = (step for _, step in model.fit(features, labels).steps)
    weights = regression.coef_[0] / scaler.scale_
    bias = float(regression.intercept_[0] - weights @ scaler.mean_)
    return Logistic(round(bias, 5), tuple(round(float(weight), 5) for weight in weights)), held_out


def _calibration_error(probabilities: Floats, labels: NDArray[np.bool_]) -> float:
    """Expected calibration error over ten bins of equal width (Guo et al. 2017, section 2)."""
    bins = np.minimum((probabilities * 10).astype(int), 9)
    gaps = [
        abs(probabilities[bins == place].mean() - labels[bins == place].mean()) * (bins == place).mean()
        for place in np.unique(bins)
    ]
    return float(np.sum(gaps))


def _trace_risk(evidence: Floats, answerable: NDArray[np.bool_]) -> tuple[RiskPoint, ...]:
    """Answer the questions with the most evidence: what share of them has no passage with the answer."""
    order = np.argsort(-evidence, kind="stable")
    points = []
    for coverage in _COVERAGES:
        answered = order[: max(1, round(coverage * len(order)))]
        risk = float(1 - answerable[answered].mean())
        points.append(RiskPoint(coverage, round(risk, 4), round(float(evidence[answered[-1]]), 4)))
    return tuple(points)
