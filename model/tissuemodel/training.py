"""The training loop: examples in, a checkpoint out.

Comes in from `dataset`, goes to `checkpoint`; thresholds of the cell classes are chosen in `calibration` afterwards.
The loop is PyTorch Lightning's; the losses are the paper's (eq. 3-6).
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tissuemodel.checkpoint import build_network
from tissuemodel.config import ModelConfig, NetworkConfig, TrainingConfig
from tissuemodel.dataset import Batch, CropDataset, class_counts, collate, pixel_statistics
from tissuemodel.inference import best_device, normalise
from tissuemodel.labels import IGNORE_LABEL, Example
from tissuemodel.losses import (
    LOG_VARIANCE_LIMIT,
    TaskLosses,
    deep_supervision_loss,
    focal_loss,
    heat_loss,
    inverse_frequency_weights,
)
from tissuemodel.network import COMPACT_WIDTHS, PAPER_WIDTHS, MultitaskUNet

MANY_STEPS = 10**8
"""More than anybody waits for: the length of the list of crops where time decides when to stop."""

PRESETS: dict[str, tuple[NetworkConfig, TrainingConfig]] = {
    "paper": (NetworkConfig(PAPER_WIDTHS), TrainingConfig()),
    "compact": (NetworkConfig(COMPACT_WIDTHS), TrainingConfig(learning_rate=2e-3, crop_px=256, epochs=100)),
}
"""`paper` is Fig. 4 with section IV-G's settings; `compact` trains on a CPU in minutes."""


