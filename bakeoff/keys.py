"""API keys: who may ask, and what they may do. A key is shown once, when it is made; only its hash is stored.

A key carries 256 random bits, so a plain SHA-256 of it cannot be turned back, and looking it up costs one row.
"""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from advanced_alchemy.types import DateTimeUTC, JsonB
from msgspec import Struct
from sqlalchemy import Boolean, Column, Connection, Integer, String, Table, func, insert, select, update

from bakeoff.database import metadata
from bakeoff.errors import BadInput, NotFound

PREFIX = "bo-"

api_keys_table = Table(
    "api_keys",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("groups", JsonB, nullable=False),
    Column("manages", Boolean, nullable=False),
    Column("requests_per_minute", Integer),
    Column("created_at", DateTimeUTC, nullable=False),
    Column("expires_at", DateTimeUTC),
    Column("revoked_at", DateTimeUTC),
)


class ApiKey(Struct, frozen=True):
    """What is known of a key; never the key itself."""

    id: str
    """`key_...`: names it in lists, logs and answers."""
    name: str
    """For people: whose it is, or what for."""
    hint: str
    """Its last characters."""
    groups: tuple[str, ...]
    """Whose documents it may see, beside everyone's; see `retrieval.permissions`."""
    manages: bool
    """Whether it may upload files, fill vector stores and train, beside asking."""
    created_at: datetime
    requests_per_minute: int | None = None
    """Of each replica; None: no limit of its own."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it opens the service at this moment."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def hash_key(secret: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create_key(
    connection: Connection,
    name: str,
    groups: Iterable[str] = (),
    *,
    manages: bool = False,
    requests_per_minute: int | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key.

    Returns:
        what is known of it, and the key itself, which nobody can read again.

    Raises:
        BadInput: an empty or too long name, or a limit below 1.
    """
    if requests_per_minute is not None and requests_per_minute < 1:
        raise BadInput("a key may ask at least once a minute", param="requests_per_minute")
    if not 1 <= len(name.strip()) <= 200:
        raise BadInput("a key needs a name of 1 to 200 characters: whose it is, or what for", param="name")
    secret = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        f"key_{secrets.token_hex(8)}",
        name.strip(),
        secret[-4:],
        tuple(sorted(set(groups))),
        manages,
        datetime.now(UTC),
        requests_per_minute,
        expires_at,
    )
    row = {field: getattr(key, field) for field in key.__struct_fields__}
    connection.execute(insert(api_keys_table).values({**row, "groups": list(key.groups), "sha256": hash_key(secret)}))
    return key, secret


def count_changes(connection: Connection) -> tuple[int, datetime | None]:
    """What differs after a key was made or revoked, at the price of one row."""
    columns = api_keys_table.c
    num_keys, revoked_at = connection.execute(select(func.count(columns.id), func.max(columns.revoked_at))).one()
    return num_keys, revoked_at


def has_valid_key(connection: Connection) -> bool:
    """Whether any key opens the service now."""
    now = datetime.now(UTC)
    return any(key.is_valid(now) for key in list_keys(connection))


def list_keys(connection: Connection) -> list[ApiKey]:
    """Every key that was ever made, oldest first."""
    rows = connection.execute(select(api_keys_table).order_by(api_keys_table.c.created_at, api_keys_table.c.id))
    return [_key(dict(row)) for row in rows.mappings()]


def keys_by_hash(connection: Connection) -> dict[str, ApiKey]:
    """Every key, revoked ones too, by what is stored of it; see `hash_key`."""
    return {row["sha256"]: _key(dict(row)) for row in connection.execute(select(api_keys_table)).mappings()}


def revoke_key(connection: Connection, id_or_name: str) -> ApiKey:
    """End a key, for ever; revoking it again changes nothing.

    Raises:
        NotFound: no key of this id or name.
        BadInput: several keys have this name.
    """
    found = [key for key in list_keys(connection) if id_or_name in (key.id, key.name)]
    if not found:
        raise NotFound(f"there is no key {id_or_name!r}; see them all with: bakeoff keys list")
    if len(found) > 1:
        raise BadInput(f"{len(found)} keys are named {id_or_name!r}; name one by its id: bakeoff keys list")
    rows = (api_keys_table.c.id == found[0].id) & api_keys_table.c.revoked_at.is_(None)
    connection.execute(update(api_keys_table).where(rows).values(revoked_at=datetime.now(UTC)))
    return next(key for key in list_keys(connection) if key.id == found[0].id)


def _key(row: dict[str, object]) -> ApiKey:
    fields = {name: row[name] for name in ApiKey.__struct_fields__}
    return ApiKey(**{**fields, "groups": tuple(row["groups"])})  # type: ignore[arg-type]
