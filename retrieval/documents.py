"""Files on disk -> documents as Markdown, in a stable order; a file that cannot be read does not stop the others.

JSONL files hold one document a line (`id, title, text, source, groups`) and go in whole or not at all. Every other file
is one document, named by its path below the folder that was given. Text formats are read here, in bounded memory; the
others in a process of their own (`retrieval.formats`).
"""

import re
from collections.abc import Container, Iterable
from contextlib import ExitStack
from pathlib import Path

import msgspec
from msgspec import Struct

from bakeoff.errors import BadInput
from bakeoff.records import Document
from retrieval.folders import Found, find_among, find_files
from retrieval.formats.converter import Converter
from retrieval.formats.files import check_look, decode_text, read_bytes
from retrieval.formats.tables import read_csv
from retrieval.formats.worker import Converted
from retrieval.normalise import clean_text

SUFFIXES = {".csv", ".docx", ".htm", ".html", ".jsonl", ".md", ".pdf", ".pptx", ".txt", ".xlsx"}
MAX_ID_LENGTH = 200
MAX_TITLE_LENGTH = 300
_REASONS_SHOWN = 3
_TITLE = re.compile(r"\s*#{1,3} +(\S.*)")


class UnsupportedKind(BadInput):
    """A file of a kind that is not read."""


class Read(Struct, frozen=True):
    """A document as it was read."""

    document: Document
    groups: tuple[str, ...] | None = None
    """Who may see it; None where the file does not say."""


class FileReport(Struct, frozen=True):
    """What came of one file."""

    path: Path
    documents: int
    skipped: str | None = None
    """Why nothing of it was read; None where it was."""
    note: str = ""
    """What of it was left out."""

    def __str__(self) -> str:
        """One line for people."""
        if self.skipped is None:
            plural = "" if self.documents == 1 else "s"
            return f"{self.path}: {self.documents} document{plural}" + (f"; {self.note}" if self.note else "")
        return f"{self.path}{',' if self.skipped.startswith('line ') else ':'} {self.skipped}"


class Reading(Struct, frozen=True):
    """What came of all files."""

    reads: list[Read]
    reports: list[FileReport]
    """In the order of the files."""
    passed_over: int = 0
    """Files of the folders that have other suffixes."""

    @property
    def documents(self) -> list[Document]:
        """Without the groups."""
        return [read.document for read in self.reads]

    @property
    def skipped(self) -> list[FileReport]:
        """Reports of the files that could not be read."""
        return [report for report in self.reports if report.skipped is not None]


class _Line(Struct):
    id: str
    text: str
    title: str = ""
    source: str = ""
    groups: tuple[str, ...] | None = None


def read_documents(
    paths: Iterable[Path], converter: Converter | None = None, *, allow_nothing: bool = False
) -> Reading:
    """Read every document of these files and folders.

    Args:
        paths: files, or folders of them.
        converter: kept by the caller for the next time; None: one for this call.
        allow_nothing: an empty result is one too.

    Raises:
        BadInput: a path that does not exist; nothing could be read, and why.
    """
    files: list[Found] = []
    num_others = 0
    for root in paths:
        if root.is_dir():
            found, others = find_files(root, SUFFIXES)
            if not found and not allow_nothing:
                raise BadInput(f"{root}: holds no {_list_suffixes()} file")
            files += found
            num_others += others
        elif not root.exists():
            raise BadInput(f"{root}: does not exist")
        else:
            known = root.suffix.lower() in SUFFIXES
            problem = "" if known else f"{root.suffix or 'no suffix'} is not one of {_list_suffixes()}"
            files.append(Found(root, root.name, problem))
    reading = _read_files(files, converter, num_others)
    if not reading.reads and not allow_nothing:
        reasons = [str(report) for report in reading.skipped]
        more = len(reasons) - _REASONS_SHOWN
        ending = f"\n... and {more} more" if more > 0 else ""
        raise BadInput("nothing could be read: " + "\n".join(reasons[:_REASONS_SHOWN]) + ending)
    return reading


def read_changed(folder: Path, paths: Iterable[Path], converter: Converter | None = None) -> Reading:
    """Read those files of a folder again; those that are gone, or are no documents, are not in the result.

    Args:
        folder: as it was given to `read_documents`: ids are paths below it.
        paths: files and folders below it.
    """
    return _read_files(find_among(folder, paths, SUFFIXES), converter, 0)


