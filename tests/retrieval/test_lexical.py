"""BM25 against the formula, written out once more in plain Python over the texts themselves."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hash_embedder import HashEmbedder, write_texts
from sqlalchemy import Engine, select

from retrieval.index.lexical import (
    FreshPostings,
    Lexical,
    Postings,
    Statistics,
    build_postings,
    count_words,
    merge_postings,
    search_lexical,
)
from retrieval.index.live import Limits, LiveIndex
from retrieval.index.terms import extract_terms, pack_terms, unpack_terms
from retrieval.permissions import caller_groups, change_grants
from retrieval.retriever import Retriever
from retrieval.store import remove_documents
from retrieval.tables import ALIVE, chunks_table

WORDS = [f"word{number}" for number in range(50)] + ["run", "running", "runs", "the", "of", "Zebra", "zebra"]


def score_all(question: str, texts: Sequence[str], visible: Sequence[bool]) -> tuple[list[float], float]:
    """BM25 of every text, 0 where it is not visible, and the highest that the question allows."""
    bags = [extract_terms(text) for text in texts]
    seen = [bag for bag, is_visible in zip(bags, visible, strict=True) if is_visible]
    mean = sum(sum(bag.values()) for bag in seen) / max(len(seen), 1)
    highest = 0.0
    scores = [0.0] * len(texts)
    for term in extract_terms(question):
        df = sum(term in bag for bag in seen)
        idf = math.log(1 + (len(seen) - df + 0.5) / (df + 0.5))
        highest += idf * 2.2
        for row, bag in enumerate(bags):
            if visible[row] and term in bag:
                norm = 1.2 * (1 - 0.75 + 0.75 * sum(bag.values()) / mean)
                scores[row] += idf * 2.2 * bag[term] / (bag[term] + norm)
    return scores, highest or 1.0


def check(found: Lexical, question: str, texts: Sequence[str], visible: Sequence[bool], limit: int) -> None:
    scores, highest = score_all(question, texts, visible)
    assert found.every == pytest.approx(scores, rel=1e-5, abs=1e-6)
    assert found.highest == pytest.approx(highest, rel=1e-6)
    exact = found.every.tolist()
    best = sorted((row for row, score in enumerate(exact) if score > 0), key=lambda row: (-exact[row], row))
    assert found.rows.tolist() == best[:limit]
    assert found.scores.tolist() == [exact[row] for row in best[:limit]]


def draw_texts(draw: random.Random, num: int) -> list[str]:
    return [" ".join(draw.choices(WORDS, k=draw.randint(0, 30))) for _ in range(num)]


def search(
    question: str, postings: Postings, fresh: FreshPostings, texts: Sequence[str], visible: Sequence[bool], limit: int
) -> Lexical:
    words = np.array(count_words([pack_terms(text) for text in texts]), np.int32)
    mask = np.array(visible, np.bool_)
    num_words = int(words[mask].sum())
    statistics = Statistics(int(mask.sum()), num_words / max(int(mask.sum()), 1))
    return search_lexical(question, postings, fresh, mask, words, statistics, limit)


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_the_formula_over_the_visible_rows(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - draws test cases
    texts = draw_texts(draw, draw.randint(0, 120))
    num_based = draw.randint(0, len(texts))
    postings = build_postings([pack_terms(text) for text in texts[:num_based]])
    fresh = FreshPostings()
    for row in range(num_based, len(texts)):
        fresh.append(row, pack_terms(texts[row]))
    for _ in range(20):
        share = draw.choice((0, 0.1, 0.5, 1))
        size = draw.choice((len(texts), draw.randint(num_based, len(texts))))  # an older view sees fewer fresh rows
        visible = [draw.random() < share for _ in range(size)]
        question = " ".join(draw.choices([*WORDS, "unheard"], k=draw.randint(1, 8)))
        limit = draw.choice((1, 5, 200))
        check(search(question, postings, fresh, texts[:size], visible, limit), question, texts[:size], visible, limit)


def test_a_case_computed_by_hand() -> None:
    texts = ["zebra zebra grass", "zebra", "grass grass grass"]
    found = search("zebra", build_postings([pack_terms(text) for text in texts]), FreshPostings(), texts, [True] * 3, 9)
    idf = math.log(1 + 1.5 / 2.5)  # two of three rows hold it
    long = idf * 2.2 * 2 / (2 + 1.2 * (0.25 + 0.75 * 9 / 7))  # 3 words, 7 / 3 on average
    short = idf * 2.2 * 1 / (1 + 1.2 * (0.25 + 0.75 * 3 / 7))
    assert found.rows.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([short, long], rel=1e-6)


def test_words_are_matched_by_their_stem_and_stop_words_only_when_alone() -> None:
    assert extract_terms("Running runs, RUN!") == {"run": 3}
    assert extract_terms("the zebra of the house") == {"zebra": 1, "hous": 1}
    assert extract_terms("who are they") == {"who": 1, "are": 1, "they": 1}
    assert extract_terms("...") == {}


def test_packed_terms_come_back() -> None:
    terms, counts = unpack_terms(pack_terms("zebra zebra grass " + "many " * 70_000))
    assert sorted(counts.tolist()) == [1, 2, 65_535]
    assert terms.tolist() == sorted(terms.tolist())
    assert [len(part) for part in unpack_terms(pack_terms(""))] == [0, 0]


@pytest.mark.parametrize("seed", range(10))
def test_merged_postings_are_those_built_from_all_rows(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - draws test cases
    based, fresh = draw_texts(draw, draw.randint(0, 40)), draw_texts(draw, draw.randint(0, 40))
    kept = [row for row in range(len(based)) if draw.random() < 0.6]
    pack = lambda texts: [pack_terms(text) for text in texts]
    merged = merge_postings(build_postings(pack(based)), np.array(kept, np.int64), pack(fresh))
    anew = build_postings(pack([based[row] for row in kept] + fresh))
    for name in ("terms", "starts", "rows", "counts"):
        assert getattr(merged, name).tolist() == getattr(anew, name).tolist()


def test_a_view_ranks_by_the_formula_after_edits_removals_and_builds(engine: Engine, tmp_path: Path) -> None:
    draw = random.Random(0)  # noqa: S311 - draws test cases
    index = LiveIndex(engine, "d", "hash", tmp_path / "i", Limits(snapshot_rows=10), keeps=False)
    write_texts(engine, "d", {f"d{row}": text or "empty" for row, text in enumerate(draw_texts(draw, 60))})
    index.view()
    table = chunks_table.c
    for step in range(12):
        names = [f"d{row}" for row in draw.sample(range(60), 6)]
        write_texts(engine, "d", dict(zip(names, (text or "empty" for text in draw_texts(draw, 6)), strict=True)))
        remove_documents(engine, "d", names[:2])
        change_grants(engine, "d", names[2:4], revoke=["everyone"])
        if step % 4 == 3:
            index.build()
        view = index.view()
        visible = view.visible(caller_groups())
        with engine.connect() as connection:
            rows = connection.execute(select(table.key, table.text).where(table.died == ALIVE)).all()
        texts = dict(rows)  # type: ignore[arg-type]
        in_view = [texts.get(key, "") for key in view.base.rows.keys[: view.size].tolist()]
        assert int(visible.mask.sum()) == len(rows) - _count_hidden(engine)
        for _ in range(10):
            question = " ".join(draw.choices(WORDS, k=draw.randint(1, 6)))
            check(view.search_lexical(question, visible, 30), question, in_view, visible.mask.tolist(), 30)


def _count_hidden(engine: Engine) -> int:
    with engine.connect() as connection:
        query = "SELECT count(*) FROM chunks c WHERE died = 2147483647 AND NOT EXISTS (SELECT 1 FROM grants g WHERE "
        query += "g.document_id = c.document_id AND g.is_granted AND g.caller_group = 'everyone')"
        return int(connection.exec_driver_sql(query).scalar_one())


def test_look_alike_letters_find_the_same_words(engine: Engine, tmp_path: Path) -> None:
    write_texts(engine, "d", {"plain": "zebra crossing", "other": "nothing here"})
    disguised = "z\u0435br\u0430"  # Cyrillic letters in place of two
    result = Retriever(engine, HashEmbedder(), tmp_path).search("d", disguised)
    assert (result.passages[0].document_id, result.explanations[0].lexical_rank) == ("plain", 1)
