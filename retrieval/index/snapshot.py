"""Snapshots of an index on disk: a cache that saves reading and training, never the truth.

A snapshot is a folder that appears whole, by a rename. Its manifest carries the SHA-256 of every file, its name that of
the manifest, and no file is given to FAISS or numpy before its bytes have that sum. What does not fit (damaged, another
embedder, older than a purge) is not used, said in the log, and made again.
"""

import contextlib
import hashlib
import io
import logging
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from retrieval.index.lexical import Postings
from retrieval.index.rows import COLUMNS
from retrieval.index.vectors import Built, VectorIndex

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
VECTORS = "vectors.faiss"
ROWS = "rows.npz"
NAMES = "documents.json"
_ABANDONED_AFTER_S = 3600.0
"""Age from which an unfinished snapshot is one that a crash left."""
_POSTINGS = ("terms", "starts", "rows", "counts")


class Manifest(Struct, frozen=True):
    """What a snapshot is of, and the sums of its files."""

    format: int
    domain: str
    epoch: int
    start: str
    """When the epoch began: not the same in a database that was set back and went on otherwise."""
    generation: str
    """The domain's when it was written; see `Domain.generation`."""
    embedder: str
    terms_version: int
    num_rows: int
    built: Built
    files: dict[str, str]


class Snapshot(Struct, frozen=True):
    """A snapshot, read and checked."""

    manifest: Manifest
    names: list[str]
    columns: dict[str, NDArray[Any]]
    postings: Postings
    vectors: VectorIndex | None
    """None where only the FAISS file is damaged: the vectors are in the database."""


class _OtherGeneration(ValueError):
    """It may hold what a purge erased: a purge that was killed half-way leaves it behind."""


def write_snapshot(
    folder: Path,
    manifest: Manifest,
    names: Sequence[str],
    columns: dict[str, NDArray[Any]],
    postings: Postings,
    vectors: VectorIndex,
) -> None:
    """Write a snapshot into the domain's folder, and remove those before it.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left of the attempt.
    """
    partial = folder / f".{uuid.uuid4().hex}.partial"
    try:
        partial.mkdir(parents=True)
        faiss.write_index(vectors.index, str(partial / VECTORS))
        arrays = columns | {f"postings_{name}": getattr(postings, name) for name in _POSTINGS}
        with (partial / ROWS).open("wb") as file:
            np.savez(file, **arrays)
        (partial / NAMES).write_bytes(msgspec.json.encode(list(names)))
        sums = {name: _hash((partial / name).read_bytes()) for name in (VECTORS, ROWS, NAMES)}
        whole = msgspec.structs.replace(manifest, files=sums)
        data = msgspec.json.format(msgspec.json.encode(whole))
        (partial / MANIFEST).write_bytes(data)
        partial.rename(folder / f"{manifest.epoch:010d}-{uuid.uuid4().hex[:8]}-{_hash(data)}")
    except RuntimeError as error:  # FAISS's own I/O errors
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    left_by_a_crash = (path for path in folder.glob(".*.partial") if _age_s(path) > _ABANDONED_AFTER_S)
    for old in [*_list(folder)[1:], *left_by_a_crash]:
        shutil.rmtree(old, ignore_errors=True)


def read_snapshot(folder: Path, domain: str, embedder: str, terms_version: int, generation: str) -> Snapshot | None:
    """Read the newest snapshot of a domain that is whole and fits; says in the log what it passes over."""
    for path in _list(folder):
        try:
            return _read(path, domain, embedder, terms_version, generation)
        except _OtherGeneration as error:
            logger.warning("snapshot removed path=%s reason=%s", path.name, error)
            shutil.rmtree(path, ignore_errors=True)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            logger.warning("snapshot not used, made again from the database path=%s reason=%s", path.name, error)
    return None


def remove_snapshots(folder: Path) -> None:
    """Erase every snapshot of a domain, unfinished ones too.

    The folder is renamed first: a process that is writing into it finds it gone, instead of adding to what is erased.

    Raises:
        OSError: they cannot be erased.
    """
    with contextlib.suppress(FileNotFoundError):
        folder.rename(folder.with_name(f".{folder.name}-{uuid.uuid4().hex}.erased"))
    for erased in folder.parent.glob(f".{folder.name}-*.erased"):  # of a purge that was killed, too
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(erased)


def _list(folder: Path) -> list[Path]:
    """Newest first."""
    try:
        return sorted((path for path in folder.glob("[0-9]*-*") if path.is_dir()), reverse=True)
    except FileNotFoundError:  # another process erases them all at this moment
        return []


def _read(path: Path, domain: str, embedder: str, terms_version: int, generation: str) -> Snapshot:
    data = (path / MANIFEST).read_bytes()
    if _hash(data) != path.name.rpartition("-")[2]:
        raise ValueError(f"{MANIFEST} does not have the checksum in the folder's name: it is damaged")
    manifest = msgspec.json.decode(data, type=Manifest)
    found = (manifest.format, manifest.domain, manifest.embedder, manifest.terms_version)
    if found != (FORMAT, domain, embedder, terms_version):
        raise ValueError(f"made for another state: {found}")
    if manifest.generation != generation:
        raise _OtherGeneration(f"made for another state: {manifest.generation}")
    names = msgspec.json.decode(_read_checked(path, NAMES, manifest), type=list[str])
    with np.load(io.BytesIO(_read_checked(path, ROWS, manifest)), allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in COLUMNS}
        postings = Postings(*(arrays[f"postings_{name}"] for name in _POSTINGS))
    vectors = None
    try:
        data = _read_checked(path, VECTORS, manifest)
        vectors = VectorIndex(faiss.deserialize_index(np.frombuffer(data, np.uint8)), manifest.built)
    except (OSError, ValueError, RuntimeError) as error:
        logger.warning("FAISS file not used, vectors read from the database path=%s reason=%s", path.name, error)
    return Snapshot(manifest, names, columns, postings, vectors)


def _read_checked(path: Path, name: str, manifest: Manifest) -> bytes:
    data = (path / name).read_bytes()
    if _hash(data) != manifest.files.get(name):
        raise ValueError(f"{name} does not have the checksum of the manifest: it is damaged")
    return data


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
