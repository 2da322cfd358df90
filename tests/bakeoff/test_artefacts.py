from pathlib import Path

import pytest

from bakeoff.artefacts import read_manifest, write_artefact, write_json
from bakeoff.errors import Mismatch, NotFound


def make(parent: Path, text: str = "weights") -> tuple[str, Path]:
    return write_artefact(
        parent, "adapter", {"seed": 1}, lambda folder: void((folder / "w.safetensors").write_text(text))
    )


def void(_value: object) -> None:
    return None


def test_the_name_is_the_content(tmp_path: Path) -> None:
    digest, folder = make(tmp_path)
    assert folder == tmp_path / digest
    assert make(tmp_path)[0] == digest
    assert make(tmp_path, "other weights")[0] != digest
    assert read_manifest(folder, "adapter")["seed"] == 1


def test_a_failed_fill_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_artefact(tmp_path, "adapter", {}, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_missing_or_pickled_file_is_refused(tmp_path: Path) -> None:
    _, folder = make(tmp_path)
    (folder / "w.safetensors").write_text("Weights")
    with pytest.raises(Mismatch, match=r"w\.safetensors is missing or is not"):
        read_manifest(folder, "adapter")
    (folder / "w.safetensors").write_text("weights")
    with pytest.raises(Mismatch, match="is a adapter"):
        read_manifest(folder, "run")
    (folder / "evil.bin").write_text("")
    with pytest.raises(Mismatch, match="pickle"):
        read_manifest(folder, "adapter")
    with pytest.raises(NotFound):
        read_manifest(tmp_path / "gone", "adapter")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(Mismatch, match="does not parse"):
        read_manifest(folder, "adapter")


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
