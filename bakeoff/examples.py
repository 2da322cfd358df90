"""The examples of a domain: questions with their targets, each in one split.

The test split is never read by training; without a validation split, one is cut from train by seed, the same for
everybody who asks with that seed.
"""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
from advanced_alchemy.types import JsonB
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)

from bakeoff.database import in_parts, metadata
from bakeoff.domains import ensure_domain
from bakeoff.errors import BadInput, NotFound
from bakeoff.example_files import read_examples
from bakeoff.records import Example, Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
VALIDATION_SHARE = 0.1

examples_table = Table(
    "examples",
    metadata,
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
    Column("id", String(200), primary_key=True),
    Column("split", String(16), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("answers", JsonB, nullable=False),
    Column("document_ids", JsonB, nullable=False),
    Column("tags", JsonB, nullable=False),
)


class ImportCounts(msgspec.Struct, frozen=True):
    """What an import did."""

    split: Split
    added: int
    replaced: int
    total: int
    """Examples of the split afterwards."""


def import_examples(
    connection: Connection, domain: str, split: Split, path: Path, known_documents: Collection[str]
) -> ImportCounts:
    """Write a JSONL file's examples into one split, all or none; an id that is there already is replaced.

    Raises:
        BadInput: a bad line, or as `store_examples`.
    """
    return store_examples(connection, domain, split, read_examples(path), known_documents, str(path))


def store_examples(
    connection: Connection,
    domain: str,
    split: Split,
    examples: Sequence[Example],
    known_documents: Collection[str],
    where: str,
) -> ImportCounts:
    """Write examples into one split, all or none; an id that is there already is replaced.

    Args:
        known_documents: ids of the domain's documents, which `document_ids` may name.
        where: what error messages call the origin.

    Raises:
        BadInput: a document that does not exist, or a question that already stands in another split under another id
            (it would leak).
    """
    ensure_domain(connection, domain)
    for example in examples:
        for document_id in example.document_ids:
            if document_id not in known_documents:
                raise BadInput(
                    f"{where}: example {example.id!r} names document {document_id!r}, which domain {domain!r} does not "
                    f"hold; add it first: bakeoff documents add PATH --domain {domain}"
                )
    ids = {example.id for example in examples}
    known = load_examples(connection, domain)
    elsewhere = {old.question: other for other, old in known if other != split and old.id not in ids}
    for example in examples:
        if example.question in elsewhere:
            raise BadInput(
                f"{where}: the question of example {example.id!r} already stands in the {elsewhere[example.question]} "
                f"split, so it would leak: {example.question!r}"
            )
    replaced = [old.id for _, old in known if old.id in ids]
    start = connection.scalar(
        select(func.coalesce(func.max(examples_table.c.position), -1)).where(examples_table.c.domain == domain)
    )
    assert start is not None
    _delete(connection, domain, replaced)
    _insert(connection, domain, [(split, position, example) for position, example in enumerate(examples, start + 1)])
    total = len(split_examples(connection, domain, split))
    return ImportCounts(split, len(examples) - len(replaced), len(replaced), total)


def replace_examples(connection: Connection, domain: str, changed: Sequence[tuple[Split, Example]]) -> None:
    """Write examples that exist anew, each in the split named with it; their order stays.

    Deleted and inserted, so that what was derived from the old text or split (the vectors of the shots) goes too.
    """
    table = examples_table.c
    rows = connection.execute(select(table.id, table.position).where(table.domain == domain)).tuples()
    positions = dict(rows.all())
    _delete(connection, domain, [example.id for _, example in changed])
    _insert(connection, domain, [(split, positions[example.id], example) for split, example in changed])


def remove_examples(connection: Connection, domain: str, ids: Sequence[str]) -> int:
    """Delete examples by id; return how many.

    Raises:
        NotFound: one of them does not exist; nothing is deleted.
    """
    known = {example.id for _, example in load_examples(connection, domain)}
    missing = [example_id for example_id in ids if example_id not in known]
    if missing:
        raise NotFound(f"domain {domain!r} holds no example {missing[0]!r} ({len(missing)} of {len(ids)} do not exist)")
    _delete(connection, domain, ids)
    return len(set(ids))


def load_examples(connection: Connection, domain: str) -> list[tuple[Split, Example]]:
    """Every example of the domain with its split, in the order of import."""
    return _select(connection, examples_table.c.domain == domain)


def split_examples(connection: Connection, domain: str, split: Split) -> list[Example]:
    """The examples of one split, in the order of import."""
    found = _select(connection, examples_table.c.domain == domain, examples_table.c.split == split)
    return [example for _, example in found]


def find_examples(connection: Connection, domain: str, ids: Sequence[str]) -> list[Example]:
    """The examples of these ids that exist, in the order of the ids."""
    found = _select(connection, examples_table.c.domain == domain, examples_table.c.id.in_(ids))
    by_id = {example.id: example for _, example in found}
    return [by_id[example_id] for example_id in ids if example_id in by_id]


def first_questions(connection: Connection, domain: str, limit: int) -> list[str]:
    """A few questions of the test split, to show what can be asked."""
    table = examples_table.c
    query = select(table.question).where(table.domain == domain, table.split == "test").order_by(table.position)
    return list(connection.scalars(query.limit(limit)))


def cut_validation(
    train: Sequence[Example], seed: int, share: float = VALIDATION_SHARE
) -> tuple[list[Example], list[Example]]:
    """Cut a validation split from train, by a hash of seed and id, so that adding examples moves no other one.

    Returns:
        (train without it, validation).
    """

    def drawn(example: Example) -> bool:
        digest = hashlib.sha256(f"{seed}:{example.id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < share * 2**64

    return [example for example in train if not drawn(example)], [example for example in train if drawn(example)]


def _delete(connection: Connection, domain: str, ids: Sequence[str]) -> None:
    for part in in_parts(list(ids)):
        table = examples_table.c
        connection.execute(delete(examples_table).where(table.domain == domain, table.id.in_(part)))


def _insert(connection: Connection, domain: str, placed: Sequence[tuple[Split, int, Example]]) -> None:
    rows = [
        {
            "domain": domain,
            "split": split,
            "position": position,
            "id": example.id,
            "question": example.question,
            "answer": example.answer,
            "answers": list(example.answers),
            "document_ids": list(example.document_ids),
            "tags": example.tags,
        }
        for split, position, example in placed
    ]
    if rows:
        connection.execute(insert(examples_table), rows)


def _select(connection: Connection, *where: ColumnElement[bool]) -> list[tuple[Split, Example]]:
    table = examples_table.c
    columns = (table.split, table.id, table.question, table.answer, table.answers, table.document_ids, table.tags)
    rows = connection.execute(select(*columns).where(*where).order_by(table.position))
    return [
        (split, Example(example_id, question, answer, tuple(answers), tuple(document_ids), tags))
        for split, example_id, question, answer, answers, document_ids, tags in rows
    ]
