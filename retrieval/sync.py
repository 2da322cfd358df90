"""A folder and a domain that follows it: what to add, what to remove, and when to look again.

Documents belong to a folder by their `origin`. What is removed is only what is surely gone: a file that is no longer
there, or one that was read and no longer holds the document. A file that cannot be read now keeps its documents, and
an empty folder is taken for a disk that is not mounted until somebody says that it is meant.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from threading import Event

from msgspec import Struct
from watchfiles import watch

from bakeoff.errors import BadInput
from retrieval.documents import FileReport, Read

DEBOUNCE_MS = 200
_STEP_MS = 50


class Plan(Struct, frozen=True):
    """What makes the domain hold what the folder holds."""

    to_add: list[Read]
    to_remove: list[str]
    """Document ids."""
    clashes: list[str]
    """Documents that are not added because their id belongs to another file outside the folder, one line each."""


def plan_sync(
    folder: Path,
    reads: Sequence[Read],
    reports: Sequence[FileReport],
    known: Mapping[str, str],
    changed: AbstractSet[Path] | None = None,
    *,
    allow_empty: bool = False,
) -> Plan:
    """Plan what to add and remove.

    Args:
        folder: the folder that was read.
        reads: what was read, of the whole folder or of `changed`.
        reports: of the same reading; an id is kept while its file, or a folder above it, was skipped.
        known: document id -> origin, of the whole domain.
        changed: None: the whole folder was read; else only these files, and what lies below these folders, was.
        allow_empty: a missing or empty folder is meant, and all its documents go.

    Raises:
        BadInput: the folder is missing, or holds no file while the domain holds documents of it.
    """
    root = folder.resolve()
    here = {
        document_id: Path(origin) for document_id, origin in known.items() if origin and _is_at(Path(origin), {root})
    }
    if not folder.is_dir() and not allow_empty:
        raise BadInput(f"{folder}: is not there; {_UNCHANGED.format(len(here))}")
    skipped = {root / report.path.relative_to(folder) for report in reports if report.skipped is not None}
    touched = {root} if changed is None else {root / path.relative_to(folder) for path in changed}
    found = {read.document.id for read in reads}
    to_remove = [
        document_id
        for document_id, origin in here.items()
        if document_id not in found and _is_at(origin, touched) and not _is_at(origin, skipped)
    ]
    if here and len(to_remove) == len(here) and not reads and not reports and not allow_empty:
        raise BadInput(f"{folder}: holds no file that can be read; {_UNCHANGED.format(len(here))}")
    to_add: list[Read] = []
    clashes: list[str] = []
    for read in reads:
        owner = known.get(read.document.id, "")
        if owner and owner != read.document.origin and read.document.id not in here and Path(owner).exists():
            clashes.append(f"{read.document.origin}: document id {read.document.id!r} belongs to {owner}")
        else:
            to_add.append(read)
    return Plan(to_add, to_remove, clashes)


def watch_folder(folder: Path, stop: Event | None = None) -> Iterator[set[Path]]:
    """Yield what changed in a folder, as files and folders, within about 0.3 s.

    The first is the folder itself, as soon as it is watched: whatever changed before is found by reading it whole.

    Args:
        stop: ends the watching when set.

    Raises:
        BadInput: the folder does not exist.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: is not a folder")
    root = folder.resolve()
    waiting = True
    for changes in watch(
        root,
        watch_filter=lambda _, path: _is_seen(Path(path), root),
        debounce=DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=DEBOUNCE_MS,
        yield_on_timeout=True,
        stop_event=stop,
    ):
        paths = {folder / Path(path).relative_to(root) for _, path in changes}
        if waiting or paths:
            yield {folder} if waiting else paths
        waiting = False


_UNCHANGED = (
    "is its disk mounted? Nothing was changed. Should the {} documents that came from it be removed, "
    "say so with --allow-empty"
)


def _is_at(path: Path, places: AbstractSet[Path]) -> bool:
    """Whether the path is one of the places or lies below one."""
    return path in places or not places.isdisjoint(path.parents)


def _is_seen(path: Path, root: Path) -> bool:
    return not any(part.startswith((".", "~$")) for part in path.relative_to(root).parts)
