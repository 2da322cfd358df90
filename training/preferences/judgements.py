"""A JSONL file of what people said -> judgements, each with the very prompt that was answered.

Three kinds of line: a vote between two answers, a ranking of several (ties are lists), a thumb on one. A vote is a
ranking of two; it may come in OpenAI's form too (`input`, `preferred_output`, `non_preferred_output`), which
`openai_lines` reads. Every line says in which mode its answers were given, and for `hybrid` which passages stood
before the question, because an answer can only be judged, and learned, together with what its writer saw.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bakeoff.errors import BadInput
from bakeoff.jsonl import read_jsonl
from bakeoff.records import Passage
from training.preferences.openai_lines import read_openai_line

AnswerMode = Literal["fine-tuned", "hybrid"]
"""The modes that answer with an adapter: no other can learn."""


class Context(Struct, frozen=True):
    """What stood before the answers."""

    question: str
    mode: AnswerMode = "fine-tuned"
    passages: tuple[Passage, ...] = ()
    """As served, best first; empty in mode `fine-tuned`."""


class Ranking(Struct, frozen=True):
    """Answers to one prompt, in the order in which somebody liked them."""

    id: str
    context: Context
    levels: tuple[tuple[str, ...], ...]
    """Best first, at least two; answers of one level are equally good."""
    example_id: str = ""
    document_ids: tuple[str, ...] = ()


class Thumb(Struct, frozen=True):
    """One answer that somebody liked or did not."""

    id: str
    context: Context
    completion: str
    is_up: bool
    example_id: str = ""
    document_ids: tuple[str, ...] = ()


class Preferences(Struct, frozen=True):
    """What a file says."""

    rankings: tuple[Ranking, ...]
    """Votes too."""
    thumbs: tuple[Thumb, ...]
    num_elsewhere: int = 0
    """Lines left out because they belong to another domain."""


class _Line(Struct, kw_only=True, forbid_unknown_fields=True):
    """What lines of all kinds may say."""

    question: str
    id: str = ""
    mode: AnswerMode = "fine-tuned"
    passages: tuple[Passage, ...] = ()
    domain: str = ""
    example_id: str = ""
    document_ids: tuple[str, ...] = ()
    tags: dict[str, Any] = {}
    """For whatever else an export knows; not read here."""


class _VoteLine(_Line, kw_only=True, forbid_unknown_fields=True):
    chosen: str
    rejected: str


class _RankingLine(_Line, kw_only=True, forbid_unknown_fields=True):
    ranking: tuple[str | tuple[str, ...], ...]


class _ThumbLine(_Line, kw_only=True, forbid_unknown_fields=True):
    completion: str
    thumb: Literal["up", "down"]


_KINDS: dict[str, type[_Line]] = {"chosen": _VoteLine, "ranking": _RankingLine, "completion": _ThumbLine}
"""The field that tells a kind of line -> the kind."""


def read_preferences(path: Path, domain: str | None = None) -> Preferences:
    """Read a file of votes, rankings and thumbs.

    Args:
        domain: lines tagged with another domain are left out, and counted.

    Raises:
        BadInput: names file, line and field of a bad line, an empty text, passages that do not fit the mode, an answer
            that stands on two levels, or an id that stands twice.
    """
    rankings: list[Ranking] = []
    thumbs: list[Thumb] = []
    ids: set[str] = set()
    num_elsewhere = 0
    for number, raw in read_jsonl(path, dict[str, Any]):
        where = f"{path}, line {number}"
        line = _parse(raw, where)
        line_id = line.id or f"line-{number}"
        if line_id in ids:
            raise BadInput(f"{where}: id {line_id!r} stands twice in this file")
        ids.add(line_id)
        if domain is not None and line.domain not in ("", domain):
            num_elsewhere += 1
            continue
        context = Context(line.question, line.mode, line.passages)
        if isinstance(line, _ThumbLine):
            is_up = line.thumb == "up"
            thumbs.append(Thumb(line_id, context, line.completion, is_up, line.example_id, line.document_ids))
        else:
            rankings.append(Ranking(line_id, context, _levels_of(line, where), line.example_id, line.document_ids))
    if not rankings and not thumbs:
        other = f" of domain {domain!r} ({num_elsewhere} lines belong to others)" if num_elsewhere else ""
        raise BadInput(f"{path}: holds no vote, ranking or thumb{other}")
    return Preferences(tuple(rankings), tuple(thumbs), num_elsewhere)


def _parse(raw: dict[str, Any], where: str) -> _Line:
    if "preferred_output" in raw:
        raw = read_openai_line(raw, where)
    found = [field for field in _KINDS if field in raw]
    if len(found) != 1:
        raise BadInput(
            f"{where}: a line has either `chosen` and `rejected` (a vote), or `ranking`, or `completion` and `thumb`; "
            f"this one has {', '.join(f'`{field}`' for field in found) or 'none of them'}"
        )
    try:
        line = msgspec.convert(raw, _KINDS[found[0]])
    except msgspec.ValidationError as error:
        raise BadInput(f"{where}: {error}") from error
    for field in ("question", "chosen", "rejected", "completion"):
        text = getattr(line, field, None)
        if text is not None and not text.strip():
            raise BadInput(f"{where}: field `{field}` is empty")
    if line.passages and line.mode != "hybrid":
        raise BadInput(f'{where}: field `passages` needs `mode` "hybrid", and this line says {line.mode!r}')
    return line


def _levels_of(line: _Line, where: str) -> tuple[tuple[str, ...], ...]:
    if isinstance(line, _VoteLine):
        field = "rejected"
        levels: tuple[tuple[str, ...], ...] = ((line.chosen,), (line.rejected,))
    else:
        assert isinstance(line, _RankingLine)
        field = "ranking"
        levels = tuple((level,) if isinstance(level, str) else level for level in line.ranking)
    answers = [answer for level in levels for answer in level]
    if len(levels) < 2 or not all(levels) or not all(answer.strip() for answer in answers):
        raise BadInput(f"{where}: field `{field}` has to hold at least two places with an answer in each")
    if len(set(answers)) < len(answers):
        raise BadInput(f"{where}: field `{field}` holds the same answer twice, so nothing says which is better")
    return levels
