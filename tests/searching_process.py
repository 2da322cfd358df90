"""Another process that searches a domain `d`: started by `SearchingProcess`, asked and answering in lines of JSON."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hash_embedder import HashEmbedder
from sqlalchemy import Engine

from bakeoff.database import open_database
from bakeoff.errors import BakeoffError
from retrieval.permissions import caller_groups
from retrieval.retriever import Retriever, SearchOptions


class SearchingProcess:
    """One retriever in a process of its own; it stays warm between questions."""

    def __init__(self, engine: Engine, home: Path) -> None:
        url = engine.url.render_as_string(hide_password=False)
        command = [sys.executable, __file__, url, str(home)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def search(self, question: str, groups: Sequence[str] = ()) -> tuple[int, list[str]]:
        """The epoch and the ids of the documents found."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([question, list(groups)]) + "\n")
        self._process.stdin.flush()
        epoch, ids = json.loads(self._process.stdout.readline())
        return epoch, ids

    def close(self) -> None:
        self._process.communicate(timeout=30)


def main(url: str, home: Path) -> None:
    retriever = Retriever(open_database(url, home), HashEmbedder(), home / "indexes")
    for line in sys.stdin:
        question, groups = json.loads(line)
        answer: list[Any]
        try:
            result = retriever.search("d", question, SearchOptions(top_k=50, groups=caller_groups(groups)))
            answer = [result.epoch, [passage.document_id for passage in result.passages]]
        except BakeoffError as error:
            answer = [-1, [str(error)]]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
