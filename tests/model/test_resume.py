"""A training goes on exactly where it stopped, tells how it stands, and stops when it is asked to."""

import csv
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig, TrainingConfig
from tissuemodel.course import Length, Log, Reports
from tissuemodel.labels import Example
from tissuemodel.resume import ResumeError, digest_of
from tissuemodel.saved_model import CheckpointError
from tissuemodel.state import load_state
from tissuemodel.training import Trained, prepare, train_network
from tissuemodel.training_log import Row, TrainingLog
from training_examples import drawn

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("T", "NK"),
    colors={},
    pixel_size_um=0.5,
    network=NetworkConfig((4, 6, 8)),
    targets=TargetConfig((4.0, 4.0)),
    training=TrainingConfig(
        learning_rate=1e-2, batch_size=2, crop_px=32, epochs=1, seed=1, weight_average=0.9
    ),
    inference=InferenceConfig(min_distance_um=(2.5, 2.5), thresholds=(0.5, 0.5)),
)
TRAIN, HELD_OUT = [drawn(seed, 64) for seed in range(2)], [drawn(9, 64)]
STEPS = 8  # a pass has 4


class Killed(Exception):
    pass


def train(
    state: Path | None = None,
    *,
    kill_after: int | None = None,
    log: Path | None = None,
    validation: Sequence[Example] = (),
    config: ModelConfig = CONFIG,
    **training: object,
) -> Trained:
    config = replace(config, training=replace(config.training, **training))  # type: ignore[arg-type]

    def progress(done: int, _steps: int, _row: Row) -> None:
        if done == kill_after:
            raise Killed

    def open_logs(after: int | None) -> Sequence[Log]:
        return [TrainingLog(log, append_after=after)] if log else []

    reports = Reports(progress, open_logs, state, save_every_s=0.0)
    return train_network(TRAIN, prepare(config, TRAIN), reports, validation)


def weights(trained: Trained) -> bytes:
    return b"".join(value.numpy().tobytes() for value in trained.network.state_dict().values())


def interrupted(state: Path, after: int, **options: object) -> None:
    """A training that dies in its step after `after`: the last state on the disk is that of `after`."""
    with pytest.raises(Killed):
        train(state, kill_after=after + 1, **options)  # type: ignore[arg-type]
    assert load_state(state).about["step"] == after


# ---- Going on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 4, 7])
def test_an_interrupted_and_a_straight_training_give_the_same_weights(tmp_path: Path, after: int) -> None:
    straight = train(epochs=2)
    interrupted(tmp_path / "state", after, epochs=2)

    resumed = train(tmp_path / "state", epochs=2)

    assert (resumed.resumed_from, resumed.config.training.steps) == (after, STEPS)
    assert weights(resumed) == weights(straight)


def test_it_may_be_interrupted_again_and_again(tmp_path: Path) -> None:
    straight = train(epochs=2)
    for after in (1, 2, 5):
        interrupted(tmp_path / "state", after, epochs=2)

    assert weights(train(tmp_path / "state", epochs=2)) == weights(straight)


def test_early_stop_remembers_its_best_weights_over_an_interruption(tmp_path: Path) -> None:
    plan = {"epochs": 8, "early_stop": 1, "learning_rate": 0.3, "validation": HELD_OUT}
    straight = train(**plan)  # type: ignore[arg-type]
    interrupted(tmp_path / "state", 5, **plan)

    resumed = train(tmp_path / "state", **plan)  # type: ignore[arg-type]

    assert resumed.config.training.steps == straight.config.training.steps
    assert resumed.validation_loss == straight.validation_loss
    assert weights(resumed) == weights(straight)


def test_a_training_by_the_clock_has_only_the_time_left_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tissuemodel.course.time.monotonic", lambda: now)
    length = Length(None, seconds=60.0, done=7, spent=45.0)

    parts = [length.part_done(0)]
    for later in (106.0, 115.0):
        now = later
        parts.append(length.part_done(1))

    assert parts == pytest.approx([0.75, 0.85, 1.0])
    assert (length.left, length.elapsed()) == (-1, 60.0)


def test_a_training_that_died_after_its_last_step_keeps_its_weights(tmp_path: Path) -> None:
    straight = train(tmp_path / "state", epochs=2)

    again = train(tmp_path / "state", epochs=2)

    assert again.resumed_from == again.config.training.steps == STEPS
    assert not again.is_interrupted
    assert weights(again) == weights(straight)


def test_other_settings_or_other_images_are_another_training(tmp_path: Path) -> None:
    interrupted(tmp_path / "state", 2, epochs=2)
    before = (tmp_path / "state").read_bytes()

    with pytest.raises(ResumeError, match="other settings"):
        train(tmp_path / "state", epochs=2, learning_rate=2e-2)
    with pytest.raises(ResumeError, match="other images or annotations"):
        train(tmp_path / "state", epochs=2, validation=HELD_OUT)

    assert (tmp_path / "state").read_bytes() == before


def test_a_damaged_state_is_refused_not_trained_over(tmp_path: Path) -> None:
    interrupted(tmp_path / "state", 2, epochs=2)
    content = bytearray((tmp_path / "state").read_bytes())
    content[-5] ^= 1
    (tmp_path / "state").write_bytes(content)

    with pytest.raises(CheckpointError, match="damaged"):
        train(tmp_path / "state", epochs=2)