class MultitaskTraining(lightning.LightningModule):  # type: ignore[misc]  # its stubs are not followed
    """The network with its losses and optimiser, as Lightning wants them.

    Args:
        network: To be trained.
        config: Losses and learning rate.
        length: How long the cosine is.
    """

    def __init__(self, network: MultitaskUNet, config: ModelConfig, length: Length) -> None:
        super().__init__()
        self.length = length
        self.network = network
        self.config = config
        self.log_variances = nn.Parameter(torch.zeros(2))
        self.register_buffer("region_weights", torch.tensor(config.loss.region_weights), persistent=False)
        self.register_buffer("cell_weights", torch.tensor(config.loss.cell_weights), persistent=False)

    def losses(self, batch: Batch) -> list[TaskLosses]:
        """Both tasks' losses at each scale."""
        image = normalise(batch.image.float(), batch.mean, batch.std)
        maps = self.network(image.contiguous(memory_format=torch.channels_last))
        scales = len(batch.labels)
        regions = self._region_losses(batch, maps.regions) if maps.regions else [None] * scales
        heat = self._heat_losses(batch, maps.heat) if maps.heat else [None] * scales
        return [TaskLosses(h, r) for h, r in zip(heat, regions, strict=True)]

    def _region_losses(self, batch: Batch, logits: list[Tensor]) -> list[Tensor | None]:
        gamma, weights = self.config.loss.gamma, self.region_weights
        return [
            focal_loss(level.float(), labels, weights, gamma)
            if bool((labels != IGNORE_LABEL).any())
            else None
            for level, labels in zip(logits, batch.labels, strict=True)
        ]

    def _heat_losses(self, batch: Batch, heat: list[Tensor]) -> list[Tensor | None]:
        return [
            heat_loss(level.float(), target, mask, self.cell_weights) if bool(mask.any()) else None
            for level, target, mask in zip(heat, batch.heat, batch.mask, strict=True)
        ]

    def on_train_batch_start(self, _batch: Batch, _index: int) -> None:
        """Brings the log-variances back to equation 5's limits, so that they do not drift away unseen."""
        with torch.no_grad():
            self.log_variances.clamp_(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Equation 6 on a batch."""
        loss = deep_supervision_loss(self.losses(batch), self.log_variances)
        if not bool(loss.isfinite()):
            raise ArithmeticError("the loss became NaN or infinite; lower the learning rate")
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with cosine annealing over the planned length (section IV-G)."""
        optimizer = torch.optim.Adam(
            self.parameters(), self.config.training.learning_rate, betas=(0.9, 0.999)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda steps: (1 + math.cos(math.pi * self.length.part_done(steps))) / 2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Length:
    """How long a training is: a number of steps, or a time.

    Time is not turned into steps beforehand: the first steps of a process, and those beside other work, take
    several times longer than the rest, and the plan would be as wrong.

    Args:
        steps: Number of steps; None where time decides.
        seconds: Time from the first question on; only looked at without `steps`.
    """

    def __init__(self, steps: int | None, seconds: float = 0.0) -> None:
        self.steps, self._seconds = steps, seconds
        self._started: float | None = None

    def part_done(self, steps: int) -> float:
        """How much is done after so many steps, from 0 to 1.

        >>> Length(steps=4).part_done(1)
        0.25
        """
        if self.steps is not None:
            return min(1.0, steps / self.steps)
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        return min(1.0, (now - self._started) / self._seconds)


class _Course(Callback):  # type: ignore[misc]
    """Counts the steps, tells the caller about each (who may raise to stop), and stops in time."""

    def __init__(self, length: Length, report: Callable[[int, int, float], None] | None) -> None:
        self._length, self._report, self.steps = length, report, 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.steps += 1
        part = self._length.part_done(self.steps)
        trainer.should_stop = part >= 1
        if self._report:
            in_all = self._length.steps or max(self.steps, round(self.steps / max(part, 1e-6)))
            self._report(self.steps, in_all, float(outputs["loss"]))


def prepare(config: ModelConfig, examples: Sequence[Example]) -> ModelConfig:
    """Fills in what follows from the training set: normalisation and class weights."""
    mean, std = pixel_statistics(examples)
    regions, cells = class_counts(examples, config)
    cap = config.loss.weight_cap
    loss = replace(
        config.loss,
        region_weights=config.loss.region_weights or inverse_frequency_weights(regions, cap),
        cell_weights=config.loss.cell_weights or inverse_frequency_weights(cells, cap),
    )
    return replace(config, mean=mean, std=std, loss=loss)


def train_network(
    examples: Sequence[Example],
    config: ModelConfig,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[MultitaskUNet, ModelConfig]:
    """Trains a network from scratch.

    Args:
        examples: Annotated pieces, at the model's pixel size.
        config: From `prepare`.
        progress: Called after each step with (steps done, steps in all, loss); may raise to stop.

    Returns:
        The network, in evaluation mode on the CPU, and the configuration with the number of steps recorded.

    Raises:
        ValueError: There are no examples.
        ArithmeticError: The loss became NaN or infinite.
    """
    if not examples:
        raise ValueError("there is nothing to train on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        network = build_network(config).to(memory_format=torch.channels_last)
        steps = _fit(
            MultitaskTraining(network, config, _length(examples, config.training)), examples, progress
        )
    config = replace(config, training=replace(config.training, steps=steps))
    return network.cpu().eval(), config


def steps_per_epoch(examples: Sequence[Example], config: TrainingConfig) -> int:
    """How many batches of crops have the area of all examples."""
    crops: int = sum(
        max(1, math.ceil(e.image.shape[0] * e.image.shape[1] / config.crop_px**2)) for e in examples
    )
    return math.ceil(crops / config.batch_size)


def _length(examples: Sequence[Example], plan: TrainingConfig) -> Length:
    if plan.steps is None and plan.minutes is not None:
        return Length(None, plan.minutes * 60)
    return Length(plan.steps or plan.epochs * steps_per_epoch(examples, plan))


def _loader(examples: Sequence[Example], config: ModelConfig, steps: int) -> DataLoader[Any]:
    plan = config.training
    crops = CropDataset(examples, config, steps * plan.batch_size)
    return DataLoader(crops, plan.batch_size, collate_fn=collate, num_workers=0)


def _fit(
    module: MultitaskTraining,
    examples: Sequence[Example],
    progress: Callable[[int, int, float], None] | None,
) -> int:
    """Trains, and returns the number of steps."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    course = _Course(module.length, progress)
    with warnings.catch_warnings():
        # One process loads the crops on purpose: they cost little, and a CPU's cores are busy with the network.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning 2.6 asks torch 2.15 for a type it is about to rename.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        trainer = lightning.Trainer(
            max_epochs=1,
            max_steps=module.length.steps or -1,
            accelerator=best_device().type,
            devices=1,
            precision="32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[course],
        )
        trainer.fit(module, _loader(examples, module.config, module.length.steps or MANY_STEPS))
    return course.steps
