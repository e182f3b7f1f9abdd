"""A small network learns drawn tissue, and only what its labels say; the same seed gives the same weights."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tissuemodel.calibration import cells_in, heat_of
from tissuemodel.checkpoint import build_network
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig, TrainingConfig
from tissuemodel.course import Length, Reports
from tissuemodel.dataset import Batch, CropDataset, collate
from tissuemodel.inference import Inference
from tissuemodel.labels import IGNORE_LABEL, Example
from tissuemodel.losses import LOG_VARIANCE_LIMIT
from tissuemodel.network import MultitaskUNet
from tissuemodel.objective import MultitaskTraining
from tissuemodel.training import PRESETS, prepare, steps_per_epoch, train_network
from tissuemodel.training_log import Row
from training_examples import drawn

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("T", "NK"),
    colors={},
    pixel_size_um=0.5,
    network=NetworkConfig((8, 12, 16)),
    targets=TargetConfig((4.0, 4.0)),
    training=TrainingConfig(learning_rate=1e-2, batch_size=4, crop_px=48, steps=120, seed=1),
    inference=InferenceConfig(min_distance_um=(2.5, 2.5), thresholds=(0.5, 0.5), floor=0.4),
)
TRAIN, TEST = [drawn(seed) for seed in range(3)], drawn(99)


def train(
    examples: Sequence[Example], config: ModelConfig = CONFIG, **training: float
) -> tuple[MultitaskUNet, ModelConfig, list[float]]:
    config = replace(config, training=replace(config.training, **training))  # type: ignore[arg-type]
    losses: list[float] = []
    reports = Reports(progress=lambda _done, _steps, row: losses.append(float(row["loss"] or 0.0)))
    trained = train_network(examples, prepare(config, examples), reports)
    return trained.network, trained.config, losses


def region_accuracy(network: MultitaskUNet, config: ModelConfig, example: Example) -> float:
    regions, _ = Inference(network, config)(example.image[None])
    return float((regions[0].argmax(axis=0) == example.regions).mean())


def cells_found(network: MultitaskUNet, config: ModelConfig, example: Example) -> tuple[int, int]:
    """How many cells have a peak of their class within 2 px, and how many peaks there are."""
    heat = heat_of(Inference(network, config), example.image)
    found = cells_in(heat, config.inference.min_distance_um, config)
    distance = np.linalg.norm(example.points[:, None] - found.xy[None], axis=2)
    distance[example.point_classes[:, None] != found.class_index[None]] = np.inf
    return int((distance.min(axis=1, initial=np.inf) < 2).sum()), len(found.xy)


@pytest.fixture(scope="module")
def learnt() -> tuple[MultitaskUNet, ModelConfig, list[float]]:
    return train(TRAIN)


def weights(network: MultitaskUNet) -> bytes:
    return b"".join(value.numpy().tobytes() for value in network.state_dict().values())


# ---- Learning ------------------------------------------------------------------------------------------


def test_the_losses_of_both_tasks_fall_at_every_scale(
    learnt: tuple[MultitaskUNet, ModelConfig, list[float]],
) -> None:
    network, config, losses = learnt
    untrained = build_network(config)
    batch = collate([CropDataset([TEST], config, 4)[i] for i in range(4)])

    with torch.no_grad():
        before = MultitaskTraining(untrained, config, Length(1).part_done).eval().losses(batch)
        after = MultitaskTraining(network, config, Length(1).part_done).eval().losses(batch)

    assert len(losses) == 120
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    for first, last in zip(before, after, strict=True):
        assert first.regression is not None
        assert last.regression is not None
        assert last.regression < first.regression / 3
        assert first.segmentation is not None
        assert last.segmentation is not None
        assert last.segmentation < first.segmentation / 3


def test_the_regions_of_an_unseen_image_are_learnt(
    learnt: tuple[MultitaskUNet, ModelConfig, list[float]],
) -> None:
    network, config, _ = learnt

    assert region_accuracy(network, config, TEST) > 0.9


def test_every_cell_of_an_unseen_image_is_found_and_named(
    learnt: tuple[MultitaskUNet, ModelConfig, list[float]],
) -> None:
    network, config, _ = learnt

    assert cells_found(network, config, TEST) == (len(TEST.points), len(TEST.points))


def test_shuffled_labels_teach_clearly_less() -> None:
    rng = np.random.default_rng(0)
    shuffled = [
        replace(
            example,
            regions=rng.permutation(example.regions.ravel()).reshape(example.regions.shape),
            points=rng.uniform(0, 96, example.points.shape).astype(np.float32),
        )
        for example in TRAIN
    ]

    network, config, _ = train(shuffled)

    assert region_accuracy(network, config, TEST) < 0.75
    assert cells_found(network, config, TEST)[0] < len(TEST.points) / 2


# ---- Repetition ----------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_whatever_the_callers_random_state() -> None:
    torch.manual_seed(1)
    first, _, _ = train(TRAIN, steps=5)
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    second, _, _ = train(TRAIN, steps=5)

    assert weights(first) == weights(second)
    assert torch.rand(1) == expected


def test_another_seed_gives_other_weights() -> None:
    assert weights(train(TRAIN, steps=2)[0]) != weights(train(TRAIN, steps=2, seed=2)[0])


def test_minutes_are_kept_and_their_steps_recorded() -> None:
    timed = replace(CONFIG, training=replace(CONFIG.training, steps=None))
    started = time.monotonic()

    _, config, losses = train(TRAIN, timed, minutes=1 / 20)

    assert 3 <= time.monotonic() - started < 12
    assert config.training.minutes == 1 / 20
    assert config.training.steps == len(losses) > 1


def test_the_learning_rate_follows_the_cosine_whether_steps_or_time_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("tissuemodel.course.time.monotonic", lambda: now)
    by_steps, by_time = Length(steps=8), Length(None, seconds=8.0)

    parts = [(by_steps.part_done(0), by_time.part_done(0))]
    for done in (2, 8, 9):
        now = 100.0 + done
        parts.append((by_steps.part_done(done), by_time.part_done(done)))

    assert parts == [(0, 0), (0.25, 0.25), (1, 1), (1, 1)]


def test_epochs_become_steps_by_the_area_of_the_examples() -> None:
    plan = TrainingConfig(crop_px=48, batch_size=4)

    # 96 x 96 px are 4 crops; 10 x 10 px are one all the same.
    assert steps_per_epoch([drawn(0)], plan) == 1
    assert steps_per_epoch([drawn(0), drawn(0, side=10)], plan) == 2
    assert steps_per_epoch(TRAIN, plan) == 3


def test_epochs_are_planned_and_recorded_when_no_steps_are_given() -> None:
    untimed = replace(CONFIG, training=replace(CONFIG.training, steps=None))

    _, config, losses = train(TRAIN, untimed, epochs=2)

    assert config.training.steps == len(losses) == 2 * 3


# ---- One task, one example, hardly a label -------------------------------------------------------------


def test_regions_alone_are_learnt() -> None:
    config = replace(CONFIG, cell_classes=(), targets=TargetConfig(), inference=InferenceConfig())
    examples = [
        replace(e, points=e.points[:0], point_classes=e.point_classes[:0], complete=e.complete * 0)
        for e in TRAIN
    ]

    network, config, _ = train(examples, config, steps=60)

    assert network.cells is None
    assert region_accuracy(network, config, TEST) > 0.9


def test_cells_alone_are_learnt() -> None:
    config = replace(CONFIG, region_classes=())
    examples = [replace(e, regions=np.full_like(e.regions, IGNORE_LABEL)) for e in TRAIN]

    network, config, _ = train(examples, config, steps=100)

    assert network.regions is None
    assert cells_found(network, config, TEST)[0] >= 0.9 * len(TEST.points)


@pytest.mark.parametrize("side", [20, 48, 96])
def test_one_example_of_any_size_is_enough_to_train(side: int) -> None:
    network, _, losses = train([drawn(0, side)], steps=3)

    assert len(losses) == 3
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())


def test_steps_that_see_no_label_at_all_are_survived() -> None:
    example = drawn(0)
    regions = np.full_like(example.regions, IGNORE_LABEL)
    regions[:4, :4] = 1
    sparse = replace(
        example,
        regions=regions,
        points=example.points[:0],
        point_classes=example.point_classes[:0],
        complete=example.complete * 0,
    )

    network, _, losses = train([sparse], steps=12, batch_size=1)

    assert 0.0 in losses
    assert len(set(losses)) > 2
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())


# ---- The steps' own rules ------------------------------------------------------------------------------


def test_a_task_without_a_label_in_the_batch_says_nothing() -> None:
    config = prepare(CONFIG, TRAIN)
    batch = collate([CropDataset(TRAIN, config, 2)[i] for i in range(2)])
    module = MultitaskTraining(MultitaskUNet(config.network, 2, 2), config, Length(1).part_done)

    both = module.losses(batch)
    no_regions = module.losses(batch._replace(labels=[0 * level + IGNORE_LABEL for level in batch.labels]))
    no_cells = module.losses(batch._replace(mask=[0 * level for level in batch.mask]))

    assert len(both) == 2
    assert all(one.regression is not None and one.segmentation is not None for one in both)
    assert all(one.regression is not None and one.segmentation is None for one in no_regions)
    assert all(one.regression is None and one.segmentation is not None for one in no_cells)


def test_log_variances_do_not_drift_beyond_their_limits() -> None:
    config = prepare(CONFIG, TRAIN)
    module = MultitaskTraining(MultitaskUNet(config.network, 2, 2), config, Length(1).part_done)
    batch = Batch(torch.zeros(1, 3, 8, 8), [], [], [], torch.zeros(1, 3), torch.ones(1, 3))
    with torch.no_grad():
        module.log_variances.copy_(torch.tensor([-9.0, 9.0]))

    module.on_train_batch_start(batch, 0)

    assert module.log_variances.tolist() == [-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT]


def test_the_optimiser_is_adam_on_a_cosine_down_to_zero() -> None:
    config = prepare(CONFIG, TRAIN)
    module = MultitaskTraining(MultitaskUNet(config.network, 2, 2), config, Length(120).part_done)

    planned = module.configure_optimizers()
    optimizer, schedule = planned["optimizer"], planned["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(121):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()

    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["betas"][0] == 0.9
    assert any(parameter is module.log_variances for parameter in optimizer.param_groups[0]["params"])
    expected = [1e-2 * (1 + math.cos(math.pi * step / 120)) / 2 for step in range(121)]
    np.testing.assert_allclose(rates, expected, atol=1e-9)


def test_the_training_set_settles_statistics_and_weights() -> None:
    config = prepare(CONFIG, TRAIN)

    pixels = np.concatenate([example.image.reshape(-1, 3) for example in TRAIN]).astype(float)
    tumor = sum(int((example.regions == 0).sum()) for example in TRAIN)
    ratio = tumor / (3 * 96 * 96 - tumor)
    np.testing.assert_allclose(config.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(config.std, pixels.std(axis=0))
    assert sum(config.loss.region_weights) == pytest.approx(2)
    assert config.loss.region_weights[1] / config.loss.region_weights[0] == pytest.approx(ratio)
    assert len(config.loss.cell_weights) == 2


def test_weights_that_are_given_are_kept() -> None:
    given = replace(CONFIG, loss=replace(CONFIG.loss, region_weights=(0.5, 1.5), cell_weights=(1.9, 0.1)))

    config = prepare(given, TRAIN)

    assert (config.loss.region_weights, config.loss.cell_weights) == ((0.5, 1.5), (1.9, 0.1))


def test_the_presets_are_the_papers_settings_and_a_smaller_one() -> None:
    network, plan = PRESETS["paper"]

    assert network.widths == (24, 48, 96, 192, 384)
    assert (plan.learning_rate, plan.epochs, plan.batch_size, plan.crop_px) == (1e-4, 400, 4, 1024)
    assert PRESETS["compact"][0].widths == (16, 32, 64, 128)
    assert PRESETS["compact"][1].crop_px < plan.crop_px


# ---- Refusals ------------------------------------------------------------------------------------------


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        train_network([], CONFIG)


def test_a_loss_that_is_no_number_stops_the_training_with_the_cure() -> None:
    with pytest.raises(ArithmeticError, match="lower the learning rate"):
        train(TRAIN, steps=20, learning_rate=1e30)


def test_the_caller_may_stop_the_training() -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, _steps: int, _row: Row) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train_network(TRAIN, prepare(CONFIG, TRAIN), Reports(progress=stop))


def test_training_says_nothing_and_warns_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(TRAIN, steps=2)

    assert [str(warning.message) for warning in caught] == []
    assert capfd.readouterr() == ("", "")
