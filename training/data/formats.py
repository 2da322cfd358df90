"""A file of any format the field exchanges -> examples, all or none.

Questions and answers as JSONL or CSV, OpenAI's chat JSONL, Alpaca and ShareGPT (JSON array or JSONL). The format is
seen from the content. A conversation makes one example: its last user turn and the answer to it; earlier turns go
into the tag `history`, a system message into the tag `instruction`. Every bad record is named by file, line and
field. Ids are a hash of question and answer where the file has none.
"""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from bakeoff.errors import BadInput
from bakeoff.example_files import collect_examples, parse_example
from bakeoff.jsonl import read_text
from bakeoff.records import Example
from bakeoff.tasks import find_task

Format = Literal["jsonl", "csv", "chat", "alpaca", "sharegpt"]
FORMATS: tuple[Format, ...] = get_args(Format)
LIST_SEPARATOR = "|"
"""Between the values of `answers` and of `document_ids` in a CSV file."""
_SIGNS: dict[str, Format] = {"messages": "chat", "conversations": "sharegpt", "question": "jsonl", "output": "alpaca"}
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}


def read_file(path: Path, form: Format | None = None, task: str | None = None) -> list[Example]:
    """Read a file of examples in any format.

    Args:
        form: its format; None finds it.
        task: of the examples that name none themselves.

    Raises:
        BadInput: names file, line and field of what cannot be used.
    """
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name one file of examples")
    text = read_text(path)
    form = form or find_format(path, text)
    if task is not None:
        find_task(task)
    placed = [(line, _PARSERS[form](raw, path, line)) for line, raw in _records(path, text, form)]
    finished = [(f"line {line}", _with_task(example, path, line, task)) for line, example in placed]
    return collect_examples(finished, path)


def find_format(path: Path, text: str) -> Format:
    """The format of a file, from its first record.

    Raises:
        BadInput: it looks like none of them; names the fields that were found.
    """
    if not text.strip():
        raise BadInput(f"{path}: holds no example")
    if text.lstrip()[0] not in "{[":
        return "csv"
    _, first = next(_json_records(path, text), (0, {}))
    for key, form in _SIGNS.items():
        if key in first:
            return form
    raise BadInput(
        f"{path}: the first record has the fields {', '.join(first) or 'none'}; expected `question` and `answer`, "
        "`messages` (chat), `conversations` (ShareGPT), or `instruction` and `output` (Alpaca)"
    )


def _records(path: Path, text: str, form: Format) -> Iterator[tuple[int, dict[str, Any]]]:
    return _csv_records(path, text) if form == "csv" else _json_records(path, text)


