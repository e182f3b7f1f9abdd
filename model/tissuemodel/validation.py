"""The loss on examples that the training does not see, and when it has not fallen for too long.

Comes in from `dataset`; asked by `course` at the end of passes. Which threshold is best is `calibration`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tissuemodel.config import ModelConfig
from tissuemodel.dataset import Batch, CoverDataset, collate
from tissuemodel.labels import IGNORE_LABEL, Example
from tissuemodel.objective import MultitaskTraining

OFTEN: Final = 20
"""Without early stop the loss is only looked at: about so often in a training."""


class Validation:
    """The validation loss in the course of a training.

    The loss is equation 5 with both sigmas 1, at full size, over all that is annotated: a number that can be compared
    from pass to pass, unlike the training's, whose sigmas move.

    Args:
        examples: Annotated pieces of images that nothing is learnt from.
        config: Crop size, batch size, early stop.

    Attributes:
        best: The lowest loss so far; None before the first.
        best_weights: The network's weights then, with early stop.
    """

    def __init__(self, examples: Sequence[Example], config: ModelConfig) -> None:
        crops = CoverDataset(examples, config)
        self._patience = config.training.early_stop
        self._batches = DataLoader(crops, config.training.batch_size, collate_fn=collate)
        self._looked_at = 0.0
        self._passes_since_best = 0
        self.best: float | None = None
        self.best_weights: Mapping[str, Tensor] = {}

    def is_due(self, part: float) -> bool:
        """Whether to look, at the end of a pass, when so much of the training is done."""
        return self._patience is not None or part - self._looked_at >= 1 / OFTEN or part >= 1

    @property
    def is_enough(self) -> bool:
        """Whether the loss has not fallen for as many passes as early stop allows."""
        return self._patience is not None and self._passes_since_best >= self._patience

    def loss_of(self, module: MultitaskTraining, part: float) -> float:
        """The loss of the network that would be kept now."""
        self._looked_at = part
        loss = validation_loss(module, self._batches)
        if self.best is None or loss < self.best:
            self.best, self._passes_since_best = loss, 0
            if self._patience is not None:
                self.best_weights = {
                    name: value.detach().cpu().clone() for name, value in module.kept.state_dict().items()
                }
        else:
            self._passes_since_best += 1
        return loss

    def about(self) -> dict[str, Any]:
        """What must be remembered to go on, beside the best weights, as plain values."""
        return {"looked_at": self._looked_at, "passes": self._passes_since_best, "best": self.best}

    def resume(self, about: Mapping[str, Any], best_weights: Mapping[str, Tensor]) -> None:
        """Goes on from what `about` gave."""
        self._looked_at, self._passes_since_best = about["looked_at"], about["passes"]
        self.best, self.best_weights = about["best"], best_weights


def validation_loss(module: MultitaskTraining, batches: DataLoader[Any]) -> float:
    """L_reg / 2 + L_seg at full size, each a mean over all that counts in all batches; a task without any is left out.

    Args:
        module: Its `kept` network is asked.
        batches: Of crops that cover the examples.
    """
    network, device = module.kept, module.log_variances.device
    was_training = network.training
    network.eval()
    sums, weights = [0.0, 0.0], [0.0, 0.0]
    with torch.no_grad():
        for batch in batches:
            batch = _on(batch, device)
            losses = module.losses(batch, network)[0]
            counts = (batch.mask[0].any(dim=1).sum(), (batch.labels[0] != IGNORE_LABEL).sum())
            for task, (loss, count) in enumerate(
                zip((losses.regression, losses.segmentation), counts, strict=True)
            ):
                if loss is not None:
                    sums[task] += float(loss) * float(count)
                    weights[task] += float(count)
    network.train(was_training)
    regression, segmentation = (total / max(weight, 1.0) for total, weight in zip(sums, weights, strict=True))
    return regression / 2 + segmentation


def _on(batch: Batch, device: torch.device) -> Batch:
    def moved(value: Any) -> Any:
        return [level.to(device) for level in value] if isinstance(value, list) else value.to(device)

    return Batch(*(moved(value) for value in batch))
