"""The tables of retrieval: documents, their chunks with vectors, and the vectors of training questions."""

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Integer, LargeBinary, String, Table, Text

from bakeoff.database import metadata

documents_table = Table(
    "documents",
    metadata,
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
    Column("id", String(200), primary_key=True),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("source", Text, nullable=False),
)

chunks_table = Table(
    "chunks",
    metadata,
    Column("domain", String(64), primary_key=True),
    Column("chunk_id", String(64), primary_key=True),
    Column("document_id", String(200), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("embedder", String(200), nullable=False),
    Column("vector", LargeBinary, nullable=False),
    ForeignKeyConstraint(["domain", "document_id"], ["documents.domain", "documents.id"], ondelete="CASCADE"),
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
