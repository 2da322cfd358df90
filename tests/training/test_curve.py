"""What is said of a training that ended well, or did not."""

from pathlib import Path

from training.curve import CurvePoint, Gap, Log, describe_training

FALLING = [CurvePoint(10, 2.0, 1.5), CurvePoint(20, 1.2, 1.1)]
TURNED = [CurvePoint(10, 2.0, 1.1), CurvePoint(20, 0.4, 1.5)]


def test_a_good_training_is_reported_without_advice() -> None:
    report = describe_training(FALLING, [Gap("closed-book", 1.0, 1.2, 30, 30)], 20, 20)
    assert report == "closed-book: 1.00 nats on rows learned, 1.20 on rows held out."


def test_a_wide_gap_and_a_loss_that_turned_name_the_knobs() -> None:
    report = describe_training(TURNED, [Gap("passages", 0.1, 0.9, 8, 8)], 20, 20)
    assert "had turned before the end: lower max_epochs or token_budget, or set patience" in report
    assert "A wide gap: it learns by heart" in report


def test_an_early_stop_names_the_step_that_was_kept() -> None:
    report = describe_training(TURNED, [], 10, 40)
    assert "Stopped early: the validation loss was lowest at step 10 of 40." in report
    assert "had turned before the end" not in report


def test_a_resumed_log_replaces_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Log(tmp_path)
    for step in (1, 2, 3):
        first.step(step, float(step), 1e-3, 1.0, 100.0)
    first.point(CurvePoint(3, 2.0, 1.0))
    again = Log(tmp_path, 2)
    again.step(3, 30.0, 1e-3, 1.0, 100.0)
    again.point(CurvePoint(3, 2.0, 1.0))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
