"""What is minimised: the network with the paper's losses and optimiser, as PyTorch Lightning wants them.

Comes in from `dataset` batch by batch; `training` runs it, `course` follows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tissuemodel.config import ModelConfig
from tissuemodel.dataset import Batch
from tissuemodel.inference import normalise
from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.losses import (
    LOG_VARIANCE_LIMIT,
    TaskLosses,
    deep_supervision_loss,
    focal_loss,
    heat_loss,
)
from tissuemodel.network import MultitaskUNet

_WARM_UP: Final = 10.0
"""The average's decay after t steps is at most (1 + t) / (10 + t): the random first weights are soon forgotten."""


class MultitaskTraining(lightning.LightningModule):  # type: ignore[misc]  # its stubs are not followed
    """The network with its losses and optimiser.

    Args:
        network: To be trained.
        config: Losses and learning rate.
        part_done: How much of the training is done after so many steps of this optimiser, from 0 to 1.

    Attributes:
        average: Moving average of the network's weights, where the configuration wants one.
    """

    def __init__(
        self, network: MultitaskUNet, config: ModelConfig, part_done: Callable[[int], float]
    ) -> None:
        super().__init__()
        self.part_done = part_done
        self.network = network
        self.config = config
        self.log_variances = nn.Parameter(torch.zeros(2))
        self._limit = LOG_VARIANCE_LIMIT if config.loss.weighting == "uncertainty" else 0.0
        self.register_buffer("region_weights", torch.tensor(config.loss.region_weights), persistent=False)
        self.register_buffer("cell_weights", torch.tensor(config.loss.cell_weights), persistent=False)
        # A list hides it from Lightning, which would train it as well.
        self._averages: list[AveragedModel] = []

    def losses(self, batch: Batch, network: nn.Module | None = None) -> list[TaskLosses]:
        """Both tasks' losses at each scale that is supervised.

        Args:
            batch: Crops and targets.
            network: What to apply; None for the one that is trained.
        """
        image = normalise(batch.image.float(), batch.mean, batch.std)
        maps = (network or self.network)(image.contiguous(memory_format=torch.channels_last))
        scales = len(batch.labels) if self.config.loss.deep_supervision else 1
        regions = self._region_losses(batch, maps.regions[:scales]) if maps.regions else [None] * scales
        heat = self._heat_losses(batch, maps.heat[:scales]) if maps.heat else [None] * scales
        return [TaskLosses(h, r) for h, r in zip(heat, regions, strict=True)]

    def _region_losses(self, batch: Batch, logits: list[Tensor]) -> list[Tensor | None]:
        gamma, weights = self.config.loss.gamma, self.region_weights
        return [
            focal_loss(level.float(), labels, weights, gamma)
            if bool((labels != IGNORE_LABEL).any())
            else None
            for level, labels in zip(logits, batch.labels, strict=False)
        ]

    def _heat_losses(self, batch: Batch, heat: list[Tensor]) -> list[Tensor | None]:
        return [
            heat_loss(level.float(), target, mask, self.cell_weights) if bool(mask.any()) else None
            for level, target, mask in zip(heat, batch.heat, batch.mask, strict=False)
        ]

    def on_train_batch_start(self, _batch: Batch, _index: int) -> None:
        """Brings the log-variances back to equation 5's limits, so that they do not drift away unseen.

        With fixed weights the limit is 0: both sigmas are 1 in every step.
        """
        with torch.no_grad():
            self.log_variances.clamp_(-self._limit, self._limit)

    def training_step(self, batch: Batch, _index: int) -> dict[str, Tensor | None]:
        """Equation 6 on a batch, and the tasks' losses at full size.

        Raises:
            ArithmeticError: The loss is NaN or infinite.
        """
        losses = self.losses(batch)
        loss = deep_supervision_loss(losses, self.log_variances)
        if not bool(loss.isfinite()):
            raise ArithmeticError("the loss became NaN or infinite; lower the learning rate")
        if self.trainer.world_size > 1:
            # A team waits for the gradient of every parameter, also of a task of which this batch has no label.
            loss = loss + 0.0 * sum(parameter.sum() for parameter in self.parameters())
        regression, segmentation = (
            None if task is None else task.detach() for task in (losses[0].regression, losses[0].segmentation)
        )
        return {"loss": loss, "regression": regression, "segmentation": segmentation}

    def sigmas(self) -> tuple[float | None, float | None]:
        """Equation 5's sigma of regression and segmentation, None for a task that the network has not."""
        regression, segmentation = torch.exp(self.log_variances.detach() / 2).tolist()
        has_heat, has_regions = self.network.cells is not None, self.network.regions is not None
        return regression if has_heat else None, segmentation if has_regions else None

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with cosine annealing over the planned length (section IV-G)."""
        optimizer = torch.optim.Adam(
            self.parameters(), self.config.training.learning_rate, betas=(0.9, 0.999)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda steps: (1 + math.cos(math.pi * self.part_done(steps))) / 2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ---- The moving average ------------------------------------------------------------------------------

    @property
    def average(self) -> AveragedModel | None:
        """The moving average of the weights, once it has begun."""
        return self._averages[0] if self._averages else None

    def begin_average(self) -> None:
        """Starts the moving average from the present weights, where the configuration wants one."""
        decay = self.config.training.weight_average
        if decay is None:
            return

        def mean(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
            if not current.is_floating_point():
                return current
            steps = float(count)
            return averaged.lerp(current, 1 - min(decay, (1 + steps) / (_WARM_UP + steps)))

        # Batch norm's running statistics are averaged too: those of the moment belong to other weights.
        self._averages = [AveragedModel(self.network, avg_fn=mean, use_buffers=True)]

    @property
    def kept(self) -> nn.Module:
        """The network that a checkpoint is made of: the average where there is one."""
        return self.network if self.average is None else self.average.module