@pytest.mark.parametrize("field", ["image", "regions", "points", "point_classes", "complete", "ignored"])
def test_the_digest_of_the_examples_sees_every_change(field: str) -> None:
    example = drawn(0, 64)
    array = getattr(example, field).copy()
    array[0] = array[0] + 1 if array.dtype != bool else ~array[0]

    assert digest_of([replace(example, **{field: array})]) != digest_of([example])
    assert digest_of([drawn(0, 64)]) == digest_of([example])


# ---- Stopping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_training_after_its_step_with_usable_weights(
    tmp_path: Path, kind: signal.Signals
) -> None:
    before = signal.getsignal(kind)
    straight = train(epochs=2)

    def interrupt(done: int, _steps: int, _row: Row) -> None:
        if done == 2:
            os.kill(os.getpid(), kind)

    config = replace(CONFIG, training=replace(CONFIG.training, epochs=2))
    stopped = train_network(TRAIN, prepare(config, TRAIN), Reports(interrupt, state=tmp_path / "state"))

    assert stopped.is_interrupted
    assert stopped.config.training.steps in (2, 3)  # the signal may come after the step has ended
    assert all(bool(value.isfinite().all()) for value in stopped.network.state_dict().values())
    assert signal.getsignal(kind) is before
    assert weights(train(tmp_path / "state", epochs=2)) == weights(straight)


def twice(_done: int, _steps: int, _row: Row) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_later_ctrl_c_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tissuemodel.course.SAME_WISH_S", 0.0)

    with pytest.raises(KeyboardInterrupt):
        train_network(TRAIN, prepare(CONFIG, TRAIN), Reports(twice))


def test_one_ctrl_c_that_comes_twice_at_once_is_one() -> None:
    stopped = train_network(TRAIN, prepare(CONFIG, TRAIN), Reports(twice))

    assert stopped.is_interrupted


def test_early_stop_ends_when_the_validation_loss_has_not_fallen_and_keeps_the_best() -> None:
    losses: list[float] = []

    class Kept:
        def write(self, row: Row) -> None:
            if row.get("validation_loss") is not None:
                losses.append(float(row["validation_loss"] or 0.0))

        def close(self) -> None:
            pass

    config = replace(CONFIG, training=replace(CONFIG.training, epochs=30, early_stop=2, learning_rate=0.3))
    trained = train_network(TRAIN, prepare(config, TRAIN), Reports(open_logs=lambda _: [Kept()]), HELD_OUT)

    best = losses.index(min(losses))
    assert trained.validation_loss == min(losses)
    assert len(losses) == best + 3 or len(losses) == 30
    assert trained.config.training.steps == 4 * len(losses)
    assert not trained.is_interrupted


def test_early_stop_without_validation_images_is_refused() -> None:
    with pytest.raises(ValueError, match="no validation images"):
        train(early_stop=3)


# ---- Telling -------------------------------------------------------------------------------------------


def test_the_log_has_losses_sigmas_and_rate_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    log = tmp_path / "training.csv"
    interrupted(tmp_path / "state", 5, epochs=6, log=log, validation=HELD_OUT)
    train(tmp_path / "state", epochs=6, log=log, validation=HELD_OUT)

    rows = list(csv.DictReader(log.read_text().splitlines()))

    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == 24
    assert {4, 8, 10, 12, 16, 20} <= set(steps)  # every tenth, and every pass
    assert all(float(row["sigma_regression"]) > 0 and float(row["sigma_segmentation"]) > 0 for row in rows)
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert all(row["validation_loss"] for row in rows if int(row["step"]) % 4 == 0)
    assert not any(row["validation_loss"] for row in rows if int(row["step"]) % 4)


def test_a_log_row_is_the_mean_of_the_steps_since_the_last_one(tmp_path: Path) -> None:
    told: list[float] = []
    log = tmp_path / "training.csv"
    config = replace(CONFIG, training=replace(CONFIG.training, epochs=5))
    reports = Reports(lambda _d, _n, row: told.append(float(row["loss"] or 0)), lambda _: [TrainingLog(log)])

    train_network(TRAIN, prepare(config, TRAIN), reports)

    rows = list(csv.DictReader(log.read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [10, 20]
    assert float(rows[0]["loss"]) == pytest.approx(sum(told[:10]) / 10)
    assert float(rows[1]["loss"]) == pytest.approx(sum(told[10:]) / 10)


# ---- What is kept --------------------------------------------------------------------------------------


def test_the_average_of_the_weights_is_kept_where_it_is_wanted() -> None:
    last, averaged = train(epochs=3, weight_average=None), train(epochs=3)

    assert weights(last) != weights(averaged)
    assert all(bool(value.isfinite().all()) for value in averaged.network.state_dict().values())


def test_the_average_follows_its_recursion() -> None:
    seen: list[torch.Tensor] = []
    from tissuemodel.course import Course

    original = Course.on_train_batch_end

    def spy(self: Course, trainer: object, module: object, *rest: object) -> None:
        seen.append(next(module.network.parameters()).detach().clone())  # type: ignore[attr-defined]
        original(self, trainer, module, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Course, "on_train_batch_end", spy)
        trained = train(epochs=1)

    expected = seen[0]
    for count, present in enumerate(seen[1:], start=1):
        decay = min(0.9, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * present
    torch.testing.assert_close(next(trained.network.parameters()).detach(), expected)
