"""Ranking of documents for the sets' test questions, by meaning, by words, and fused; checked against pytrec_eval.

Every figure is computed twice, by the product's formulas and by pytrec_eval (Van Gysel and de Rijke 2018), a binding of
NIST's trec_eval; a difference is an error of ours and ends the run.
"""

from collections.abc import Sequence
from typing import Any

import click
import numpy as np

from benchmarks.retrieval.report import Row, show_table
from benchmarks.retrieval.sets import DOMAIN, Question, Set, embed_questions
from retrieval.embedder import Embedder
from retrieval.fitting import ndcg_at
from retrieval.ranking import Fusion
from retrieval.retriever import Retriever, SearchOptions
from retrieval.tuning import Tuning

METHODS = {
    "dense": Fusion(lexical_weight=0.0),
    "lexical": Fusion(lexical_weight=1.0),
    "reciprocal-rank": Fusion("reciprocal-rank", 0.5),
    "default": Fusion(),
}
_DEPTH = 100
_TOLERANCE = 1e-6
_MEASURES = {
    "nDCG@10": "ndcg_cut_10",
    "recall@1": "recall_1",
    "recall@5": "recall_5",
    "recall@10": "recall_10",
    "MRR": "recip_rank",
}


def measure_quality(sets: Sequence[Set], embedder: Embedder) -> list[Row]:
    """Rank with every method; returns a row for each set and method."""
    rows = []
    for each in sets:
        retriever = Retriever(each.engine, embedder, each.home / "indexes")
        queries = embed_questions(each, "test", embedder)
        for name, fusion in METHODS.items():
            tuning = Tuning(fusion=fusion)
            ranked = [
                [document for document, _ in retriever.candidates(DOMAIN, asked.text, query, SearchOptions(), tuning)]
                for asked, query in zip(each.test, queries, strict=True)
            ]
            found = [lists[:_DEPTH] for lists in ranked]
            rows.append({"set": each.name, "questions": len(each.test), "method": name} | score(each.test, found))
    show_table("QUALITY, all checked against pytrec_eval", rows)
    for each in sets:
        ndcg = {row["method"]: row["nDCG@10"] for row in rows if row["set"] == each.name}
        better = max(ndcg["dense"], ndcg["lexical"])
        verdict = "at least as good as" if ndcg["default"] >= better else "WORSE THAN"
        click.echo(f"  {each.name}: the default ({ndcg['default']:.4f}) is {verdict} the better ranking ({better:.4f})")
    return rows


def find_failures(rows: Sequence[Row]) -> list[str]:
    """Sets where the default is worse than one of its two rankings."""
    ndcg = {(row["set"], row["method"]): row["nDCG@10"] for row in rows}
    return [
        f"quality: on {name} the default ranks worse than {method} alone"
        for name in dict.fromkeys(row["set"] for row in rows)
        for method in ("dense", "lexical")
        if ndcg[name, "default"] < ndcg[name, method]
    ]


def score(questions: Sequence[Question], ranked: Sequence[Sequence[str]]) -> Row:
    """The means of our measures.

    Args:
        ranked: documents of each question, best first, each once.

    Raises:
        SystemExit: pytrec_eval finds another value for any question.
    """
    ours = [_score_one(found, asked.gold) for asked, found in zip(questions, ranked, strict=True)]
    for asked, mine, theirs in zip(questions, ours, _score_by_trec(questions, ranked), strict=True):
        for name, measure in _MEASURES.items():
            if abs(mine[name] - theirs[measure]) > _TOLERANCE:
                raise SystemExit(f"{name} of question {asked.id}: {mine[name]}, pytrec_eval says {theirs[measure]}")
    return {name: round(float(np.mean([of[name] for of in ours])), 4) for name in _MEASURES}


def _score_one(found: Sequence[str], gold: frozenset[str]) -> dict[str, float]:
    first = next((rank for rank, name in enumerate(found, start=1) if name in gold), None)
    recall = {f"recall@{cutoff}": len(gold & set(found[:cutoff])) / len(gold) for cutoff in (1, 5, 10)}
    return {"nDCG@10": ndcg_at(found, gold), "MRR": 1 / first if first else 0.0} | recall


def _score_by_trec(questions: Sequence[Question], ranked: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    try:
        import pytrec_eval
    except ImportError:
        raise SystemExit("pytrec_eval is missing: pip install -r benchmarks/requirements.txt") from None
    relevant = {str(place): dict.fromkeys(asked.gold, 1) for place, asked in enumerate(questions)}
    runs: Any = {
        str(place): {name: float(len(found) - rank) for rank, name in enumerate(found)} | {"": -1.0}
        for place, found in enumerate(ranked)
    }  # a question for which nothing was found still counts: "" is no document
    measures = {"ndcg_cut.10", "recall.1,5,10", "recip_rank"}
    scored = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(runs)
    return [scored[str(place)] for place in range(len(questions))]
