"""Files on disk -> documents, in a stable order, all checked before anything is written.

JSONL files hold one document a line (`id, title, text, source`); Markdown and text files are one document each, named
by their path below the folder that was given.
"""

from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from bakeoff.errors import BadInput
from bakeoff.jsonl import read_jsonl, read_text
from bakeoff.records import Document

SUFFIXES = {".jsonl", ".md", ".txt"}
MAX_ID_LENGTH = 200


class _Line(Struct):
    id: str
    text: str
    title: str = ""
    source: str = ""


def read_documents(paths: Iterable[Path]) -> list[Document]:
    """Read every document of these files and folders.

    Args:
        paths: `.jsonl`, `.md` and `.txt` files, or folders of them (other files in a folder are passed over).

    Raises:
        BadInput: a path that is missing or of another kind, a bad line (file, line number, field), an empty text, an
            id that stands twice.
    """
    documents: dict[str, Document] = {}
    for root in paths:
        for path in _find_files(root):
            for place, document in _read_file(path, root):
                if not document.id.strip() or len(document.id) > MAX_ID_LENGTH:
                    raise BadInput(f"{place}: field `id` has to have 1 to {MAX_ID_LENGTH} characters")
                if not document.text.strip():
                    raise BadInput(f"{place}: document {document.id!r} is empty; give it text or take it out")
                if document.id in documents:
                    raise BadInput(f"{place}: document id {document.id!r} stands twice in what was given")
                documents[document.id] = document
    return list(documents.values())


def _find_files(root: Path) -> list[Path]:
    if root.is_dir():
        found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not found:
            raise BadInput(f"{root}: holds no {', '.join(sorted(SUFFIXES))} file")
        return found
    if not root.exists():
        raise BadInput(f"{root}: does not exist")
    if root.suffix.lower() not in SUFFIXES:
        raise BadInput(f"{root}: {root.suffix or 'no suffix'} is not one of {', '.join(sorted(SUFFIXES))}")
    return [root]


def _read_file(path: Path, root: Path) -> list[tuple[str, Document]]:
    if path.suffix.lower() == ".jsonl":
        return [
            (f"{path}, line {number}", Document(line.id, line.title, line.text, line.source))
            for number, line in read_jsonl(path, _Line)
        ]
    text = read_text(path)
    name = str(path.relative_to(root)) if path != root else path.name
    return [(str(path), Document(name, _title(path, text), text, name))]


def _title(path: Path, text: str) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first.lstrip("#").strip() if first.startswith("#") else path.stem
