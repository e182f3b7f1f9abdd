"""A deformation moves everything together, to a fraction of a pixel, and never folds."""

from dataclasses import replace

import numpy as np
import pytest

from tissuemodel.elastic import STEEPEST, ElasticField, deform
from tissuemodel.labels import IGNORE_LABEL, Example

SIDE, BACKGROUND, SIGMA = 128, 230, 2.5
PAD = (9, 8, 7)
NONE = np.zeros((0, 2), np.float32)


def field(seed: int, deviation: float = 2.0, spacing: float = 32.0, side: int = SIDE) -> ElasticField:
    return ElasticField.drawn(side, deviation, spacing, np.random.default_rng(seed))


def window(field: ElasticField, dots: np.ndarray) -> Example:
    """Dark dots (x, y) in a window of the field's margin; each dot's label is its number, all round it."""
    side = field.side + 2 * field.margin
    rows, cols = np.mgrid[:side, :side] + 0.5
    image = np.full((side, side), float(BACKGROUND))
    regions = np.full((side, side), IGNORE_LABEL, np.uint8)
    for number, (x, y) in enumerate(dots):
        square = (cols - x) ** 2 + (rows - y) ** 2
        image -= 150 * np.exp(-square / (2 * SIGMA**2))
        regions[square < 3**2] = number
    return Example(
        name="dots",
        image=np.repeat(np.rint(image).astype(np.uint8)[..., None], 3, axis=2),
        regions=regions,
        points=dots[::2].astype(np.float32),
        point_classes=np.arange(len(dots[::2]), dtype=np.uint8),
        negatives=dots[1::2].astype(np.float32),
        complete=regions.astype(np.uint16) + 1000,
        ignored=regions == 3,
    )


def dots_for(field: ElasticField, seed: int) -> np.ndarray:
    """Dots at sub-pixel places, far enough from each other to tell their centres."""
    grid = np.stack(np.meshgrid(*[np.arange(14.0, SIDE - 12, 22)] * 2), axis=-1).reshape(-1, 2)
    return grid + np.random.default_rng(seed).uniform(-2, 2, grid.shape) + field.margin


def centroid(image: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Centre of darkness (x, y) within 8 px of a place."""
    rows, cols = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    darkness = np.clip(BACKGROUND - 1 - image[..., 0].astype(float), 0, None)
    darkness[np.hypot(cols - near[0], rows - near[1]) > 8] = 0
    return np.array([(darkness * cols).sum(), (darkness * rows).sum()]) / darkness.sum()


def test_dots_in_the_deformed_image_are_where_the_moved_points_say() -> None:
    errors, moves = [], []
    for seed in range(6):
        warp = field(seed)
        dots = dots_for(warp, seed)
        deformed = deform(window(warp, dots), warp, PAD)

        for points, before in ((deformed.points, dots[::2]), (deformed.negatives, dots[1::2])):
            errors += [np.hypot(*(centroid(deformed.image, point) - point)) for point in points]
            moves += np.hypot(*(points - (before - warp.margin)).T).tolist()

    assert np.mean(moves) > 2  # so that a point left in place would be found out
    assert np.mean(errors) < 0.1
    assert np.max(errors) < 0.25


def test_points_stay_on_their_labels_and_all_arrays_move_alike() -> None:
    for seed in range(6):
        warp = field(seed)
        deformed = deform(window(warp, dots_for(warp, seed)), warp, PAD)

        col, row = np.floor(deformed.points).astype(int).T
        np.testing.assert_array_equal(deformed.regions[row, col], 2 * np.arange(len(deformed.points)))
        np.testing.assert_array_equal(deformed.complete, deformed.regions.astype(np.uint16) + 1000)
        np.testing.assert_array_equal(deformed.ignored, deformed.regions == 3)
        assert (deformed.complete.dtype, deformed.ignored.dtype) == (np.uint16, np.bool_)


@pytest.mark.parametrize("deviation", [0.5, 2.0, 1000.0])
def test_moved_points_are_the_inverse_of_where_pixels_come_from(deviation: float) -> None:
    warp = field(3, deviation)
    x, y = warp.sources()
    sources = np.stack([x.ravel(), y.ravel()], axis=1)

    back = warp.moved(sources).reshape(SIDE, SIDE, 2)

    # The iteration's last change is below 0.001; where slopes come near to 1 what is left is a little more.
    centres = np.stack(np.meshgrid(*[np.arange(SIDE) + 0.5] * 2), axis=-1)
    np.testing.assert_allclose(back, centres, atol=0.02)


def test_the_steepest_field_does_not_fold() -> None:
    for seed in range(20):
        warp = field(seed, deviation=1e6, spacing=8.0)

        x, y = warp.sources()
        area = (
            np.diff(x, axis=1)[:-1] * np.diff(y, axis=0)[:, :-1]
            - np.diff(x, axis=0)[:, :-1] * np.diff(y, axis=1)[:-1]
        )
        assert np.abs(warp.coefficients).max() <= STEEPEST * 8.0
        assert area.min() > 0
        assert area.std() > 0.05


def test_the_displacement_has_the_deviation_asked_for_and_varies_smoothly() -> None:
    moves = np.stack([np.stack(field(seed, 1.5).sources()) for seed in range(60)])
    moves -= np.stack(np.meshgrid(*[np.arange(SIDE) + 0.5] * 2))

    assert moves.std() == pytest.approx(1.5, rel=0.08)
    assert moves.mean() == pytest.approx(0, abs=0.15)
    assert np.abs(np.diff(moves, axis=-1)).max() < 0.48
    assert np.abs(np.diff(moves, n=2, axis=-1)).max() < 0.05


def test_no_pixel_comes_from_farther_than_the_margin() -> None:
    for seed in range(10):
        warp = field(seed, 2.0)
        sources = np.stack(warp.sources())

        assert sources.min() > -warp.margin + 1.5
        assert sources.max() < SIDE + warp.margin - 1.5


def test_the_border_has_real_pixels_where_there_are_some_and_padding_where_not() -> None:
    warp = field(0)
    plain = window(warp, NONE)

    inside = deform(plain, warp, PAD)
    beside = plain.image.copy()
    beside[:, : warp.margin + 30] = PAD
    padded = deform(replace(plain, image=beside), warp, PAD)

    assert (inside.image == BACKGROUND).all()
    assert (padded.image[:, :20] == PAD).all()
    assert (padded.image[:, 40:] == BACKGROUND).all()


def test_points_outside_the_square_come_along() -> None:
    warp = field(1)
    outside = np.array([[-20.0, 40.0], [SIDE + 30.0, -5.0]], np.float32)

    moved = warp.moved(outside)

    assert (np.hypot(*(moved - outside).T) < warp.margin * 1.5).all()
    np.testing.assert_allclose(moved + warp.displacement(moved), outside, atol=0.01)


def test_a_window_without_the_margin_is_refused() -> None:
    warp = field(0)
    small = window(field(0, side=SIDE - 2), NONE)

    with pytest.raises(ValueError, match="dots: a window of"):
        deform(small, warp, PAD)
