import json
from pathlib import Path

from sqlalchemy import Engine

from bakeoff.examples import import_examples
from retrieval.embedder import Embedder
from retrieval.shots import embed_shots, hash_shots, nearest_shots


def ignore(_done: int, _total: int, _note: str) -> None:
    return None


def test_the_nearest_training_question_comes_last_and_test_questions_never(
    engine: Engine, tmp_path: Path, embedder: Embedder
) -> None:
    questions = {"pets": "Are dogs allowed?", "wifi": "Is there internet?", "food": "When is breakfast served?"}
    lines = [json.dumps({"id": key, "question": text, "answer": "Yes."}) for key, text in questions.items()]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "test.jsonl").write_text(json.dumps({"id": "t", "question": "Is my dog allowed?", "answer": "Yes."}))
    with engine.begin() as connection:
        import_examples(connection, "d", "train", tmp_path / "train.jsonl", set())
        import_examples(connection, "d", "test", tmp_path / "test.jsonl", set())
    assert hash_shots(engine, "d", embedder.name) is None
    assert embed_shots(engine, "d", embedder, ignore) == 3
    assert embed_shots(engine, "d", embedder, ignore) == 0
    before = hash_shots(engine, "d", embedder.name)
    shots = nearest_shots(engine, "d", "Is my dog allowed?", embedder, 2)
    assert len(shots) == 2
    assert shots[-1].id == "pets"
    assert "t" not in {shot.id for shot in nearest_shots(engine, "d", "Is my dog allowed?", embedder, 9)}
    (tmp_path / "train.jsonl").write_text(json.dumps({"id": "wifi", "question": "Is there internet?", "answer": "No."}))
    with engine.begin() as connection:
        import_examples(connection, "d", "train", tmp_path / "train.jsonl", set())
    embed_shots(engine, "d", embedder, ignore)
    assert hash_shots(engine, "d", embedder.name) not in (None, before)
