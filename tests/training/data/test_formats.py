import json
from pathlib import Path
from typing import Any

import pytest

from bakeoff.errors import BadInput
from bakeoff.records import Example
from training.data.formats import FORMATS, read_file

PAIRS = [("Is there a pool?", "Yes, in the garden."), ("Say it,\nplease", 'A "quoted" word, and a comma')]


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def lines(records: list[Any]) -> str:
    return "\n".join(map(json.dumps, records))


def csv_text(pairs: list[tuple[str, str]]) -> str:
    quoted = ['"{}","{}"'.format(*(part.replace('"', '""') for part in pair)) for pair in pairs]
    return "\n".join(["question,answer", *quoted])


WRITERS = {
    "jsonl": lines([{"question": question, "answer": answer} for question, answer in PAIRS]),
    "csv": csv_text(PAIRS),
    "chat": lines([chat(*pair) for pair in PAIRS]),
    "alpaca": json.dumps(
        [{"instruction": question, "input": "", "output": answer} for question, answer in PAIRS], indent=1
    ),
    "sharegpt": json.dumps(
        [{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]} for q, a in PAIRS], indent=1
    ),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_found_and_gives_the_same_examples(tmp_path: Path, form: str) -> None:
    path = tmp_path / "file"
    path.write_text(WRITERS[form])
    examples = read_file(path)
    assert [(one.question, one.answer) for one in examples] == PAIRS
    assert len({one.id for one in examples}) == 2
    again = tmp_path / "again.jsonl"
    again.write_text(WRITERS["jsonl"])
    assert [one.id for one in read_file(again)] == [one.id for one in examples]


def test_repeated_content_keeps_two_ids(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(lines([{"question": "q?", "answer": "a"}] * 2))
    first, second = (one.id for one in read_file(path))
    assert second == f"{first}-2"


def test_a_csv_file_has_lists_and_tags(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id;question;answer;answers;document_ids;label;note\n7;q?;a;a|b;d1 | d2;greeting;\n")
    assert read_file(path) == [Example("7", "q?", "a", ("a", "b"), ("d1", "d2"), {"label": "greeting"})]


def test_a_conversation_makes_one_example_of_its_last_turn(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Open?"), ("assistant", "Yes")]
    record = {"id": "c", "messages": [{"role": role, "content": text} for role, text in turns], "source": "shop"}
    record["messages"][3]["content"] = [{"type": "text", "text": "Open?"}]
    path.write_text(json.dumps(record))
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    tags = {"source": "shop", "instruction": "Be brief.", "history": history}
    assert read_file(path) == [Example("c", "Open?", "Yes", ("Yes",), (), tags)]


def test_alpaca_joins_instruction_and_input(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        json.dumps([{"instruction": "Translate", "input": "Haus", "output": "house", "system": "Be brief."}])
    )
    assert read_file(path)[0].question == "Translate\n\nHaus"
    assert read_file(path)[0].tags == {"instruction": "Be brief."}


def test_the_task_is_set_where_none_is_named_and_has_to_exist(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(lines([{"question": "a", "answer": "b"}, {"question": "c", "answer": "d", "task": "sentiment"}]))
    assert [one.tags["task"] for one in read_file(path, task="classification")] == ["classification", "sentiment"]
    with pytest.raises(BadInput, match="task 'poetry' does not exist"):
        read_file(path, task="poetry")
    path.write_text(lines([{"question": "a", "answer": "b", "task": "poetry"}]))
    with pytest.raises(BadInput, match=r"line 1: task 'poetry' does not exist"):
        read_file(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no example"),
        ("[]", "none; expected"),
        ('{"prompt": "x"}', "the fields prompt; expected"),
        ("question,reply\na,b", "no column `answer`"),
        ("question,answer\na,b\nc", "line 3: 1 columns, but the header has 2"),
        ("question,answer\na,\n", "line 2: field `answer` is empty"),
        (lines([chat("a", "b"), chat("a", " ")]), "line 2: field `answer` is empty"),
        (lines([{"messages": []}]), "line 1: field `messages` is not a list"),
        (lines([{"messages": [{"role": "tool", "content": "x"}]}]), r"line 1: `messages\[0\].role` is 'tool'"),
        (lines([{"messages": [{"role": "user", "content": "x"}]}]), "does not end with a user's turn"),
        (lines([{"messages": [{"role": "user", "content": 3}]}]), r"field `messages\[0\].content` is not text"),
        (
            json.dumps([{"instruction": "a", "output": "b"}, {"instruction": "", "output": "b"}], indent=1),
            "line 6: field `instr",
        ),
        (json.dumps([{"conversations": [{"from": "bird", "value": "x"}]}]), r"`conversations\[0\].from` is 'bird'"),
        ("{broken", "line 1: JSON is malformed"),
    ],
)
def test_a_bad_record_is_named_by_file_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.data"
    path.write_text(text)
    with pytest.raises(BadInput, match=said) as caught:
        read_file(path)
    assert str(path) in str(caught.value)
