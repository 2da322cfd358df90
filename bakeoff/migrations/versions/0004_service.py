"""What a service keeps: keys, answers, jobs, files, stored objects, vector stores."""

import sqlalchemy as sa
from advanced_alchemy.types import DateTimeUTC, JsonB
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "api_keys",
        _id(),
        _text("name", 200),
        _text("sha256", 64, unique=True),
        _text("hint", 16),
        _json("groups"),
        _flag("manages"),
        sa.Column("requests_per_minute", sa.Integer),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("revoked_at", nullable=True),
    )
    _create_jobs()
    _create_answers()
    op.create_table(
        "files",
        _id(),
        _text("owner", 64),
        _text("filename", 255),
        _text("purpose", 32),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        _text("sha256", 64),
        _text("stored_as", 64),
        _text("status", 16),
        sa.Column("status_details", sa.Text),
        _time("created_at"),
        _time("expires_at", nullable=True),
    )
    op.create_table(
        "stored_objects",
        _id(),
        _text("kind", 32),
        _text("owner", 64),
        _domain(),
        _time("created_at"),
        _text("model", 200),
        _json("metadata"),
        _json("input"),
        _json("body"),
    )
    op.create_index("ix_stored_objects_kind_created_at", "stored_objects", ["kind", "created_at"])
    _create_vector_stores()


def downgrade() -> None:
    """Forget all of it."""
    for table in (
        "vector_store_files",
        "vector_store_batches",
        "vector_stores",
        "stored_objects",
        "files",
        "answers",
        "job_events",
        "jobs",
        "api_keys",
    ):
        op.drop_table(table)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        _id(),
        _text("kind", 16),
        _text("domain", 64),
        _text("owner", 64),
        _json("arguments"),
        _flag("is_heavy"),
        _json("details"),
        _text("status", 16),
        _text("wish", 16),
        _text("worker", 200),
        _number("attempts"),
        _json("progress"),
        _json("result", nullable=True),
        sa.Column("error", sa.Text),
        _time("created_at"),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        _time("heartbeat_at", nullable=True),
    )
    op.create_index("ix_jobs_status_created_at", "jobs", ["status", "created_at"])
    op.create_table(
        "job_events",
        sa.Column("key", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.String(80), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        _time("at"),
        _text("level", 8),
        _text("kind", 16),
        sa.Column("message", sa.Text, nullable=False),
        _json("data"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_events_job_id_key", "job_events", ["job_id", "key"])


def _create_answers() -> None:
    op.create_table(
        "answers",
        _id(),
        sa.Column("choice", sa.Integer, primary_key=True),
        _time("created_at"),
        _text("route", 32),
        _text("owner", 64),
        _domain(),
        _text("mode", 32),
        sa.Column("adapter", sa.String(64)),
        _number("epoch"),
        _text("engine", 200),
        _number("prompts_version"),
        _text("prompt_hash", 64),
        _text("task", 32),
        _json("conversation"),
        _json("groups"),
        _json("chunk_ids"),
        _json("sampling"),
        sa.Column("completion", sa.Text, nullable=False),
        sa.Column("finish_reason", sa.String(32)),
        sa.Column("error", sa.Text),
        _flag("abstained"),
        sa.Column("evidence", sa.Float),
        _number("prompt_tokens"),
        _number("cached_tokens"),
        _number("completion_tokens"),
        _seconds("prepare_ms"),
        _seconds("first_token_ms"),
        _seconds("total_ms"),
        _seconds("engine_seconds"),
        _text("user", 200),
        _json("metadata"),
    )
    op.create_index("ix_answers_domain_created_at", "answers", ["domain", "created_at"])


def _create_vector_stores() -> None:
    op.create_table(
        "vector_stores",
        _id(),
        _text("owner", 64),
        _domain(),
        _flag("made_domain"),
        _text("name", 256),
        sa.Column("description", sa.Text, nullable=False),
        _json("metadata"),
        _time("created_at"),
        _time("last_active_at"),
        sa.Column("expires_after_days", sa.Integer),
    )
    op.create_table("vector_store_batches", _id(), _store(), _time("created_at"), _text("status", 16))
    op.create_table(
        "vector_store_files",
        _store(is_key=True),
        sa.Column("file_id", sa.String(80), primary_key=True),
        sa.Column("batch_id", sa.String(80)),
        _time("created_at"),
        _text("status", 16),
        _json("last_error", nullable=True),
        _json("attributes"),
        _json("chunking_strategy"),
        sa.Column("usage_bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_vector_store_files_batch_id", "vector_store_files", ["batch_id"])


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(80), primary_key=True)


def _domain() -> sa.Column[str]:
    return sa.Column("domain", sa.String(64), sa.ForeignKey("domains.name", ondelete="CASCADE"), nullable=False)


def _store(*, is_key: bool = False) -> sa.Column[str]:
    parent = sa.ForeignKey("vector_stores.id", ondelete="CASCADE")
    return sa.Column("store_id", sa.String(80), parent, primary_key=is_key, nullable=False)


def _text(name: str, length: int, *, unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, unique=unique)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _seconds(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column:  # type: ignore[type-arg]
    return sa.Column(name, DateTimeUTC, nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column:  # type: ignore[type-arg]
    return sa.Column(name, JsonB, nullable=nullable)
