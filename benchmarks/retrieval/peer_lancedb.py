"""LanceDB over chunks, vectors and questions from a folder; runs in an environment of its own, without the product.

python peer_lancedb.py FOLDER
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
from lancedb.index import FTS
from lancedb.rerankers import RRFReranker

POOL = 60
"""Chunks asked for: as many as the product takes from each ranking."""
EDITS = 20


def main(folder: Path) -> None:
    """Index, search, edit; write result.json."""
    chunks = json.loads((folder / "chunks.json").read_text())
    questions = json.loads((folder / "questions.json").read_text())
    vectors = np.load(folder / "vectors.npz")
    rows = [chunk | {"vector": vector} for chunk, vector in zip(chunks, vectors["chunks"], strict=True)]
    started = time.perf_counter()
    table = lancedb.connect(str(folder / "lance")).create_table("chunks", rows)
    table.create_index("text", config=FTS())
    table.wait_for_index(["text_idx"])
    index_s = time.perf_counter() - started
    reranker = RRFReranker()

    def dense(question: str, query: Any) -> Any:
        return table.search(query, query_type="vector").distance_type("cosine")

    def lexical(question: str, query: Any) -> Any:
        return table.search(question, query_type="fts")

    def hybrid(question: str, query: Any) -> Any:
        search = table.search(query_type="hybrid").vector(query).text(question)
        return search.distance_type("cosine").rerank(reranker)

    kinds: dict[str, Callable[[str, Any], Any]] = {"dense": dense, "lexical": lexical, "hybrid": hybrid}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    ranked: dict[str, list[list[str]]] = {kind: [] for kind in kinds}
    for kind, make in kinds.items():
        make(questions[0], vectors["questions"][0]).limit(POOL).to_list()
        for question, query in zip(questions, vectors["questions"], strict=True):
            started = time.perf_counter()
            found = make(question, query).select(["document", "text"]).limit(POOL).to_list()
            seconds[kind].append(time.perf_counter() - started)
            ranked[kind].append(list(dict.fromkeys(row["document"] for row in found)))
    edits = [_edit(table, hybrid, number, vectors["questions"][number]) for number in range(EDITS)]
    result = {
        "name": f"lancedb {version('lancedb')}",
        "index_s": index_s,
        "seconds": seconds,
        "ranked": ranked,
        "edits": edits,
    }
    (folder / "result.json").write_text(json.dumps(result))


def _edit(table: Any, hybrid: Callable[[str, Any], Any], number: int, vector: Any) -> float:
    """Seconds from adding a chunk, its vector ready, to finding it."""
    word = f"edit{number:03d}x"
    started = time.perf_counter()
    row = {"document": f"edit-{number}", "text": f"The reference code is {word}.", "vector": vector}
    table.merge_insert("document").when_matched_update_all().when_not_matched_insert_all().execute([row])
    while not any(found["document"] == row["document"] for found in hybrid(word, vector).limit(5).to_list()):
        if time.perf_counter() - started > 30:
            return float("nan")
    return time.perf_counter() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]))
