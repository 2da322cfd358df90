"""Wire forms of `/v1/files`."""

from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from bakeoff.errors import BadInput
from service.openai.files.records import FileStatus, StoredFile

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What a client may upload a file for."""
MIN_SECONDS, MAX_SECONDS = 3600, 30 * 24 * 3600


class FileObject(Struct, frozen=True):
    """An uploaded file."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: Literal[
        "assistants",
        "assistants_output",
        "batch",
        "batch_output",
        "fine-tune",
        "fine-tune-results",
        "vision",
        "user_data",
    ]
    status: FileStatus
    expires_at: int | UnsetType = UNSET
    status_details: str | UnsetType = UNSET
    """What is wrong with a file for training."""
    object: Literal["file"] = "file"


class FileDeleted(Struct, frozen=True):
    """Answer of a deletion."""

    id: str
    deleted: bool = True
    object: Literal["file"] = "file"


def to_object(file: StoredFile) -> FileObject:
    """The row as clients see it."""
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at.timestamp()),
        filename=file.filename,
        purpose=file.purpose,  # type: ignore[arg-type]
        status=file.status,
        expires_at=UNSET if file.expires_at is None else int(file.expires_at.timestamp()),
        status_details=file.status_details or UNSET,
    )


def read_purpose(given: str | None) -> str:
    """The purpose that is kept.

    `evals` is kept as `user_data`: OpenAI takes the word, but its file object has none for it.

    Raises:
        BadInput: missing or not one of OpenAI's.
    """
    if given not in PURPOSES:
        what = "is missing" if given is None else f"must be one of {', '.join(PURPOSES)}, but is {given[:64]!r}"
        raise BadInput(f"purpose {what}", param="purpose")
    return "user_data" if given == "evals" else given


def read_expiry(anchor: str | None, seconds: str | None, now: datetime) -> datetime | None:
    """When a file expires.

    Raises:
        BadInput: half of it given, another anchor, or out of range.
    """
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise BadInput("expires_after.anchor must be 'created_at'", param="expires_after.anchor")
    if seconds is None or not seconds.isdecimal() or not MIN_SECONDS <= int(seconds[:12]) <= MAX_SECONDS:
        raise BadInput(
            f"expires_after.seconds must be a number from {MIN_SECONDS} to {MAX_SECONDS}", param="expires_after.seconds"
        )
    return now.astimezone(UTC) + timedelta(seconds=int(seconds))
