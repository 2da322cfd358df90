"""Domains, examples, adapters; documents, chunks and shots with their vectors."""

import sqlalchemy as sa
from advanced_alchemy.types import DateTimeUTC, JsonB
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "domains",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("adapter", sa.String(64)),
        sa.Column("created_at", DateTimeUTC, nullable=False),
    )
    op.create_table(
        "examples",
        sa.Column("domain", sa.String(64), sa.ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("split", sa.String(16), nullable=False, index=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("answers", JsonB, nullable=False),
        sa.Column("document_ids", JsonB, nullable=False),
        sa.Column("tags", JsonB, nullable=False),
    )
    op.create_table(
        "adapters",
        sa.Column("domain", sa.String(64), sa.ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("created_at", DateTimeUTC, nullable=False),
    )
    op.create_table(
        "documents",
        sa.Column("domain", sa.String(64), sa.ForeignKey("domains.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
    )
    op.create_table(
        "chunks",
        sa.Column("domain", sa.String(64), primary_key=True),
        sa.Column("chunk_id", sa.String(64), primary_key=True),
        sa.Column("document_id", sa.String(200), nullable=False, index=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("embedder", sa.String(200), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["domain", "document_id"], ["documents.domain", "documents.id"], ondelete="CASCADE"),
    )
    op.create_table(
        "shots",
        sa.Column("domain", sa.String(64), primary_key=True),
        sa.Column("example_id", sa.String(200), primary_key=True),
        sa.Column("embedder", sa.String(200), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["domain", "example_id"], ["examples.domain", "examples.id"], ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Drop every table."""
    for table in ("shots", "chunks", "documents", "adapters", "examples", "domains"):
        op.drop_table(table)
