"""Artefact folders and their manifests: what training writes and the service reads meets here.

A folder is filled under a temporary name, described by `manifest.json` (the SHA-256 of every file, the inputs' hashes,
config, versions, lineage) and renamed into place, so a crash leaves no half of one. An adapter's name is the digest of
its manifest, hence of its weights: a name is never reused for other weights. A loader refuses a folder whose files do
not match its manifest. Safetensors only; a pickle is refused.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bakeoff.errors import Mismatch, NotFound

FORMAT = 1
MANIFEST = "manifest.json"
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]


def write_artefact(parent: Path, kind: str, facts: dict[str, Any], fill: Callable[[Path], None]) -> tuple[str, Path]:
    """Make one artefact folder, whole or not at all.

    Args:
        parent: folder that holds artefacts of this kind; the new one is named by its digest.
        facts: what the manifest says beside `format`, `kind` and `files`.
        fill: writes the files into the folder it is given.

    Returns:
        (digest, folder).
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f".{uuid.uuid4().hex}.partial"
    folder.mkdir()
    try:
        fill(folder)
        files = {str(path.relative_to(folder)): hash_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        manifest = {"format": FORMAT, "kind": kind, **facts, "files": files}
        digest = digest_of(manifest)
        write_json(folder / MANIFEST, manifest)
        final = parent / digest
        if not final.exists():
            folder.rename(final)
        return digest, final
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read and check an artefact folder: every file of the manifest is there, unchanged, and no pickle is beside it.

    Raises:
        NotFound: no such folder.
        Mismatch: damaged, of another kind or format, or holding a pickle.
    """
    manifest = peek_manifest(folder, kind)
    refuse_pickles(folder, f"{kind} {folder.name}")
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file() or hash_file(path) != expected:
            raise Mismatch(f"{kind} {folder.name} is damaged: {name} is missing or is not what the manifest says")
    return manifest


def refuse_pickles(folder: Path, what: str) -> None:
    """Look for files that run code when they are loaded.

    Raises:
        Mismatch: there is one.
    """
    for path in folder.rglob("*"):
        if path.suffix in _PICKLES:
            raise Mismatch(f"{what} holds {path.name}: pickle files can run code and are refused")


def peek_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read what an artefact says about itself, without looking at its files.

    Raises:
        NotFound: no such folder.
        Mismatch: of another kind or format, or it does not parse.
    """
    try:
        manifest: dict[str, Any] = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])
    except FileNotFoundError as error:
        raise NotFound(f"{kind} {folder.name} does not exist at {folder}") from error
    except msgspec.DecodeError as error:
        raise Mismatch(f"{kind} {folder.name} is damaged: its {MANIFEST} does not parse ({error})") from error
    if (manifest.get("format"), manifest.get("kind")) != (FORMAT, kind):
        raise Mismatch(f"{folder} is a {manifest.get('kind')} of format {manifest.get('format')}, not {kind} {FORMAT}")
    return manifest


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def indexes_dir(home: Path) -> Path:
    """Where the snapshots of indexes lie, a folder a domain."""
    return home / "indexes"


def adapters_dir(home: Path) -> Path:
    """Where adapter folders lie, each named by its digest."""
    return home / "adapters"


def delete_adapter_files(home: Path, digest: str) -> None:
    """Delete an adapter's folder, its folded weights, and its probe, which holds text that it was measured on."""
    for folder in (adapters_dir(home) / digest, *(home / "engines").glob(f"{digest}-*")):
        shutil.rmtree(folder, ignore_errors=True)
    (home / "probes" / f"{digest}.json").unlink(missing_ok=True)


def runs_dir(home: Path, domain: str) -> Path:
    """Where the domain's eval runs lie, each named by its run id."""
    return home / "runs" / domain


def find_runs(home: Path, domain: str) -> list[Path]:
    """The domain's run folders, the newest first."""
    folders = runs_dir(home, domain)
    found = [folder for folder in folders.iterdir() if (folder / MANIFEST).is_file()] if folders.is_dir() else []
    return sorted(found, key=lambda folder: (folder / MANIFEST).stat().st_mtime, reverse=True)
