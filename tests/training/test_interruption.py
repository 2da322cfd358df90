"""An interrupted training ends its step, and the next one goes on behind it; steps of so many rows."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bakeoff.records import Example
from training.curve import CurvePoint
from training.interruption import Interruption
from training.loop import make_steps
from training.recipe import Recipe
from training.rows import FindPassages
from training.train import train


def test_the_second_interrupt_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        assert not interruption.is_asked
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.is_asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_steps_of_so_many_rows_hold_every_row_once(recipe: Recipe) -> None:
    lengths = [20, 200, 30, 400, 25, 50, 60, 70, 80, 90, 100]
    steps = make_steps(lengths, msgspec.structs.replace(recipe, batch_rows=4, batch_tokens=256), seed=1)
    rows = [[position for batch in step for position in batch] for step in steps]
    assert sorted(len(step) for step in rows) == [3, 4, 4]
    assert sorted(position for step in rows for position in step) == list(range(len(lengths)))
    for batch in (batch for step in steps for batch in step):
        assert len(batch) == 1 or len(batch) * max(lengths[position] for position in batch) <= 256
    assert steps != make_steps(lengths, msgspec.structs.replace(recipe, batch_rows=4, batch_tokens=256), seed=2)


def test_an_interrupted_training_goes_on_behind_its_last_step(
    model_dir: Path, examples: list[Example], find_passages: FindPassages, recipe: Recipe, tmp_path: Path
) -> None:
    seen: list[int] = []
    points: list[CurvePoint] = []

    def run(progress: Callable[[int, int, str], None]) -> Any:
        return train(
            base_dir=model_dir,
            base_digest="base",
            domain="hotels",
            train_examples=examples[4:],
            validation_examples=examples[:4],
            find_passages=find_passages,
            recipe=msgspec.structs.replace(recipe, token_budget=1600),
            seed=0,
            adapters_dir=tmp_path / "adapters",
            work_dir=tmp_path / "work",
            progress=progress,
            watch=points.append,
        )

    def interrupt(step: int, _num_steps: int, _note: str) -> None:
        seen.append(step)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    assert seen == [1, 2]
    result = run(lambda step, *_: seen.append(step))
    assert seen == list(range(1, result.step + 1))
    assert [point.step for point in points][-1] == result.step
