"""Another process that searches: reads {"question", ...} lines, answers each with what it found.

Arguments: the database's URL and the state folder.
"""

import json
import sys
from pathlib import Path

from hash_embedder import HashEmbedder

from bakeoff.database import open_database
from retrieval.retriever import Retriever, SearchOptions


def main(url: str, home: Path) -> None:
    retriever = Retriever(open_database(url, home), HashEmbedder(), home / "indexes")
    for line in sys.stdin:
        asked = json.loads(line)
        options = SearchOptions(top_k=asked.get("top_k", 5), groups=frozenset({"everyone", *asked.get("groups", ())}))
        result = retriever.search(asked["domain"], asked["question"], options)
        answer = {"epoch": result.epoch, "ids": [passage.document_id for passage in result.passages]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
