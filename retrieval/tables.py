"""The tables of retrieval: versions of documents, their chunks with vectors, who may see them, and the epochs.

Nothing is overwritten: a row is alive from the epoch in which it was `born` until the one in which it `died`, so that
the documents of every epoch can be read. Who may see a document has no past: what holds is what holds now.
"""

from advanced_alchemy.types import DateTimeUTC
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from bakeoff.database import metadata

ALIVE = 2**31 - 1
"""`died` of what is alive: later than any epoch."""
EVERYONE = "everyone"
"""The group that every caller belongs to."""


def _key() -> Column[int]:
    return Column("key", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _domain() -> Column[str]:
    return Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), nullable=False)


documents_table = Table(
    "documents",
    metadata,
    _key(),
    _domain(),
    Column("id", String(200), nullable=False),
    Column("born", Integer, nullable=False),
    Column("died", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("recipe", String(200), nullable=False),
    Index("ix_documents_domain_id", "domain", "id"),
    sqlite_autoincrement=True,
)

chunks_table = Table(
    "chunks",
    metadata,
    _key(),
    _domain(),
    Column("chunk_id", String(64), nullable=False),
    Column("document_id", String(200), nullable=False),
    Column("born", Integer, nullable=False),
    Column("died", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("heading", Text, nullable=False),
    Column("page", Integer),
    Column("text", Text, nullable=False),
    Column("embedder", String(200), nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    Index("ix_chunks_domain_document_id_died", "domain", "document_id", "died"),
    Index("ix_chunks_domain_chunk_id", "domain", "chunk_id"),
    Index("ix_chunks_domain_born", "domain", "born"),
    Index("ix_chunks_domain_died", "domain", "died"),
    sqlite_autoincrement=True,
)

grants_table = Table(
    "grants",
    metadata,
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
    Column("document_id", String(200), primary_key=True),
    Column("caller_group", String(64), primary_key=True),
    Column("is_granted", Boolean, nullable=False),
    Column("changed", Integer, nullable=False),
    Index("ix_grants_domain_changed", "domain", "changed"),
)

epochs_table = Table(
    "epochs",
    metadata,
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("action", String(16), nullable=False),
    Column("num_documents", Integer, nullable=False),
)

tunings_table = Table(
    "tunings",
    metadata,
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
    Column("tuning", Text, nullable=False),
)

shots_table = Table(
    "shots",
    metadata,
    Column("domain", String(64), primary_key=True),
    Column("example_id", String(200), primary_key=True),
    Column("embedder", String(200), nullable=False),
    Column("vector", LargeBinary, nullable=False),
    ForeignKeyConstraint(["domain", "example_id"], ["examples.domain", "examples.id"], ondelete="CASCADE"),
)
