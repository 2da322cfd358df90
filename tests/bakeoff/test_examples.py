import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine

from bakeoff.errors import BadInput, NotFound
from bakeoff.example_files import read_examples
from bakeoff.examples import (
    cut_validation,
    import_examples,
    load_examples,
    remove_examples,
    replace_examples,
    split_examples,
)
from bakeoff.records import Example


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"e{number}", "question": f"Question {number}?", "answer": f"Answer {number}.", **more}


def test_a_line_keeps_its_targets_and_its_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", line(1, answers=["Other.", "Answer 1."], yes_no="yes", label="a"))
    assert read_examples(path) == [
        Example("e1", "Question 1?", "Answer 1.", ("Answer 1.", "Other."), (), {"yes_no": "yes", "label": "a"})
    ]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{not json", "line 2"),
        ('{"id": "e2", "answer": "x"}', "line 2.*question"),
        (line(2, answer=" "), "line 2: field `answer` is empty"),
        (line(2, question=""), "line 2: field `question` is empty"),
        (line(2, answers="x"), r"line 2.*answers"),
        (line(1), "line 2: id 'e1' stands twice"),
        ("[1]", "line 2"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path: Path, engine: Engine, bad: object, said: str) -> None:
    path = write(tmp_path / "x.jsonl", line(1), bad)
    with pytest.raises(BadInput, match=said), engine.begin() as connection:
        import_examples(connection, "d", "train", path, set())
    with engine.connect() as connection:
        assert load_examples(connection, "d") == []


def test_text_that_is_not_utf8_is_named_by_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps(line(1)).encode() + b"\n" + '{"id": "caf\xe9"}'.encode("latin-1"))
    with pytest.raises(BadInput, match="line 2: byte 0xe9 is not UTF-8"):
        read_examples(path)


def test_a_document_that_does_not_exist_is_refused(tmp_path: Path, engine: Engine) -> None:
    path = write(tmp_path / "x.jsonl", line(1, document_ids=["gone"]))
    with pytest.raises(BadInput, match="names document 'gone'"), engine.begin() as connection:
        import_examples(connection, "d", "train", path, {"here"})


def test_importing_again_replaces_and_moves_between_splits(tmp_path: Path, engine: Engine) -> None:
    path = write(tmp_path / "x.jsonl", line(1), line(2))
    with engine.begin() as connection:
        assert import_examples(connection, "d", "train", path, set()).added == 2
        again = import_examples(connection, "d", "test", write(tmp_path / "y.jsonl", line(2, answer="New.")), set())
        assert (again.added, again.replaced, again.total) == (0, 1, 1)
        assert [example.id for example in split_examples(connection, "d", "train")] == ["e1"]
        assert split_examples(connection, "d", "test")[0].answer == "New."


def test_a_question_of_another_split_would_leak_and_is_refused(tmp_path: Path, engine: Engine) -> None:
    with engine.begin() as connection:
        import_examples(connection, "d", "train", write(tmp_path / "x.jsonl", line(1)), set())
    leak = write(tmp_path / "y.jsonl", {**line(9), "question": "Question 1?"})
    with pytest.raises(BadInput, match="already stands in the train split"), engine.begin() as connection:
        import_examples(connection, "d", "test", leak, set())


def test_the_validation_split_depends_on_the_seed_and_on_nothing_else() -> None:
    examples = [Example(f"e{number}", "q", "a") for number in range(1000)]
    train, validation = cut_validation(examples, seed=1)
    assert sorted(example.id for example in train + validation) == sorted(example.id for example in examples)
    assert 70 <= len(validation) <= 130
    fewer = cut_validation(examples[:500], seed=1)[1]
    assert fewer == [example for example in validation if example in examples[:500]]
    assert cut_validation(examples, seed=2)[1] != validation


def test_without_an_id_the_content_names_the_example(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"question": "q", "answer": "a"}, {"question": "q", "answer": "b"})
    first, second = read_examples(path)
    assert first.id != second.id
    assert read_examples(write(tmp_path / "y.jsonl", {"question": "q", "answer": "b"}))[0].id == second.id


def test_replacing_keeps_the_order_and_may_change_the_split(tmp_path: Path, engine: Engine) -> None:
    with engine.begin() as connection:
        import_examples(connection, "d", "train", write(tmp_path / "x.jsonl", line(1), line(2), line(3)), set())
        first, second, third = split_examples(connection, "d", "train")
        changed = msgspec.structs.replace(second, question="New?")
        replace_examples(connection, "d", [("test", third), ("train", changed)])
        assert load_examples(connection, "d") == [("train", first), ("train", changed), ("test", third)]


def test_removing_an_example_that_does_not_exist_removes_none(tmp_path: Path, engine: Engine) -> None:
    with engine.begin() as connection:
        import_examples(connection, "d", "train", write(tmp_path / "x.jsonl", line(1), line(2)), set())
        with pytest.raises(NotFound, match="holds no example 'gone'"):
            remove_examples(connection, "d", ["e1", "gone"])
        assert remove_examples(connection, "d", ["e1"]) == 1
        assert [example.id for example in split_examples(connection, "d", "train")] == ["e2"]
