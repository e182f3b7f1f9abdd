"""The losses of the paper, equations 3 to 6, each a pure function of tensors; composed at the end of this file.

Comes in from `network` (maps) and `dataset` (targets), goes to `training`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tissuemodel.labels import IGNORE_LABEL

LOG_VARIANCE_LIMIT = 6.0
"""The learned log(sigma^2) stay within this of 0, so that no task's weight can run away."""


def inverse_frequency_weights(counts: Sequence[float], cap: float) -> tuple[float, ...]:
    """Class weights w_c (eq. 3 and 4): inverse frequency, capped at `cap` times the lightest, mean 1.

    Classes that do not occur get the heaviest weight that occurs.

    >>> inverse_frequency_weights([8, 4, 1], cap=4.0)
    (0.42..., 0.85..., 1.71...)
    """
    frequency = np.asarray(counts, dtype=float)
    if not len(frequency) or not frequency.any():
        return tuple(1.0 for _ in counts)
    weights = frequency.max() / np.where(frequency > 0, frequency, frequency[frequency > 0].min())
    weights = np.minimum(weights, cap)
    return tuple(float(w) for w in weights / weights.mean())


def heat_loss(predicted: Tensor, target: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Equation 3: the squared error of the heat maps, summed over classes, as a mean over the pixels that count.

    Args:
        predicted: (B, class, H, W).
        target: (B, class, H, W).
        mask: (B, class, H, W), 1 where the pixel counts for the class.
        weights: (class,).

    Returns:
        A scalar; 0 without any pixel that counts.

    >>> one = torch.ones(1, 1, 2, 2)
    >>> heat_loss(one, 0.5 * one, one, torch.ones(1)).item()
    0.25
    """
    error = weights[:, None, None] * mask * (predicted - target).square()
    return error.sum() / mask.amax(dim=1).sum().clamp(min=1.0)


def focal_loss(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Equation 4: the class-weighted focal loss, as a mean over labelled pixels; gamma 0 is cross-entropy.

    Args:
        logits: (B, class, H, W).
        labels: (B, H, W), class index or `IGNORE_LABEL`.
        weights: (class,).
        gamma: Focusing parameter.

    Returns:
        A scalar; 0 without a labelled pixel.

    >>> focal_loss(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long), torch.ones(2), 2.0).item()
    0.173...
    """
    labelled = labels != IGNORE_LABEL
    index = torch.where(labelled, labels, 0).unsqueeze(1)
    log_p = functional.log_softmax(logits, dim=1).gather(1, index).squeeze(1)
    # The clamp keeps the power's slope finite at p = 1, where a gamma between 0 and 1 would make the gradient NaN.
    doubt = (-torch.expm1(log_p)).clamp(min=1e-12)
    loss = -weights[index.squeeze(1)] * doubt.pow(gamma) * log_p
    return (loss * labelled).sum() / labelled.sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class TaskLosses:
    """The two tasks' losses at one scale; None where a batch has nothing to say on a task."""

    regression: Tensor | None
    segmentation: Tensor | None


def homoscedastic_loss(losses: TaskLosses, log_variances: Tensor) -> Tensor:
    """Equation 5: both tasks weighed by learned uncertainty, with s = log(sigma^2).

    L_reg / (2 sigma_1^2) + L_seg / sigma_2^2 + log(sigma_1 sigma_2) becomes
    exp(-s_1) L_reg / 2 + exp(-s_2) L_seg + (s_1 + s_2) / 2. A task without labels leaves its term and its log out.
    Source: Kendall et al. 2018, doi:10.1109/CVPR.2018.00781.

    Args:
        losses: The tasks' losses at one scale.
        log_variances: (2,), s_1 (regression) and s_2 (segmentation).

    Returns:
        A scalar; without any label a 0 that can still be differentiated, so that such a batch changes nothing.

    >>> one = torch.tensor(1.0)
    >>> homoscedastic_loss(TaskLosses(one, one), torch.zeros(2)).item()
    1.5
    """
    limited = log_variances.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
    # The limited value with the gradient of the free one: clamp's own is 0 at the limit, which nothing would leave.
    s1, s2 = log_variances + (limited - log_variances).detach()
    total = 0.0 * log_variances.sum()
    if losses.regression is not None:
        total = total + 0.5 * torch.exp(-s1) * losses.regression + 0.5 * s1
    if losses.segmentation is not None:
        total = total + torch.exp(-s2) * losses.segmentation + 0.5 * s2
    return total


def deep_supervision_loss(scales: Sequence[TaskLosses], log_variances: Tensor) -> Tensor:
    """Equation 6: the sum over the scales i of the losses of equation 5, each divided by 2^i.

    Preset `compact` has one scale less than the paper's four.

    >>> one = TaskLosses(torch.tensor(2.0), None)
    >>> deep_supervision_loss([one, one], torch.zeros(2)).item()
    1.5
    """
    terms = [homoscedastic_loss(losses, log_variances) / 2**i for i, losses in enumerate(scales)]
    return torch.stack(terms).sum()
