"""Wire forms of `/v1/vector_stores` and what is below it."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from bakeoff.errors import BadInput
from service.openai.vector_stores.filters import Filter
from service.openai.vector_stores.records import Attributes, Entry, ErrorCode, FileState, Store

Key = Annotated[str, Meta(max_length=64)]
Metadata = Annotated[dict[Key, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
GivenAttributes = Annotated[dict[Key, Annotated[str, Meta(max_length=512)] | bool | int | float], Meta(max_length=16)]
FileIds = list[Annotated[str, Meta(min_length=1, max_length=80)]]


class ExpiresAfter(Struct, frozen=True, forbid_unknown_fields=True):
    """When a store expires: so many days after it was used last."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=365)]


class StaticSizes(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of chunks, in tokens."""

    max_chunk_size_tokens: Annotated[int, Meta(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0)]


class AutoChunking(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="auto"):
    """As this service cuts documents: by their structure, to the embedder's window."""


class StaticChunking(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="static"):
    """By sizes; taken only where they are this service's own."""

    static: StaticSizes


class OtherChunking(Struct, frozen=True, tag_field="type", tag="other"):
    """Of a file that was put in otherwise."""


Chunking = AutoChunking | StaticChunking


class StoreCreate(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a creation."""

    name: Annotated[str, Meta(max_length=256)] = ""
    description: Annotated[str, Meta(max_length=512)] = ""
    file_ids: Annotated[FileIds, Meta(max_length=500)] = []
    expires_after: ExpiresAfter | None = None
    chunking_strategy: Chunking | None = None
    metadata: Metadata | None = None
    """`domain` names an existing domain that the store is to be a view of."""


class StoreUpdate(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a change; what is left out stays."""

    name: Annotated[str, Meta(max_length=256)] | UnsetType | None = UNSET
    expires_after: ExpiresAfter | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET


class FileCounts(Struct, frozen=True):
    """Files by what has become of them."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class StoreFacts(Struct, frozen=True):
    """Our own field of a store."""

    domain: str
    """Whose documents its files are: ask `<domain>/rag`."""


class VectorStore(Struct, frozen=True):
    """A vector store."""

    id: str
    created_at: int
    name: str
    description: str
    usage_bytes: int
    """Texts and vectors of its chunks."""
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    last_active_at: int
    expires_at: int | None
    metadata: Metadata
    bakeoff: StoreFacts
    expires_after: ExpiresAfter | UnsetType = UNSET
    object: Literal["vector_store"] = "vector_store"


class StoreDeleted(Struct, frozen=True):
    """Answer of a deletion."""

    id: str
    deleted: bool = True
    object: Literal["vector_store.deleted"] = "vector_store.deleted"


class FileCreate(Struct, frozen=True, forbid_unknown_fields=True):
    """Body that puts a file into a store."""

    file_id: Annotated[str, Meta(min_length=1, max_length=80)]
    attributes: GivenAttributes | None = None
    chunking_strategy: Chunking | None = None


class FileUpdate(Struct, frozen=True, forbid_unknown_fields=True):
    """Body that replaces a file's attributes."""

    attributes: GivenAttributes | None


class FileError(Struct, frozen=True):
    """Why a file is not in its store."""

    code: ErrorCode
    message: str


class StoreFile(Struct, frozen=True):
    """A file in a store."""

    id: str
    created_at: int
    vector_store_id: str
    status: FileState
    last_error: FileError | None
    usage_bytes: int
    attributes: Attributes
    chunking_strategy: StaticChunking | OtherChunking
    object: Literal["vector_store.file"] = "vector_store.file"


class StoreFileDeleted(Struct, frozen=True):
    """Answer when a file was taken out of a store."""

    id: str
    deleted: bool = True
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"


class BatchCreate(Struct, frozen=True, forbid_unknown_fields=True):
    """Body that puts several files into a store."""

    file_ids: Annotated[FileIds, Meta(max_length=2000)] | UnsetType = UNSET
    files: Annotated[list[FileCreate], Meta(max_length=2000)] | UnsetType = UNSET
    attributes: GivenAttributes | None = None
    """Of every one of `file_ids`."""
    chunking_strategy: Chunking | None = None


class FileBatch(Struct, frozen=True):
    """Files that were put into a store together."""

    id: str
    created_at: int
    vector_store_id: str
    status: FileState
    file_counts: FileCounts
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"


class RankingOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How results are ordered and cut."""

    ranker: Literal["auto", "none", "default-2024-11-15"] = "auto"
    score_threshold: Annotated[float, Meta(ge=0, le=1)] = 0


class Search(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a search."""

    query: (
        Annotated[str, Meta(min_length=1, max_length=32_768)]
        | Annotated[list[Annotated[str, Meta(min_length=1, max_length=32_768)]], Meta(min_length=1, max_length=16)]
    )
    rewrite_query: bool = False
    """Accepted; queries are searched as they are, and come back so."""
    max_num_results: Annotated[int, Meta(ge=1, le=50)] = 10
    filters: Filter | None = None
    ranking_options: RankingOptions = RankingOptions()


class TextContent(Struct, frozen=True):
    """A piece of text."""

    text: str
    type: Literal["text"] = "text"


class SearchHit(Struct, frozen=True):
    """A passage that was found."""

    file_id: str
    filename: str
    score: float
    attributes: Attributes
    content: list[TextContent]


class SearchPage(Struct, frozen=True):
    """Answer of a search."""

    search_query: list[str]
    data: list[SearchHit]
    has_more: bool = False
    next_page: str | None = None
    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"


class ContentPage(Struct, frozen=True):
    """The text of a file, as it was read."""

    data: list[TextContent]
    has_more: bool = False
    next_page: str | None = None
    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"


def to_counts(counts: dict[str, tuple[int, int]]) -> FileCounts:
    """Numbers by status as clients see them."""
    numbers = {status: number for status, (number, _) in counts.items()}
    return FileCounts(**numbers, total=sum(numbers.values()))


def to_store(store: Store, counts: dict[str, tuple[int, int]]) -> VectorStore:
    """The row as clients see it."""
    expires_at, days = store.expires_at, store.expires_after_days
    is_expired = store.is_expired(datetime.now(UTC))
    return VectorStore(
        id=store.id,
        created_at=int(store.created_at.timestamp()),
        name=store.name,
        description=store.description,
        usage_bytes=sum(num_bytes for _, num_bytes in counts.values()),
        file_counts=to_counts(counts),
        status="expired" if is_expired else "in_progress" if "in_progress" in counts else "completed",
        last_active_at=int(store.last_active_at.timestamp()),
        expires_at=None if expires_at is None else int(expires_at.timestamp()),
        metadata=store.metadata,
        bakeoff=StoreFacts(store.domain),
        expires_after=UNSET if days is None else ExpiresAfter("last_active_at", days),
    )


def to_file(entry: Entry) -> StoreFile:
    """The row as clients see it."""
    return StoreFile(
        id=entry.file_id,
        created_at=int(entry.created_at.timestamp()),
        vector_store_id=entry.store_id,
        status=entry.status,
        last_error=None if entry.last_error is None else FileError(**entry.last_error),  # type: ignore[arg-type]
        usage_bytes=entry.usage_bytes,
        attributes=entry.attributes,
        chunking_strategy=(
            StaticChunking(StaticSizes(**entry.chunking_strategy)) if entry.chunking_strategy else OtherChunking()
        ),
    )


def check_no_nul(value: object, param: str) -> None:
    """Refuse what PostgreSQL cannot store.

    Raises:
        BadInput: a text holds the character NUL.
    """
    texts = [value] if isinstance(value, str) else [*value, *value.values()] if isinstance(value, dict) else []
    if any(isinstance(text, str) and "\x00" in text for text in texts):
        raise BadInput(f"{param} must not hold the character NUL", param=param)
