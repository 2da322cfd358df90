"""What training refuses, what it goes on with after a crash, and the command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from bakeoff.adapters import list_adapters
from bakeoff.artefacts import digest_of, read_manifest
from bakeoff.cli.preferences import preferences_command
from bakeoff.database import open_database, writing
from bakeoff.domains import ensure_domain, find_domain
from bakeoff.errors import BadInput, Mismatch, NotFound
from training.preferences.judgements import Preferences, Ranking, Thumb
from training.preferences.recipe import PreferenceRecipe
from training.preferences.train import PreferenceResult

MakeRecipe = Callable[..., PreferenceRecipe]
Train = Callable[..., PreferenceResult]
TINY: dict[str, object] = {"batch_size": 4, "lora_layers": 1, "num_epochs": 1, "held_out_share": 0.0}


class Crash(Exception):
    """What a power cut looks like to the code."""


def thumbs_of(votes: tuple[Ranking, ...], *, ups: bool = True, downs: bool = False) -> Preferences:
    both = [(vote, 0, True) for vote in votes if ups] + [(vote, 1, False) for vote in votes if downs]
    return Preferences(
        (), tuple(Thumb(f"{vote.id}-{up}", vote.context, vote.levels[place][0], up) for vote, place, up in both)
    )


def test_judgements_that_do_not_fit_the_method_are_refused(
    votes: tuple[Ranking, ...], train_on: Train, quick_recipe: MakeRecipe
) -> None:
    with pytest.raises(BadInput, match=r"only thumbs; learn from these with: --method kto"):
        train_on(thumbs_of(votes), quick_recipe("dpo"), "dpo")
    with pytest.raises(BadInput, match="needs thumbs up and thumbs down"):
        train_on(thumbs_of(votes), quick_recipe("kto"), "kto")
    with pytest.raises(BadInput, match="has only 3 pairs to learn from"):
        train_on(Preferences(votes[:5], ()), quick_recipe("dpo", held_out_share=0.4), "dpo")
    with pytest.raises(BadInput, match="no judgement fits into max_row_tokens = 20"):
        train_on(Preferences(votes, ()), quick_recipe("dpo", max_row_tokens=20), "dpo")
    with pytest.raises(
        BadInput, match=r"needs something that pays it; train a reward model with: .* short, one-sentence"
    ):
        train_on(Preferences(votes, ()), quick_recipe("ppo"), "ppo")
    with pytest.raises(BadInput, match="dpo is not paid by anything"):
        train_on(Preferences(votes, ()), quick_recipe("dpo"), "dpo", reward="short")
    with pytest.raises(NotFound, match="reward-model 0123456789abcdef does not exist"):
        train_on(Preferences(votes, ()), quick_recipe("ppo"), "ppo", reward="0123456789abcdef")
    with pytest.raises(Mismatch, match=r"lora_targets = \('query',\) does not fit .* q_proj"):
        train_on(Preferences(votes, ()), quick_recipe("dpo", lora_targets=("query",)), "dpo")


def test_an_adapter_of_another_base_model_is_refused(
    votes: tuple[Ranking, ...], train_on: Train, quick_recipe: MakeRecipe, tmp_path: Path
) -> None:
    manifest = {"format": 1, "kind": "adapter", "base_sha256": "other", "base_model": "other-model", "files": {}}
    folder = tmp_path / digest_of(manifest)
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(Mismatch, match="the adapter named here was trained on other-model"):
        train_on(Preferences(votes, ()), quick_recipe("dpo"), "dpo", start_dir=folder)


@pytest.mark.parametrize("method", ["dpo", "ppo"])
def test_a_training_goes_on_after_a_crash_and_ends_where_it_would_have_ended(
    method: str, votes: tuple[Ranking, ...], train_on: Train, quick_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints after every step here; the third step is lost with the process.

    The whole one computes its batches at once, the other row by row: that makes no difference either.
    """
    options: dict[str, Any] = {"reward": "short"} if method == "ppo" else {}
    recipe = quick_recipe(
        method, **{**TINY, "num_steps": 4, "max_completion_tokens": 4, "dtype": "float32", "batch_size": 2}
    )
    said = Preferences(votes[:8], ())
    whole = train_on(said, recipe, method, **options)
    assert train_on(said, recipe, method, **options).resumed
    recipe = msgspec.structs.replace(recipe, tokens_at_once=1)
    module = "training.preferences.ppo" if method == "ppo" else "training.preferences.trl_seam"
    monkeypatch.setattr(f"{module}.CHECKPOINT_EVERY_S", 0.0)
    steps: list[int] = []

    def crash(done: int, _total: int, _note: str) -> None:
        steps.append(done)
        if done == 3 and steps.count(3) == 1:
            raise Crash

    with pytest.raises(Crash):
        train_on(said, recipe, method, progress=crash, **options)
    again = train_on(said, recipe, method, progress=crash, **options)
    assert steps[:3] == [1, 2, 3]
    assert steps[3] > 1
    assert steps[-1] == 4
    curves = [read_manifest(result.path, result.kind)["curve"] for result in (whole, again)]
    assert [step for step, _ in curves[1]] == [1, 2, 3, 4]
    assert curves[1][-1][1]["loss"] == pytest.approx(curves[0][-1][1]["loss"], abs=1e-3)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAKEOFF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def domain(home: Path) -> Engine:
    engine = open_database(f"sqlite:///{home / 'bakeoff.db'}", home)
    with writing(engine) as connection:
        ensure_domain(connection, "hotels")
    return engine


