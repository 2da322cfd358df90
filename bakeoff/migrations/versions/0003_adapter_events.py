"""What happened to adapters: registered, promoted, rolled back, refused, removed, opened, closed, audited.

Adapters made before are taken over as registered, and the serving ones as promoted: nobody wrote down by whom.
"""

from datetime import datetime

import sqlalchemy as sa
from advanced_alchemy.types import DateTimeUTC, JsonB
from alembic import op

revision = "0003"
down_revision = "0002"

CREATED_AT: sa.ColumnClause[datetime] = sa.column("created_at", DateTimeUTC)


def upgrade() -> None:
    """Make the table; begin it with the adapters that are there."""
    events = op.create_table(
        "adapter_events",
        sa.Column("key", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("domain", sa.String(64), sa.ForeignKey("domains.name", ondelete="CASCADE"), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("at", DateTimeUTC, nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("details", JsonB, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_adapter_events_domain_digest", "adapter_events", ["domain", "digest"])
    adapters = sa.table("adapters", *(sa.column(name, sa.String) for name in ("domain", "digest")), CREATED_AT)
    domains = sa.table("domains", *(sa.column(name, sa.String) for name in ("name", "adapter")))
    query = sa.select(adapters, domains.c.adapter).join(domains, domains.c.name == adapters.c.domain)
    found = op.get_bind().execute(query.order_by(adapters.c.created_at)).all()
    unknown = {"by": "unknown", "reason": "before events were recorded", "details": {}}
    rows = [
        {"domain": domain, "digest": digest, "event": event, "at": at, **unknown}
        for event in ("registered", "promoted")
        for domain, digest, at, serving in found
        if event == "registered" or digest == serving
    ]
    if rows:
        op.bulk_insert(events, rows)


def downgrade() -> None:
    """Forget what happened."""
    op.drop_table("adapter_events")
