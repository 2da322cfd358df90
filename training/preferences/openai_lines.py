"""A line of OpenAI's preference form -> a vote: one user's question, a preferred answer and one that is not.

A judgement here holds the prompt that serving renders from one question. What that prompt has no place for (earlier
turns, a system message, tools) is refused by name: an answer cannot be learned without what its writer saw.
"""

from typing import Any

from bakeoff.errors import BadInput

_FIELDS = {"input", "preferred_output", "non_preferred_output", "id", "metadata"}


def read_openai_line(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """The line in our own form.

    Args:
        where: file and line, for messages.

    Raises:
        BadInput: a field is missing, of another form, or one that cannot be heeded.
    """
    for field in sorted(raw.keys() - _FIELDS):
        raise BadInput(f"{where}: field `{field}` is not known in a line with `preferred_output`")
    given = raw.get("input")
    if not isinstance(given, dict):
        raise BadInput(f"{where}: field `input` is not an object with `messages`")
    if given.get("tools"):
        raise BadInput(f"{where}: field `input.tools` cannot be learned from; leave it out")
    turns = _turns(given.get("messages"), where, "input.messages")
    if [role for role, _ in turns] != ["user"]:
        roles = ", ".join(role for role, _ in turns)
        raise BadInput(f"{where}: field `input.messages` has to be one user's turn, and its turns are: {roles}")
    line = {"question": turns[0][1], "chosen": _answer(raw, "preferred_output", where)}
    line["rejected"] = _answer(raw, "non_preferred_output", where)
    return {**line, "id": raw["id"]} if "id" in raw else line


def _answer(raw: dict[str, Any], field: str, where: str) -> str:
    turns = _turns(raw.get(field), where, field)
    if [role for role, _ in turns] != ["assistant"]:
        raise BadInput(f"{where}: field `{field}` has to be one assistant's turn")
    return turns[0][1]


def _turns(value: Any, where: str, field: str) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not value:
        raise BadInput(f"{where}: field `{field}` is not a list of turns")
    turns = []
    for number, turn in enumerate(value):
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
            content = "\n".join(str(part["text"]) for part in content)
        if not isinstance(role, str) or not isinstance(content, str):
            raise BadInput(f"{where}: `{field}[{number}]` is not a turn with `role` and a text as `content`")
        turns.append((role, content))
    return turns
