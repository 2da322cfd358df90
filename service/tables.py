"""The service's tables: answers, what clients keep on the server (files, stored objects) and their vector stores.

Everything that belongs to a domain goes with it, by cascade. `owner` is the id of the API key that made a row, and
empty where the service asks for none; see `service.callers`.
"""

from advanced_alchemy.types import DateTimeUTC, JsonB
from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from bakeoff.database import metadata

answers_table = Table(
    "answers",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("choice", Integer, primary_key=True),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("route", String(32), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), nullable=False),
    Column("mode", String(32), nullable=False),
    Column("adapter", String(64)),
    Column("epoch", Integer, nullable=False),
    Column("engine", String(200), nullable=False),
    Column("prompts_version", Integer, nullable=False),
    Column("prompt_hash", String(64), nullable=False),
    Column("task", String(32), nullable=False),
    Column("conversation", JsonB, nullable=False),
    Column("groups", JsonB, nullable=False),
    Column("chunk_ids", JsonB, nullable=False),
    Column("sampling", JsonB, nullable=False),
    Column("completion", Text, nullable=False),
    Column("finish_reason", String(32)),
    Column("error", Text),
    Column("abstained", Boolean, nullable=False),
    Column("evidence", Float),
    Column("prompt_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("prepare_ms", Float, nullable=False),
    Column("first_token_ms", Float, nullable=False),
    Column("total_ms", Float, nullable=False),
    Column("engine_seconds", Float, nullable=False),
    Column("user", String(200), nullable=False),
    Column("metadata", JsonB, nullable=False),
    Index("ix_answers_domain_created_at", "domain", "created_at"),
)

stored_objects_table = Table(
    "stored_objects",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), nullable=False),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("model", String(200), nullable=False),
    Column("metadata", JsonB, nullable=False),
    Column("input", JsonB, nullable=False),
    Column("body", JsonB, nullable=False),
    Index("ix_stored_objects_kind_created_at", "kind", "created_at"),
)

files_table = Table(
    "files",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("stored_as", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_details", Text),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("expires_at", DateTimeUTC),
)

vector_stores_table = Table(
    "vector_stores",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("domain", ForeignKey("domains.name", ondelete="CASCADE"), nullable=False),
    Column("made_domain", Boolean, nullable=False),
    Column("name", String(256), nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata", JsonB, nullable=False),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("last_active_at", DateTimeUTC, nullable=False),
    Column("expires_after_days", Integer),
)

vector_store_batches_table = Table(
    "vector_store_batches",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("store_id", ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("status", String(16), nullable=False),
)

vector_store_files_table = Table(
    "vector_store_files",
    metadata,
    Column("store_id", ForeignKey("vector_stores.id", ondelete="CASCADE"), primary_key=True),
    Column("file_id", String(80), primary_key=True),
    Column("batch_id", String(80)),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("status", String(16), nullable=False),
    Column("last_error", JsonB),
    Column("attributes", JsonB, nullable=False),
    Column("chunking_strategy", JsonB, nullable=False),
    Column("usage_bytes", BigInteger, nullable=False),
    Index("ix_vector_store_files_batch_id", "batch_id"),
)