def read_upload(path: Path, name: str, document_id: str, converter: Converter) -> list[Read]:
    """Read a file that is stored under another name than the one its owner gave it.

    Args:
        path: where it lies.
        name: the owner's, which says what kind of file it is.
        document_id: of the document it is; where it holds several, this and `#1`, `#2`, and so on.

    Raises:
        UnsupportedKind: no file of this kind is read.
        BadInput: it cannot be read, and why.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UnsupportedKind(f"{suffix or 'no suffix'} is not one of {_list_suffixes()}")
    data = read_bytes(path)
    if suffix == ".jsonl":
        lines = _read_lines(decode_text(data), "", ())
        return [
            Read(msgspec.structs.replace(line.document, id=f"{document_id}#{number}"), line.groups)
            for number, line in enumerate(lines.values(), start=1)
        ]
    document, _ = _read_whole(data, Path(name), converter)
    document = msgspec.structs.replace(document, id=document_id, source=name)
    _check(document, ())
    return [Read(document)]


def _read_files(files: Iterable[Found], converter: Converter | None, num_others: int) -> Reading:
    reads: dict[str, Read] = {}
    reports: list[FileReport] = []
    with ExitStack() as stack:
        converter = converter or stack.enter_context(Converter())
        for file in files:
            try:
                if file.problem:
                    raise BadInput(file.problem)
                new, note = _read_file(file, converter, reads)
            except BadInput as error:
                reports.append(FileReport(file.path, 0, str(error)))
                continue
            reads.update(new)
            reports.append(FileReport(file.path, len(new), note=note))
    return Reading(list(reads.values()), reports, num_others)


def _read_file(file: Found, converter: Converter, taken: Container[str]) -> tuple[dict[str, Read], str]:
    """Documents of a file by id, and what was left out."""
    if len(file.name) > MAX_ID_LENGTH:
        raise BadInput(
            f"has a path below the folder of {len(file.name)} characters, more than {MAX_ID_LENGTH}; "
            "rename it or a folder"
        )
    data = read_bytes(file.path)
    suffix = file.path.suffix.lower()
    origin = str(file.path.resolve())
    if suffix == ".jsonl":
        return _read_lines(decode_text(data), origin, taken), ""
    document, note = _read_whole(data, Path(file.name), converter)
    document = msgspec.structs.replace(document, origin=origin)
    _check(document, taken)
    return {document.id: Read(document)}, note


def _read_whole(data: bytes, name: Path, converter: Converter) -> tuple[Document, str]:
    """The one document that a file of this name is, and what was left out."""
    suffix = name.suffix.lower()
    converted = _convert(suffix, data, converter)
    text = clean_text(converted.text)
    title = clean_text(converted.title) or ("" if suffix in (".csv", ".xlsx") else _find_title(text)) or name.stem
    return Document(name.as_posix(), _shorten(title), text, name.as_posix()), converted.note


def _read_lines(text: str, origin: str, taken: Container[str]) -> dict[str, Read]:
    decoder = msgspec.json.Decoder(_Line)
    reads: dict[str, Read] = {}
    for number, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            line = decoder.decode(content)
        except msgspec.DecodeError as error:
            raise BadInput(f"line {number}: {error}") from error
        document = Document(line.id, clean_text(line.title), clean_text(line.text), line.source, origin)
        _check(document, reads if line.id in reads else taken, f"line {number}: ")
        reads[document.id] = Read(document, line.groups)
    return reads


def _convert(suffix: str, data: bytes, converter: Converter) -> Converted:
    if suffix in (".md", ".txt"):
        return Converted(decode_text(data))
    if suffix == ".csv":
        table, note = read_csv(decode_text(data))
        return Converted(table, note=note)
    check_look(suffix, data)
    return converter.convert(suffix, data)


def _check(document: Document, taken: Container[str], place: str = "") -> None:
    if not document.id.strip() or len(document.id) > MAX_ID_LENGTH:
        raise BadInput(f"{place}field `id` has to have 1 to {MAX_ID_LENGTH} characters")
    if not document.text.strip():
        line = f"{place}document {document.id!r} is empty; give it text or take it out"
        raise BadInput(line if place else "holds no text")
    if document.id in taken:
        raise BadInput(f"{place}document id {document.id!r} stands twice in what was given")


def _find_title(text: str) -> str:
    match = _TITLE.match(text)
    return match[1].rstrip("# ") if match else ""


def _shorten(title: str) -> str:
    return title if len(title) <= MAX_TITLE_LENGTH else title[: MAX_TITLE_LENGTH - 1] + "…"


def _list_suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))