def _json_records(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line it begins on, record) of a JSON array or of JSONL."""
    if text.lstrip().startswith("["):
        data = text.encode()
        try:
            records = msgspec.json.decode(data, type=list[msgspec.Raw])
        except msgspec.DecodeError as error:
            raise BadInput(f"{path}: {error}") from error
        offset = line = 0
        for record in records:
            start = data.index(bytes(record), offset)
            line += data[offset:start].count(b"\n")
            yield line + 1, _decode(path, line + 1, bytes(record))
            line += bytes(record).count(b"\n")
            offset = start + len(bytes(record))
        return
    for number, one in enumerate(text.split("\n"), start=1):
        if one.strip():
            yield number, _decode(path, number, one.encode())


def _decode(path: Path, line: int, record: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(record, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadInput(f"{path}, line {line}: {error}") from error


def _csv_records(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    head = text.lstrip("\n").split("\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        missing = {"question", "answer"} - set(header)
        if missing:
            raise BadInput(
                f"{path}, line 1: the header {header!r} has no column `{min(missing)}`; a CSV file begins with the "
                "names of its columns: question, answer, and optionally id, answers, document_ids and any tags"
            )
        line = reader.line_num + 1
        for row in reader:
            if any(cell.strip() for cell in row):
                if len(row) != len(header):
                    raise BadInput(f"{path}, line {line}: {len(row)} columns, but the header has {len(header)}")
                yield line, dict(zip(header, row, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: {error}") from error


def _parse_csv(raw: dict[str, Any], path: Path, line: int) -> Example:
    lists: dict[str, Any] = {
        name: [part.strip() for part in raw[name].split(LIST_SEPARATOR) if part.strip()]
        for name in ("answers", "document_ids")
        if name in raw
    }
    known = {name: raw[name] for name in ("question", "answer")}
    others = {name: value for name, value in raw.items() if value.strip() and name not in known and name not in lists}
    return parse_example({**others, **known, **lists}, path, line)


def _parse_alpaca(raw: dict[str, Any], path: Path, line: int) -> Example:
    raw = dict(raw)
    fields = {name: _text(raw.pop(name, ""), path, line, name) for name in ("instruction", "input", "output", "system")}
    if not fields["instruction"].strip():
        raise BadInput(f"{path}, line {line}: field `instruction` is missing or empty")
    question = "\n\n".join(part for part in (fields["instruction"], fields["input"]) if part.strip())
    tags: dict[str, Any] = {"instruction": fields["system"]} if fields["system"].strip() else {}
    if not fields["output"].strip():
        raise BadInput(f"{path}, line {line}: field `output` is missing or empty")
    history = [
        {"role": role, "content": _text(content, path, line, "history")}
        for turn in raw.pop("history", None) or []
        for role, content in zip(("user", "assistant"), turn, strict=False)
    ]
    if history:
        tags["history"] = history
    return parse_example({**raw, **tags, "question": question, "answer": fields["output"]}, path, line)


def _parse_chat(raw: dict[str, Any], path: Path, line: int) -> Example:
    return _parse_turns(raw, "messages", ("role", "content"), path, line)


def _parse_sharegpt(raw: dict[str, Any], path: Path, line: int) -> Example:
    return _parse_turns(raw, "conversations", ("from", "value"), path, line)


def _parse_turns(raw: dict[str, Any], field: str, keys: tuple[str, str], path: Path, line: int) -> Example:
    others = {key: value for key, value in raw.items() if key not in (field, "system")}
    turns = raw.get(field)
    if not isinstance(turns, list) or not turns:
        raise BadInput(f"{path}, line {line}: field `{field}` is not a list of turns")
    said: list[dict[str, str]] = []
    for number, turn in enumerate(turns, start=1):
        place = f"{field}[{number - 1}]"
        role = turn.get(keys[0]) if isinstance(turn, dict) else None
        if role not in _ROLES:
            raise BadInput(
                f"{path}, line {line}: `{place}.{keys[0]}` is {role!r}; a turn is of one of: {', '.join(_ROLES)}"
            )
        content = _text(turn.get(keys[1]), path, line, f"{place}.{keys[1]}")
        said.append({"role": _ROLES[role], "content": content})
    instructions = [_text(raw["system"], path, line, "system")] if raw.get("system") else []
    instructions += [turn["content"] for turn in said if turn["role"] == "system"]
    said = [turn for turn in said if turn["role"] != "system"]
    if [turn["role"] for turn in said[-2:]] != ["user", "assistant"]:
        raise BadInput(
            f"{path}, line {line}: `{field}` does not end with a user's turn and the assistant's answer to it"
        )
    tags: dict[str, Any] = {"instruction": "\n".join(instructions)} if instructions else {}
    if said[:-2]:
        tags["history"] = said[:-2]
    example = {**others, **tags, "question": said[-2]["content"], "answer": said[-1]["content"]}
    return parse_example(example, path, line)


def _text(value: Any, path: Path, line: int, field: str) -> str:
    """A string, or the text parts of OpenAI's list of parts."""
    if isinstance(value, str):
        return value
    is_parts = isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value)
    if is_parts and all(isinstance(part.get("text"), str) for part in value):
        return "\n".join(part["text"] for part in value)
    raise BadInput(f"{path}, line {line}: field `{field}` is not text")


def _with_task(example: Example, path: Path, line: int, task: str | None) -> Example:
    if "task" not in example.tags:
        return example if task is None else msgspec.structs.replace(example, tags={**example.tags, "task": task})
    try:
        find_task(example.tags["task"])
    except BadInput as error:
        raise BadInput(f"{path}, line {line}: {error}") from error
    return example


_PARSERS: dict[Format, Callable[[dict[str, Any], Path, int], Example]] = {
    "jsonl": parse_example,
    "csv": _parse_csv,
    "chat": _parse_chat,
    "alpaca": _parse_alpaca,
    "sharegpt": _parse_sharegpt,
}