def write_votes(path: Path, votes: tuple[Ranking, ...]) -> Path:
    lines = [
        {"id": vote.id, "question": vote.context.question, "chosen": vote.levels[0][0], "rejected": vote.levels[1][0]}
        for vote in votes
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def test_the_command_registers_the_adapter_and_promotes_nothing(
    domain: Engine, home: Path, tmp_path: Path, votes: tuple[Ranking, ...]
) -> None:
    recipe = tmp_path / "tiny.toml"
    knobs = "num_epochs = 1\nlora_layers = 1\nlora_targets = ['q_proj']\nheld_out_share = 0.1\nlearning_rate = 0.01\n"
    recipe.write_text(knobs, encoding="utf-8")
    file = write_votes(tmp_path / "votes.jsonl", votes[:12])
    arguments = [str(file), "--domain", "hotels", "--method", "orpo", "--recipe", str(recipe), "--json"]
    done = CliRunner().invoke(preferences_command, arguments, catch_exceptions=False)
    result = json.loads(done.stdout)
    assert done.exit_code == 0
    with domain.connect() as connection:
        (adapter,) = list_adapters(connection, home, "hotels")
        assert find_domain(connection, "hotels").adapter is None
    assert (adapter.digest, adapter.promoted) == (result["digest"], False)
    assert read_manifest(adapter.path, "adapter")["started_from"] == "base"
    assert [path.name for path in (home / "training" / "preferences").rglob("*") if path.is_file()] == ["finished.json"]
    words = CliRunner().invoke(preferences_command, arguments[:-1], catch_exceptions=False)
    assert f"adapter {adapter.digest}" in words.stdout
    assert "chosen answer raised more than the rejected one: after" in words.stdout
    assert "It serves nobody yet" in words.stderr


def test_the_command_names_an_adapter_and_a_reward_model_that_do_not_exist(
    domain: Engine, tmp_path: Path, votes: tuple[Ranking, ...]
) -> None:
    file = write_votes(tmp_path / "votes.jsonl", votes)

    def run(*options: str) -> None:
        CliRunner().invoke(preferences_command, [str(file), "--domain", "hotels", *options], catch_exceptions=False)

    with pytest.raises(NotFound, match="0 adapters of domain 'hotels' begin with '12345678'"):
        run("--from", "12345678")
    with pytest.raises(NotFound, match=r"0 reward models begin with '12345678' .*--method reward"):
        run("--method", "ppo", "--reward-model", "12345678")
    with pytest.raises(BadInput, match="not with both"):
        run("--method", "ppo", "--reward-model", "12345678", "--reward", "short")
    with pytest.raises(BadInput, match="reward 'shrt' does not exist"):
        run("--method", "ppo", "--reward", "shrt")
