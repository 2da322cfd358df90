"""How retrieval holds up against conversations, hostile documents and disguised letters. On the sample domain.

    python benchmarks/robustness.py [--data DIR] [--limit N] [--seed N] [--json FILE]

Each line sets the product beside the same search without the part that is tested:

follow-up   the second of two questions about one page, its name replaced by a pronoun: searched with the conversation,
            and by itself.
blocker     a document of many chunks that are made of the questions themselves: share of the right document among the
            first five, with it in the domain, and what a ranking of chunks (repeats allowed) makes of it.
disguise    half of the letters that have look-alikes replaced by them, zero-width characters after half of all letters:
            indexed with normalisation, and as they are.
"""

import argparse
import json
import re
import tempfile
import zlib
from collections import defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
from sqlalchemy import Engine

from bakeoff.database import open_database
from bakeoff.models import find_embedder
from bakeoff.records import Document, Message
from bakeoff.settings import CHECKOUT, Settings
from retrieval import preparing
from retrieval.embedder import Embedder, open_embedder
from retrieval.followup import search_text
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import add_documents

LOOK_ALIKES = str.maketrans("aceopxyi", "асеорхуі")  # noqa: RUF001 - Cyrillic on the right
BLOCKER_CHUNKS = 500


def main() -> None:
    """Run all three and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=CHECKOUT / "samples" / "concierge", help="documents and test JSONL"
    )
    parser.add_argument("--limit", type=int, default=200, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    settings = Settings()
    embedder = open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")
    documents = [
        Document(line["id"], line["title"], line["text"]) for line in _read(arguments.data / "documents.jsonl")
    ]
    examples = _read(arguments.data / "train.jsonl")
    np.random.default_rng(arguments.seed).shuffle(examples)
    asked = [(example["question"], set(example["document_ids"])) for example in examples[: arguments.limit]]
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        engine = open_database(f"sqlite:///{home / 'bakeoff.db'}", home)
        add_documents(engine, "plain", documents, embedder, lambda *_: None)
        retriever = Retriever(engine, embedder, home / "indexes")
        pairs = _make_pairs(documents, examples, arguments.limit)
        last = [(conversation[-1].content, gold) for conversation, gold in pairs]
        joined = [(search_text(conversation), gold) for conversation, gold in pairs]
        figures["follow-up, recall@5, by itself"] = _recall(retriever, "plain", last)
        figures["follow-up, recall@5, with the conversation"] = _recall(retriever, "plain", joined)
        figures["follow-up, pairs"] = len(pairs)
        figures["blocker, recall@5, without it"] = _recall(retriever, "plain", asked)
        _add_blocker(engine, documents, asked, embedder, arguments.seed)
        figures["blocker, recall@5, one passage a document"] = _recall(retriever, "blocked", asked)
        figures["blocker, recall@5, chunks ranked singly"] = _recall(retriever, "blocked", asked, repeats=True)
        disguised = [_disguise(document, arguments.seed) for document in documents]
        add_documents(engine, "normalised", disguised, embedder, lambda *_: None)
        with mock.patch.object(preparing, "fold_text", lambda text: text):
            add_documents(engine, "raw", disguised, embedder, lambda *_: None)
        figures["disguise, recall@5, normalised"] = _recall(retriever, "normalised", asked)
        figures["disguise, recall@5, as they are"] = _recall(retriever, "raw", asked)
        engine.dispose()
    for name, value in figures.items():
        print(f"{name:48} {value:.3f}" if value < 2 else f"{name:48} {value:.0f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _recall(retriever: Retriever, domain: str, asked: list[tuple[str, set[str]]], *, repeats: bool = False) -> float:
    results = retriever.search_many(domain, [question for question, _ in asked], SearchOptions(repeats=repeats))
    found = [{passage.document_id for passage in result.passages} for result in results]
    return sum(bool(ids & gold) for ids, (_, gold) in zip(found, asked, strict=True)) / len(asked)


def _make_pairs(documents: list[Document], examples: list[dict], limit: int) -> list[tuple[list[Message], set[str]]]:
    """Two questions about one page that both name it; the second says "it" instead."""
    names = {document.id: document.title.partition(" (")[0] for document in documents}
    named = defaultdict(list)
    for example in examples:
        name = names[example["document_ids"][0]]
        if name.lower() in example["question"].lower():
            named[example["document_ids"][0]].append(example["question"])
    pairs = []
    for document_id, questions in named.items():
        if len(questions) >= 2:
            pronoun = re.sub(rf"(the )?{re.escape(names[document_id])}", "it", questions[1], flags=re.IGNORECASE)
            turns = [Message("user", questions[0]), Message("assistant", "Yes."), Message("user", pronoun)]
            pairs.append((turns, {document_id}))
    return pairs[:limit]


def _add_blocker(
    engine: Engine, documents: list[Document], asked: list[tuple[str, set[str]]], embedder: Embedder, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    questions = [question for question, _ in asked]
    sections = [f"# {draw.choice(questions)}\n\n{' '.join(draw.choice(questions, 5))}" for _ in range(BLOCKER_CHUNKS)]
    blocker = Document("blocker", "Answers to everything", "\n\n".join(sections))
    add_documents(engine, "blocked", [*documents, blocker], embedder, lambda *_: None)


def _disguise(document: Document, seed: int) -> Document:
    draw = np.random.default_rng((seed, zlib.crc32(document.id.encode())))

    def disguise(text: str) -> str:
        swapped = (letter.translate(LOOK_ALIKES) if draw.random() < 0.5 else letter for letter in text)
        return "".join(letter + ("\u200b" if draw.random() < 0.5 else "") for letter in swapped)

    return Document(document.id, disguise(document.title), disguise(document.text))


if __name__ == "__main__":
    main()
