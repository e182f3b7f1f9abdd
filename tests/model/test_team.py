"""Two processes train one network as one process with the doubled batch does (DDP on the CPU, gloo)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig, TrainingConfig
from tissuemodel.course import Reports
from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.state import load_state
from tissuemodel.team import Shares
from tissuemodel.training import Trained, prepare, steps_per_epoch, train_network
from tissuemodel.training_log import Row
from training_examples import drawn

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("T", "NK"),
    colors={},
    pixel_size_um=0.5,
    network=NetworkConfig((6, 8, 10)),
    targets=TargetConfig((4.0, 4.0)),
    training=TrainingConfig(learning_rate=5e-3, batch_size=4, crop_px=48, steps=40, seed=1),
    inference=InferenceConfig(min_distance_um=(2.5, 2.5), thresholds=(0.5, 0.5)),
)
TRAIN = [drawn(seed) for seed in range(3)]


def train(reports: Reports | None = None, **training: object) -> tuple[Trained, list[float]]:
    config = replace(CONFIG, training=replace(CONFIG.training, **training))  # type: ignore[arg-type]
    losses: list[float] = []

    def progress(done: int, steps: int, row: Row) -> None:
        losses.append(float(row["loss"] or 0.0))
        if reports:
            reports.progress(done, steps, row)

    told = replace(reports or Reports(), progress=progress)
    return train_network(TRAIN, prepare(config, TRAIN), told), losses


def test_the_shares_of_a_step_are_the_batch_of_one_process() -> None:
    whole = list(Shares(3, batch_size=4))
    halves = [list(Shares(3, batch_size=2, rank=rank, size=2)) for rank in range(2)]

    assert [first + second for first, second in zip(*halves, strict=True)] == whole


def test_an_epoch_has_as_many_steps_as_one_process_with_the_whole_batch() -> None:
    plan = TrainingConfig(crop_px=48)

    assert steps_per_epoch(TRAIN, replace(plan, batch_size=2, devices=2)) == steps_per_epoch(TRAIN, plan)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one_with_the_doubled_batch() -> None:
    alone, one = train(batch_size=8, steps=30, learning_rate=2e-3)
    together, two = train(batch_size=4, steps=30, learning_rate=2e-3, devices=2)

    assert together.config.training.steps == alone.config.training.steps == 30
    assert two[0] == pytest.approx(one[0], abs=0.02)  # the same weights see the same crops
    # On a CPU each process normalises by its own half of the batch (batch norm), so that later they differ a little.
    smooth = np.ones(5) / 5
    curves = [np.convolve(losses, smooth, "valid") for losses in (one, two)]
    fallen = curves[0][0] - curves[0][-1]
    assert fallen > 0.3
    assert np.abs(curves[0] - curves[1]).max() < 0.15 * fallen


@pytest.mark.slow
def test_a_team_of_two_is_resumed_exactly(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, _steps: int, _row: Row) -> None:
        if done == 5:
            raise Killed

    straight, _ = train(batch_size=2, devices=2, steps=8)
    with pytest.raises(Killed):
        train(Reports(kill, state=tmp_path / "state", save_every_s=0.0), batch_size=2, devices=2, steps=8)
    assert load_state(tmp_path / "state").about["step"] == 4

    resumed, _ = train(Reports(state=tmp_path / "state"), batch_size=2, devices=2, steps=8)

    for key, value in straight.network.state_dict().items():
        np.testing.assert_array_equal(resumed.network.state_dict()[key].numpy(), value.numpy(), err_msg=key)


@pytest.mark.slow
def test_a_batch_in_which_one_process_has_no_label_of_a_task_stops_nobody() -> None:
    blank = replace(TRAIN[0], regions=np.full_like(TRAIN[0].regions, IGNORE_LABEL))
    examples = [blank, TRAIN[1]]
    config = replace(CONFIG, training=replace(CONFIG.training, batch_size=1, devices=2, steps=12))

    trained = train_network(examples, prepare(config, examples))

    assert trained.config.training.steps == 12
    assert all(bool(value.isfinite().all()) for value in trained.network.state_dict().values())
