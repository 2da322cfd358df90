"""A process that changes a domain without pause, to be killed: started and checked by `test_crash`.

For each line on its input (a seed) it forks a writer and prints its process id. The writer appends to a journal, synced
to the disk, what it is about to write and, once the database has acknowledged it, that it is written. The domain has to
be there.
"""

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hash_embedder import HashEmbedder, write_texts
from sqlalchemy import Engine, select

from bakeoff.database import open_database
from bakeoff.domains import find_domain
from retrieval.catalogue import load_all_groups
from retrieval.history import purge_documents, roll_back
from retrieval.index.live import Limits
from retrieval.permissions import change_grants
from retrieval.retriever import Retriever
from retrieval.store import remove_documents
from retrieval.tables import ALIVE, EVERYONE, documents_table

GROUPS = ("board", "staff", EVERYONE)
LIMITS = Limits(snapshot_rows=50, fresh_rows=20, dead_share=0.1)
NUM_DOCUMENTS = 60

State = dict[str, list[Any]]
"""Document id -> [text, sorted groups], of the documents that are alive."""


def load_state(engine: Engine) -> State:
    """What the domain holds now."""
    table = documents_table.c
    with engine.connect() as connection:
        rows = connection.execute(select(table.id, table.text).where(table.domain == "d", table.died == ALIVE)).all()
        groups = load_all_groups(connection, "d")
    return {name: [text, list(groups.get(name, ()))] for name, text in rows}


class Journal:
    """What is about to be written, and what is written, one JSON a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def append(self, kind: str, state: State) -> None:
        self._file.write(json.dumps([kind, state]) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


class Books:
    """What this writer knows the domain to hold."""

    def __init__(self, engine: Engine) -> None:
        self.texts = {name: text for name, (text, _) in load_state(engine).items()}
        with engine.connect() as connection:
            self.groups = {name: list(groups) for name, groups in load_all_groups(connection, "d").items()}
        self.past = {_epoch(engine): self.texts}

    def state(self) -> State:
        return {name: [text, self.groups.get(name, [])] for name, text in self.texts.items()}


def write_forever(url: str, home: Path, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - draws test cases
    engine = open_database(url, home)
    retriever = Retriever(engine, HashEmbedder(), home / "indexes", limits=LIMITS, keeps=True)
    journal = Journal(home / "journal")
    books = Books(engine)
    journal.append("written", books.state())
    while True:
        write = choose(engine, home, books, draw)
        journal.append("begun", books.state())
        write()
        journal.append("written", books.state())
        books.past[_epoch(engine)] = books.texts
        retriever.search("d", "word1 word2")


def choose(engine: Engine, home: Path, books: Books, draw: random.Random) -> Callable[[], object]:
    """Choose a change and enter it into the books; what is returned does it."""
    kinds = ("add", "add", "grant", "revoke", "rollback")
    kind = draw.choice((*kinds, "remove", "purge") if len(books.texts) > NUM_DOCUMENTS // 2 else kinds)
    names = draw.sample(sorted(books.texts), min(len(books.texts), draw.randint(1, 5)))
    groups = sorted(draw.sample(GROUPS, draw.randint(1, 2)))
    if kind == "add" or not names:
        texts = {f"d{draw.randrange(NUM_DOCUMENTS)}": _text(draw) for _ in range(draw.randint(1, 12))}
        books.texts = books.texts | texts
        books.groups |= dict.fromkeys(texts, groups)
        return lambda: write_texts(engine, "d", texts, dict.fromkeys(texts, groups))
    if kind == "remove":
        books.texts = {name: text for name, text in books.texts.items() if name not in names}
        return lambda: remove_documents(engine, "d", names)
    if kind == "grant":
        books.groups |= {name: sorted({*books.groups.get(name, ()), groups[0]}) for name in names}
        return lambda: change_grants(engine, "d", names, grant=groups[:1])
    if kind == "revoke":
        books.groups |= {name: sorted({*books.groups.get(name, ())} - {groups[0]}) for name in names}
        return lambda: change_grants(engine, "d", names, revoke=groups[:1])
    if kind == "rollback":
        goal = draw.choice(sorted(books.past))
        books.texts = books.past[goal]
        return lambda: roll_back(engine, "d", goal)
    gone = names[0]
    strip = lambda texts: {name: text for name, text in texts.items() if name != gone}
    books.texts, books.past = strip(books.texts), {epoch: strip(texts) for epoch, texts in books.past.items()}
    books.groups.pop(gone, None)
    return lambda: purge_documents(engine, "d", [gone], home / "indexes" / "d")


def _epoch(engine: Engine) -> int:
    with engine.connect() as connection:
        return find_domain(connection, "d").epoch


def _text(draw: random.Random) -> str:
    sections = (f"# part {number}\n{_words(draw)}" for number in range(draw.randint(1, 3)))
    return "\n\n".join(sections)


def _words(draw: random.Random) -> str:
    return " ".join(f"word{draw.randrange(200)}" for _ in range(8)) + f" {draw.random()}"


def main(url: str, home: Path) -> None:
    for line in sys.stdin:
        process = os.fork()
        if not process:
            write_forever(url, home, int(line))
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()
        _, status = os.waitpid(process, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
