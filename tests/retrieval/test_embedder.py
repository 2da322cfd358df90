"""The fast embedder against sentence-transformers, with the real model."""

import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bakeoff.models import find_embedder
from bakeoff.settings import Settings
from retrieval import encoder
from retrieval.embedder import (
    BATCH_TOKENS,
    Embedder,
    OpenVinoEmbedder,
    SentenceTransformerEmbedder,
    Vectors,
    open_embedder,
)
from retrieval.encoder import Precision
from retrieval.recipe import Recipe, read_recipe

TEXTS = [
    "Dogs may stay in the garden rooms for 15 euros a night.",
    "Breakfast is served from 7 to 10 am in the winter garden.",
    "The pool is open from May to September.",
    "A taxi to the airport takes twenty minutes; the desk calls one for you at any hour of the day or of the night.",
    "Wi-Fi is free of charge.",
    "CAFÉ Zoë: naïve façade, 12.50 €, 北京的冬天.",
    "Guests who arrive late find their key in the box beside the door, and the code of the box in their confirmation. "
    * 4,
    "",
]
QUESTIONS = ["Can I bring my dog?", "When can I eat in the morning?", "Is there internet?", "May we swim in June?"]
LONG = "The lift goes to the fifth floor. " * 500


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the converted model."""
    folder = tmp_path_factory.mktemp("embedders")
    _open(folder)
    return folder


@pytest.fixture
def fast(cache: Path) -> OpenVinoEmbedder:
    return _open(cache)


@pytest.fixture(scope="module")
def reference() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(find_embedder(Settings()), "reference")


def _open(cache_dir: Path) -> OpenVinoEmbedder:
    embedder = open_embedder(find_embedder(Settings()), "minilm", cache_dir)
    assert isinstance(embedder, OpenVinoEmbedder)
    return embedder


def _copy_model(folder: Path) -> Path:
    return Path(shutil.copytree(find_embedder(Settings()), folder / "model"))


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_it_ranks_as_sentence_transformers_does(fast: OpenVinoEmbedder, reference: SentenceTransformerEmbedder) -> None:
    def rank(embedder: Embedder) -> list[list[int]]:
        scores = embedder.embed(QUESTIONS) @ embedder.embed(TEXTS).T
        return [list(map(int, row)) for row in np.argsort(-scores, axis=1)]

    assert rank(fast) == rank(reference)
    assert [row[0] for row in rank(fast)] == [0, 1, 4, 2]


def test_every_vector_is_the_one_of_sentence_transformers_up_to_rounding(
    fast: OpenVinoEmbedder, reference: SentenceTransformerEmbedder
) -> None:
    texts = [*TEXTS, *QUESTIONS, LONG]
    cosines = (fast.embed(texts) * reference.embed(texts)).sum(axis=1)
    assert cosines.min() > 0.9995


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_each_precision_has_its_name_and_its_accuracy(
    precision: Precision, cache: Path, reference: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    if precision == "bf16" and encoder.find_precision() != "bf16":
        pytest.skip("this CPU does not compute in bf16")
    monkeypatch.setattr("retrieval.embedder.find_precision", lambda: precision)
    embedder = _open(cache)
    assert embedder.name == f"minilm/{precision}"
    difference = np.abs(embedder.embed(TEXTS) - reference.embed(TEXTS)).max()
    assert difference < 1e-5 if precision == "f32" else 1e-5 < difference < 0.01


def test_vectors_are_float32_and_of_unit_length(fast: OpenVinoEmbedder) -> None:
    vectors = fast.embed([*TEXTS, LONG])
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(TEXTS) + 1, 384))
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-3


def test_a_text_has_the_same_vector_whatever_is_embedded_with_it_in_any_order(fast: OpenVinoEmbedder) -> None:
    alone = np.concatenate([fast.embed([text]) for text in TEXTS])
    assert len(np.unique(alone.round(3), axis=0)) == len(TEXTS)
    many = [*TEXTS, *(f"{text} {number}" for number in range(30) for text in TEXTS)]
    assert sum(fast.count_tokens(many)) > 4 * BATCH_TOKENS
    assert (fast.embed(many)[: len(TEXTS)] == alone).all()
    assert (fast.embed(many[::-1])[::-1][: len(TEXTS)] == alone).all()


def test_nothing_gives_no_vectors(fast: OpenVinoEmbedder) -> None:
    assert fast.embed([]).shape == (0, 384)
    assert fast.count_tokens([]) == []


def test_tokens_are_counted_whole_and_read_up_to_the_window(
    fast: OpenVinoEmbedder, reference: SentenceTransformerEmbedder
) -> None:
    texts = [*TEXTS, LONG]
    assert fast.count_tokens(texts) == reference.count_tokens(texts)
    assert fast.count_tokens([LONG])[0] > 4000
    assert fast.max_tokens == reference.max_tokens == 256
    vectors = fast.embed([LONG, LONG + "Another ending.", "Another beginning. " + LONG])
    assert (vectors[0] == vectors[1]).all()
    assert not (vectors[0] == vectors[2]).all()


def test_counting_tokens_loads_neither_openvino_nor_torch(cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from retrieval.embedder import open_embedder;"
        f"embedder = open_embedder(Path({str(find_embedder(Settings()))!r}), 'minilm', Path({str(cache)!r}));"
        "assert embedder.count_tokens(['Is there internet?']) == [6];"
        "print([name for name in ('openvino', 'torch', 'transformers') if name in sys.modules]);"
        "embedder.name; print('openvino' in sys.modules, 'torch' in sys.modules);"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", "True False", "[]"], done.stderr


def test_threads_get_their_own_vectors(cache: Path) -> None:
    fast = _open(cache)  # not compiled yet: the threads race for that too
    jobs = [[f"{text} {number}" for text in TEXTS] for number in range(8)]
    results: dict[tuple[int, int], Vectors] = {}
    start = threading.Barrier(len(jobs))

    def work(number: int) -> None:
        for again in range(4):
            start.wait(timeout=60)
            results[number, again] = fast.embed(jobs[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = [fast.embed(job) for job in jobs]
    assert len(results) == 4 * len(jobs)
    assert all((vectors == alone[number]).all() for (number, _), vectors in results.items())


def _cut_weights(folder: Path) -> None:
    path = folder / "encoder.bin"
    path.write_bytes(path.read_bytes()[:-1000])


def _flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "encoder.bin").read_bytes())
    content[50_000] ^= 1
    (folder / "encoder.bin").write_bytes(bytes(content))


def _lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _mistake_the_manifest(folder: Path) -> None:
    _change(folder / "manifest.json", openvino="1.0")


def _garble_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": [')


@pytest.mark.parametrize(
    "damage", [_cut_weights, _flip_a_bit, _lose_the_manifest, _mistake_the_manifest, _garble_the_manifest]
)
def test_a_damaged_cache_is_made_again(
    damage: Callable[[Path], None], cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = Path(shutil.copytree(cache, tmp_path / "cache"))
    (folder,) = copied.iterdir()
    damage(folder)
    embedder = _open(copied)
    assert "made again" in caplog.text
    assert (embedder.embed(TEXTS) == _open(cache).embed(TEXTS)).all()
    assert [path.name for path in copied.iterdir()] == [folder.name]
    caplog.clear()
    _open(copied)
    assert "made again" not in caplog.text


def test_a_cache_that_is_whole_is_not_converted_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_trace", lambda _: pytest.fail("converted again"))
    assert len(_open(cache).embed(TEXTS)) == len(TEXTS)


def test_another_model_is_not_served_from_the_cache_of_the_first(cache: Path, tmp_path: Path) -> None:
    model_dir = _copy_model(tmp_path)
    _change(model_dir / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    copied = Path(shutil.copytree(cache, tmp_path / "cache"))
    by_cls = open_embedder(model_dir, "cls", copied)
    assert isinstance(by_cls, OpenVinoEmbedder)
    wanted = SentenceTransformerEmbedder(model_dir, "cls").embed(TEXTS)
    assert (by_cls.embed(TEXTS) * wanted).sum(axis=1).min() > 0.999
    assert (by_cls.embed(TEXTS) * _open(cache).embed(TEXTS)).sum(axis=1).max() < 0.99
    assert len(list(copied.iterdir())) == 2


def _pool_by_max(model_dir: Path) -> None:
    _change(model_dir / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True)


def _ask_for_a_prompt(model_dir: Path) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    _change(model_dir / "config_sentence_transformers.json", **prompts)


def _lose_the_fast_tokenizer(model_dir: Path) -> None:
    (model_dir / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_pool_by_max, "pooling_mode_max_tokens"),
        (_ask_for_a_prompt, "prompt 'query'"),
        (_lose_the_fast_tokenizer, "no tokenizer.json"),
    ],
)
def test_a_model_it_does_not_know_runs_as_it_is_and_says_why(
    change: Callable[[Path], None], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model_dir = _copy_model(tmp_path)
    change(model_dir)
    with caplog.at_level(logging.WARNING):
        embedder = open_embedder(model_dir, "other", tmp_path / "cache")
    assert isinstance(embedder, SentenceTransformerEmbedder)
    assert embedder.name == "other"
    assert reason in caplog.text
    assert embedder.embed(["Is there internet?"]).shape == (1, 384)
    assert not (tmp_path / "cache").exists()


def test_a_graph_that_disagrees_with_sentence_transformers_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = read_recipe(find_embedder(Settings()))
    monkeypatch.setattr(
        "retrieval.embedder.read_recipe",
        lambda _: Recipe(wrong.encoder_dir, "cls", wrong.dim, wrong.max_tokens, wrong.pad_id),
    )
    embedder = open_embedder(find_embedder(Settings()), "minilm", tmp_path)
    assert isinstance(embedder, SentenceTransformerEmbedder)
    assert "agrees with sentence-transformers only to a cosine of" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    embedder = open_embedder(find_embedder(Settings()), "minilm", tmp_path / "file")
    assert isinstance(embedder, SentenceTransformerEmbedder)
    assert "cannot be kept" in caplog.text
