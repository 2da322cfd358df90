"""Folders -> the files in them, in a stable order, never outside the folder and never twice."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct


class Found(Struct, frozen=True):
    """A file of a folder, or a place in it that is not read."""

    path: Path
    name: str
    """Its path below the folder, with `/`."""
    problem: str = ""
    """Why it is not read."""


def find_files(folder: Path, suffixes: Iterable[str]) -> tuple[list[Found], int]:
    """Every file of these suffixes below a folder, by name; hidden files and folders are passed over.

    Symbolic links are not followed: what they lead to is read at its own place or lies outside the folder.

    Returns:
        (files and problems, number of files of other suffixes).
    """
    wanted = frozenset(suffixes)
    found: list[Found] = []
    num_others = 0

    def note_error(error: OSError) -> None:
        path = Path(error.filename)
        found.append(Found(path, _name(path, folder), f"cannot be listed: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=note_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*folders, *files]):
            path = Path(place, name)
            if name.startswith((".", "~$")):
                continue
            if path.is_symlink():
                if name in folders or path.suffix.lower() in wanted:
                    found.append(Found(path, _name(path, folder), describe_link(path, folder)))
            elif name not in folders:
                if path.suffix.lower() in wanted:
                    found.append(_check_name(path, folder))
                else:
                    num_others += 1
    return sorted(found, key=lambda file: file.name), num_others


def find_among(folder: Path, paths: Iterable[Path], suffixes: Iterable[str]) -> list[Found]:
    """Those of the given files that `find_files` would find; of a folder, all files in it; those gone are left out."""
    wanted = frozenset(suffixes)
    found: dict[Path, Found] = {}
    for path in sorted(set(paths)):
        parts = path.relative_to(folder).parts
        if any(part.startswith((".", "~$")) for part in parts):
            continue
        places = (*reversed(path.parents), path)
        linked = next((place for place in places if _below(place, folder) and place.is_symlink()), None)
        if linked is not None:
            if linked.suffix.lower() in wanted or linked.is_dir():
                found[linked] = Found(linked, _name(linked, folder), describe_link(linked, folder))
        elif path.is_dir():
            for file in find_files(path, wanted)[0]:
                found[file.path] = Found(file.path, _name(file.path, folder), file.problem)
        elif path.suffix.lower() in wanted and os.path.lexists(path):
            found[path] = _check_name(path, folder)
    return sorted(found.values(), key=lambda file: file.name)


def describe_link(path: Path, folder: Path) -> str:
    """Why a symbolic link is not read."""
    try:
        target = path.resolve(strict=True)
    except FileNotFoundError:
        return "is a symbolic link that leads nowhere"
    except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
        return "is a symbolic link that leads back to itself"
    if _below(target, folder.resolve()) or target == folder.resolve():
        return "is a symbolic link; what it leads to is read at its own place"
    return "is a symbolic link that leads out of the folder; copy the file into it"


def _check_name(path: Path, folder: Path) -> Found:
    name = _name(path, folder)
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        shown = "".join(character if character.isprintable() else "\ufffd" for character in name)
        return Found(folder / shown, shown, "has a name with characters that cannot be shown; rename it")
    return Found(path, name)


def _below(path: Path, folder: Path) -> bool:
    return folder in path.parents


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
