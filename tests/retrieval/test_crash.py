"""A process that writes is killed at random moments; what it was told is written has to be there, and be found."""

import json
import logging
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hash_embedder import HashEmbedder, write_texts
from sqlalchemy import Engine, select, text

from bakeoff.database import open_database
from retrieval.catalogue import load_all_groups
from retrieval.index.live import Limits, LiveIndex
from retrieval.permissions import caller_groups
from retrieval.retriever import Retriever, SearchOptions
from retrieval.tables import ALIVE, chunks_table, documents_table

logger = logging.getLogger(__name__)
ALL_GROUPS = caller_groups(["board", "staff"])
WRITER = Path(__file__).with_name("crash_writer.py")


class Writer:
    """Forks writers and kills them."""

    def __init__(self, url: str, home: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(WRITER.parents[1])}
        command = [sys.executable, str(WRITER), url, str(home)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, seed: int, duration_s: float) -> None:
        """Let one write for some time, then kill it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        writer = int(self._process.stdout.readline())
        time.sleep(duration_s)
        os.kill(writer, signal.SIGKILL)
        assert int(self._process.stdout.readline()) == signal.SIGKILL  # it had not ended by itself

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def writer(engine: Engine, tmp_path: Path) -> Iterator[Writer]:
    write_texts(engine, "d", {f"d{number}": f"# part\nword{number} word1" for number in range(60)})
    started = Writer(str(engine.url), tmp_path)
    yield started
    started.close()


def read_journal(path: Path) -> tuple[object, object]:
    """What was acknowledged last, and what was begun after it; None for nothing."""
    *lines, _half = path.read_text().split("\n")
    written = begun = None
    for line in lines:
        kind, state = json.loads(line)
        written, begun = (state, None) if kind == "written" else (written, state)
    return written, begun


def load_state(engine: Engine) -> dict[str, list[Any]]:
    table = documents_table.c
    with engine.connect() as connection:
        rows = connection.execute(select(table.id, table.text).where(table.domain == "d", table.died == ALIVE)).all()
        groups = load_all_groups(connection, "d")
    return {name: [body, list(groups.get(name, ()))] for name, body in rows}


def check_index(engine: Engine, home: Path) -> None:
    """The index holds what is alive, row by row, and finds all of it that anybody may see, and nothing else."""
    view = LiveIndex(engine, "d", "hash", home / "indexes" / "d", Limits(), keeps=False).view()
    table = chunks_table.c
    query = select(table.key, table.chunk_id, table.document_id, table.text, table.vector).where(table.died == ALIVE)
    with engine.connect() as connection:
        chunks = connection.execute(query.order_by(table.key)).all()
        groups = load_all_groups(connection, "d")
    alive = np.flatnonzero(view.base.rows.alive(view.epoch, view.size))
    assert view.base.rows.keys[alive].tolist() == [chunk.key for chunk in chunks]
    assert view.vectors(alive).tobytes() == b"".join(chunk.vector for chunk in chunks)
    retriever = Retriever(engine, HashEmbedder(), home / "indexes")
    options = SearchOptions(top_k=5, groups=ALL_GROUPS, repeats=True)
    seen = [chunk for chunk in chunks if groups.get(chunk.document_id)]
    results = retriever.search_many("d", [chunk.text for chunk in seen], options)
    for chunk, result in zip(seen, results, strict=True):
        assert chunk.chunk_id in result.passages[0].chunk_ids
    found = {chunk_id for result in results for passage in result.passages for chunk_id in passage.chunk_ids}
    assert found == {chunk.chunk_id for chunk in seen}
    without_snapshot = Retriever(engine, HashEmbedder(), home / "none")
    questions = [chunk.text for chunk in seen[:5]]
    assert retriever.search_many("d", questions, options) == without_snapshot.search_many("d", questions, options)


def kill_often(home: Path, url: str, writer: Writer, num_kills: int, caplog: pytest.LogCaptureFixture) -> None:
    draw = random.Random(0)  # noqa: S311 - draws test cases
    recovery_s: list[float] = []
    num_unacknowledged = num_snapshots = num_partial = 0
    for count in range(num_kills):
        writer.run(count, draw.choice((0.1, 0.3, 0.6, 1.0)) * (0.5 + draw.random()))
        # as after a crash: nobody has the database open
        start = time.perf_counter()
        engine = open_database(url, home)
        Retriever(engine, HashEmbedder(), home / "indexes").search("d", "word1 word2")
        recovery_s.append(time.perf_counter() - start)
        with engine.connect() as connection:
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
        written, begun = read_journal(home / "journal") if (home / "journal").exists() else (None, None)
        if written is not None:
            state = load_state(engine)
            assert state in (written, begun)
            num_unacknowledged += state != written
        num_snapshots += len(list(home.glob("indexes/d/[0-9]*")))
        num_partial += len(list(home.glob("indexes/d/.*")))
        check_index(engine, home)
        (home / "journal").unlink(missing_ok=True)
        for partial in home.glob("indexes/d/.*"):
            shutil.rmtree(partial)
        engine.dispose()
    damaged = [record.getMessage() for record in caplog.records if "does not have the checksum" in record.getMessage()]
    assert damaged == []
    logger.warning(
        "kills=%d unacknowledged=%d snapshots=%d unfinished_snapshots=%d recovery_s median=%.3f max=%.3f",
        *(num_kills, num_unacknowledged, num_snapshots, num_partial),
        *(statistics.median(recovery_s), max(recovery_s)),
    )
    assert max(recovery_s) < 10


def test_what_was_acknowledged_survives_a_kill(
    engine: Engine, tmp_path: Path, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    engine.dispose()
    kill_often(tmp_path, str(engine.url), writer, 6, caplog)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_what_was_acknowledged_survives_two_hundred_kills(
    engine: Engine, tmp_path: Path, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    engine.dispose()
    kill_often(tmp_path, str(engine.url), writer, 200, caplog)
