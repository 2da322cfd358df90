"""Documents and chunks with the epochs in which they are alive; who may see them; tuned retrieval.

Documents are kept. Their chunks are cut and embedded anew, by `bakeoff documents reindex`: other chunks, other vectors.
"""

import sqlalchemy as sa
from advanced_alchemy.types import DateTimeUTC
from alembic import op

revision = "0002"
down_revision = "0001"

ALIVE = 2**31 - 1


def _key() -> sa.Column[int]:
    return sa.Column("key", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def _domain(*, primary_key: bool = False) -> sa.Column[str]:
    reference = sa.ForeignKey("domains.name", ondelete="CASCADE")
    return sa.Column("domain", sa.String(64), reference, primary_key=primary_key, nullable=False)


def _set_aside(name: str) -> None:
    """Copy the documents and drop their table: one that is renamed keeps the names of its keys, which the new needs."""
    op.execute(f"CREATE TABLE {name} AS SELECT * FROM documents")  # noqa: S608 - no input
    op.drop_table("documents")


def upgrade() -> None:
    """Make the new tables and carry the documents over."""
    for name in ("permissions", "purged"):
        op.add_column("domains", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.drop_table("chunks")
    _set_aside("documents_before")
    op.create_table(
        "documents",
        _key(),
        _domain(),
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("born", sa.Integer, nullable=False),
        sa.Column("died", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("recipe", sa.String(200), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_documents_domain_id", "documents", ["domain", "id"])
    op.create_table(
        "chunks",
        _key(),
        _domain(),
        sa.Column("chunk_id", sa.String(64), nullable=False),
        sa.Column("document_id", sa.String(200), nullable=False),
        sa.Column("born", sa.Integer, nullable=False),
        sa.Column("died", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("heading", sa.Text, nullable=False),
        sa.Column("page", sa.Integer),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("embedder", sa.String(200), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("terms", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    for columns in (("document_id", "died"), ("chunk_id",), ("born",), ("died",)):
        op.create_index(f"ix_chunks_domain_{'_'.join(columns)}", "chunks", ["domain", *columns])
    op.create_table(
        "grants",
        _domain(primary_key=True),
        sa.Column("document_id", sa.String(200), primary_key=True),
        sa.Column("caller_group", sa.String(64), primary_key=True),
        sa.Column("is_granted", sa.Boolean, nullable=False),
        sa.Column("changed", sa.Integer, nullable=False),
    )
    op.create_index("ix_grants_domain_changed", "grants", ["domain", "changed"])
    op.create_table(
        "epochs",
        _domain(primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("created_at", DateTimeUTC, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("num_documents", sa.Integer, nullable=False),
    )
    op.create_table("tunings", _domain(primary_key=True), sa.Column("tuning", sa.Text, nullable=False))
    op.execute(
        "INSERT INTO documents (domain, id, born, died, title, text, source, origin, recipe) "  # noqa: S608 - no input
        f"SELECT d.domain, d.id, m.epoch, {ALIVE}, d.title, d.text, d.source, '', '' "
        "FROM documents_before d JOIN domains m ON m.name = d.domain ORDER BY d.domain, d.id"
    )
    op.execute(
        "INSERT INTO grants (domain, document_id, caller_group, is_granted, changed) "
        "SELECT domain, id, 'everyone', true, 0 FROM documents_before"
    )
    op.drop_table("documents_before")


def downgrade() -> None:
    """Keep the living documents; drop their past, their chunks and who may see them."""
    for name in ("tunings", "epochs", "grants", "chunks"):
        op.drop_table(name)
    _set_aside("documents_after")
    op.create_table(
        "documents",
        _domain(primary_key=True),
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
    )
    op.execute(
        "INSERT INTO documents (domain, id, title, text, source) "  # noqa: S608 - no input
        f"SELECT domain, id, title, text, source FROM documents_after WHERE died = {ALIVE}"
    )
    op.drop_table("documents_after")
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
    for name in ("permissions", "purged"):
        op.drop_column("domains", name)
