"""Equations 3 to 6 against plain arithmetic."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.losses import (
    LOG_VARIANCE_LIMIT,
    TaskLosses,
    deep_supervision_loss,
    focal_loss,
    heat_loss,
    homoscedastic_loss,
    inverse_frequency_weights,
)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values)


# ---- Weights -------------------------------------------------------------------------------------------


def test_weights_are_inverse_to_the_frequency_and_one_on_average() -> None:
    weights = inverse_frequency_weights([600, 300, 200], cap=10.0)

    # 1 : 2 : 3
    assert weights == pytest.approx((0.5, 1.0, 1.5))


def test_no_weight_exceeds_the_cap_times_the_lightest() -> None:
    weights = inverse_frequency_weights([9678, 202, 110], cap=10.0)

    assert weights == pytest.approx((1 / 7, 10 / 7, 10 / 7))


def test_a_class_that_does_not_occur_weighs_as_the_rarest_that_does() -> None:
    assert inverse_frequency_weights([4, 2, 0], cap=10.0) == pytest.approx((3 / 5, 6 / 5, 6 / 5))


@pytest.mark.parametrize(("counts", "weights"), [([], ()), ([0, 0], (1.0, 1.0)), ([7], (1.0,))])
def test_weights_without_a_choice(counts: list[float], weights: tuple[float, ...]) -> None:
    assert inverse_frequency_weights(counts, cap=10.0) == weights


# ---- Equation 3 ----------------------------------------------------------------------------------------


def test_eq_3_sums_the_weighted_squares_of_the_classes_and_averages_over_pixels() -> None:
    predicted = torch.tensor([[[[0.5, 0.0]], [[1.0, 0.2]]]])
    target = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.6]]]])

    loss = heat_loss(predicted, target, torch.ones_like(target), tensor(2.0, 0.5))

    first = 2 * 0.5**2 + 0.5 * 1.0**2
    second = 2 * 0.0**2 + 0.5 * 0.4**2
    assert loss.item() == pytest.approx((first + second) / 2)


def test_eq_3_counts_only_masked_pixels_each_class_by_its_own_mask() -> None:
    predicted = torch.tensor([[[[0.5, 9.0, 9.0]], [[0.1, 0.3, 9.0]]]])
    target = torch.zeros(1, 2, 1, 3)
    mask = torch.tensor([[[[1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]]]])

    loss = heat_loss(predicted, target, mask, tensor(1.0, 1.0))

    # Two pixels count for some class; the third for none.
    assert loss.item() == pytest.approx((0.25 + 0.01 + 0.09) / 2)


def test_eq_3_is_the_mean_over_the_batch_not_over_its_images() -> None:
    predicted = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 1, 4)
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]).view(2, 1, 1, 4)

    loss = heat_loss(predicted, torch.zeros(2, 1, 1, 4), mask, tensor(1.0))

    assert loss.item() == pytest.approx((4 * 1 + 1 * 9) / 5)


def test_eq_3_without_a_pixel_that_counts_is_zero() -> None:
    ones = torch.ones(1, 2, 3, 3)

    assert heat_loss(ones, 0 * ones, 0 * ones, tensor(1.0, 1.0)).item() == 0


# ---- Equation 4 ----------------------------------------------------------------------------------------


def test_eq_4_is_the_weighted_focal_loss_of_the_true_class() -> None:
    # Probabilities of the true class: 0.8 (class 0) and 0.25 (class 1).
    logits = torch.log(torch.tensor([[[[0.8, 0.75]], [[0.2, 0.25]]]]))
    labels = torch.tensor([[[0, 1]]])

    loss = focal_loss(logits, labels, tensor(0.5, 1.5), gamma=2.0)

    expected = (0.5 * 0.2**2 * -math.log(0.8) + 1.5 * 0.75**2 * -math.log(0.25)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.2, 0.9, 1.9)])
def test_eq_4_with_gamma_0_is_cross_entropy_as_a_mean_over_labelled_pixels(
    weights: tuple[float, ...],
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    labels = torch.randint(0, 3, (2, 4, 5), generator=generator)
    labels[:, 1] = IGNORE_LABEL

    loss = focal_loss(logits, labels, tensor(*weights), gamma=0.0)

    # torch's own weighted mean divides by the weights; METHOD divides by the number of labelled pixels.
    summed = functional.cross_entropy(
        logits, labels, tensor(*weights), ignore_index=IGNORE_LABEL, reduction="sum"
    )
    torch.testing.assert_close(loss, summed / (2 * 3 * 5))


def test_eq_4_ignores_unlabelled_pixels_and_gives_them_no_gradient() -> None:
    logits = torch.zeros(1, 2, 1, 2, requires_grad=True)
    labels = torch.tensor([[[1, IGNORE_LABEL]]])

    loss = focal_loss(logits, labels, tensor(1.0, 1.0), gamma=2.0)
    loss.backward()

    assert loss.item() == pytest.approx(0.25 * math.log(2))
    assert logits.grad is not None
    assert bool((logits.grad[..., 0] != 0).all())
    assert bool((logits.grad[..., 1] == 0).all())


def test_eq_4_without_a_labelled_pixel_is_zero() -> None:
    labels = torch.full((1, 2, 2), IGNORE_LABEL)

    assert focal_loss(torch.randn(1, 2, 2, 2), labels, tensor(1.0, 1.0), gamma=2.0).item() == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("logit", [200.0, -200.0])
def test_eq_4_of_certain_pixels_is_finite_and_so_is_its_gradient(gamma: float, logit: float) -> None:
    logits = torch.tensor([logit, 0.0]).view(1, 2, 1, 1).requires_grad_()

    loss = focal_loss(logits, torch.zeros(1, 1, 1, dtype=torch.long), tensor(1.0, 1.0), gamma)
    loss.backward()

    assert loss.item() == pytest.approx(0.0 if logit > 0 else 200.0)
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


# ---- Equation 5 ----------------------------------------------------------------------------------------


def test_eq_5_is_the_papers_formula_in_sigma() -> None:
    sigma_1, sigma_2 = 0.7, 1.6
    log_variances = tensor(math.log(sigma_1**2), math.log(sigma_2**2))

    loss = homoscedastic_loss(TaskLosses(tensor(0.3)[0], tensor(2.0)[0]), log_variances)

    expected = 0.3 / (2 * sigma_1**2) + 2.0 / sigma_2**2 + math.log(sigma_1 * sigma_2)
    assert loss.item() == pytest.approx(expected)


def test_eq_5_leaves_the_term_and_the_log_of_a_task_without_labels_out() -> None:
    log_variances = tensor(0.4, -0.6).requires_grad_()

    only_cells = homoscedastic_loss(TaskLosses(tensor(0.3)[0], None), log_variances)
    only_regions = homoscedastic_loss(TaskLosses(None, tensor(2.0)[0]), log_variances)
    (slope,) = torch.autograd.grad(only_cells, log_variances)

    assert only_cells.item() == pytest.approx(0.5 * math.exp(-0.4) * 0.3 + 0.2)
    assert only_regions.item() == pytest.approx(math.exp(0.6) * 2.0 - 0.3)
    assert slope[1] == 0


def test_eq_5_rests_where_sigma_squared_is_the_regression_and_twice_the_segmentation_loss() -> None:
    # d/ds1: -exp(-s1) L/2 + 1/2 = 0 at exp(s1) = L; d/ds2: -exp(-s2) L + 1/2 = 0 at exp(s2) = 2 L.
    log_variances = tensor(math.log(0.3), math.log(2 * 0.8)).requires_grad_()

    homoscedastic_loss(TaskLosses(tensor(0.3)[0], tensor(0.8)[0]), log_variances).backward()

    assert log_variances.grad is not None
    torch.testing.assert_close(log_variances.grad, torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sign", [-1, 1])
def test_eq_5_clamps_both_log_variances(sign: int) -> None:
    losses = TaskLosses(tensor(1.0)[0], tensor(1.0)[0])

    beyond = homoscedastic_loss(losses, tensor(sign * 50.0, sign * 50.0))

    limit = sign * LOG_VARIANCE_LIMIT
    assert beyond.item() == pytest.approx(1.5 * math.exp(-limit) + limit)


def test_eq_5_at_the_limit_can_still_come_back() -> None:
    log_variances = tensor(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT).requires_grad_()

    homoscedastic_loss(TaskLosses(tensor(1.0)[0], tensor(1.0)[0]), log_variances).backward()

    assert log_variances.grad is not None
    assert log_variances.grad[0] < 0 < log_variances.grad[1]


# ---- Equation 6 ----------------------------------------------------------------------------------------


def test_eq_6_halves_each_coarser_scale() -> None:
    log_variances = tensor(0.4, -0.6)
    scales = [
        TaskLosses(tensor(r)[0], tensor(s)[0]) for r, s in ((0.1, 1.0), (0.2, 2.0), (0.3, 3.0), (0.4, 4.0))
    ]

    loss = deep_supervision_loss(scales, log_variances)

    each = [0.5 * math.exp(-0.4) * r + math.exp(0.6) * 10 * r + 0.2 - 0.3 for r in (0.1, 0.2, 0.3, 0.4)]
    assert loss.item() == pytest.approx(each[0] + each[1] / 2 + each[2] / 4 + each[3] / 8)


def test_eq_6_weighs_each_scale_by_the_labels_it_has() -> None:
    # A small complete area vanishes from the coarse scale, where the mask is min-pooled.
    scales = [TaskLosses(tensor(0.5)[0], tensor(1.0)[0]), TaskLosses(None, tensor(3.0)[0])]

    loss = deep_supervision_loss(scales, torch.zeros(2))

    assert loss.item() == pytest.approx(0.25 + 1.0 + 3.0 / 2)


def test_a_batch_without_any_label_is_a_zero_that_can_be_differentiated() -> None:
    log_variances = tensor(0.4, -0.6).requires_grad_()

    loss = deep_supervision_loss([TaskLosses(None, None)] * 4, log_variances)
    loss.backward()

    assert loss.item() == 0
    assert log_variances.grad is not None
    assert log_variances.grad.tolist() == [0, 0]
