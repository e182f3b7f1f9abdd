"""Whatever is turned, everything turns together; whatever is recoloured, nothing moves."""

import numpy as np
import pytest

from tissuemodel.augment import augmented, dihedral, jitter_colour
from tissuemodel.labels import Example

SIDE = 48
DOTS = np.array([[10.3, 7.8], [36.55, 12.1], [20.0, 33.75]], np.float32)
NEGATIVE = np.array([[39.2, 40.6]], np.float32)
BACKGROUND, DEPTH, SIGMA = 230, 150, 2.0


def drawn() -> Example:
    """Dark dots at sub-pixel places; labels and areas that look different from every side."""
    rows, cols = np.mgrid[:SIDE, :SIDE] + 0.5
    image = np.full((SIDE, SIDE), float(BACKGROUND))
    for x, y in (*DOTS, *NEGATIVE):
        image -= DEPTH * np.exp(-((cols - x) ** 2 + (rows - y) ** 2) / (2 * SIGMA**2))
    regions = ((rows > 10) * 2 + (cols > 30)).astype(np.uint8)
    return Example(
        name="dots",
        image=np.repeat(np.rint(image).astype(np.uint8)[..., None], 3, axis=2),
        regions=regions,
        points=DOTS,
        point_classes=np.array([0, 1, 0], np.uint8),
        negatives=NEGATIVE,
        complete=(regions + 4).astype(np.uint16),
        ignored=regions == 3,
    )


def centroid(image: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Centre of darkness (x, y) within 7 px of a place."""
    rows, cols = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    darkness = np.clip(BACKGROUND - image[..., 0].astype(float), 0, None)
    darkness[np.hypot(cols - near[0], rows - near[1]) > 7] = 0
    return np.array([(darkness * cols).sum(), (darkness * rows).sum()]) / darkness.sum()


@pytest.mark.parametrize("turn", range(8))
def test_dots_are_where_their_points_say_after_every_symmetry(turn: int) -> None:
    turned = dihedral(drawn(), turn)

    for point in (*turned.points, *turned.negatives):
        np.testing.assert_allclose(centroid(turned.image, point), point, atol=0.1)
    assert turned.point_classes.tolist() == [0, 1, 0]


@pytest.mark.parametrize("turn", range(8))
def test_labels_and_areas_turn_with_the_image(turn: int) -> None:
    before = drawn()
    # The labels hidden in the image itself: wherever a pixel goes, its label must have gone.
    marked = before.image.copy()
    marked[..., 0] = before.regions

    turned = dihedral(Example(**{**fields(before), "image": marked}), turn)

    np.testing.assert_array_equal(turned.regions, turned.image[..., 0])
    np.testing.assert_array_equal(turned.complete, turned.regions + 4)
    np.testing.assert_array_equal(turned.ignored, turned.regions == 3)


def test_the_eight_symmetries_are_eight_different_images() -> None:
    images = {dihedral(drawn(), turn).image.tobytes() for turn in range(8)}

    assert len(images) == 8
    assert drawn().image.tobytes() in images


def test_turning_leaves_the_example_itself_alone() -> None:
    before = drawn()

    dihedral(before, 5)

    for name, value in fields(drawn()).items():
        np.testing.assert_array_equal(getattr(before, name), value)


def test_an_example_without_points_turns() -> None:
    none = np.zeros((0, 2), np.float32)
    empty = Example(**{**fields(drawn()), "points": none, "negatives": none, "point_classes": none[:, 0]})

    assert dihedral(empty, 7).points.shape == (0, 2)


def test_colour_changes_by_a_monotonous_curve_for_each_channel() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    curves = [jitter_colour(ramp, np.random.default_rng(seed))[0].astype(int) for seed in range(50)]

    for curve in curves:
        assert curve.shape == (256, 3)
        assert (np.diff(curve, axis=0) >= 0).all()
        assert (curve[0] == 0).all()
    spread = np.std([curve[128] for curve in curves], axis=0)
    assert (spread > 5).all()
    assert any(np.ptp(curve[128]) > 10 for curve in curves)  # channels differ: a hue, not a brightness alone


def test_colour_jitter_stays_within_what_slides_do() -> None:
    grey = np.full((1, 1, 3), 128, np.uint8)

    values = [jitter_colour(grey, np.random.default_rng(seed)) for seed in range(200)]

    # Density by 0.75..1.25 times 0.875..1.125, light by 0.94..1.06.
    lowest, highest = 255 * 0.94 * (128 / 255) ** (1.25 * 1.125), 255 * 1.06 * (128 / 255) ** (0.75 * 0.875)
    assert lowest - 1 <= np.min(values) <= np.max(values) <= highest + 1


def test_augmenting_draws_every_symmetry_and_repeats_for_the_same_seed() -> None:
    results = [augmented(drawn(), np.random.default_rng(seed)) for seed in range(60)]
    again = augmented(drawn(), np.random.default_rng(7))

    assert len({result.points.tobytes() for result in results}) == 8
    assert again.image.tobytes() == results[7].image.tobytes()
    for result in results[:10]:
        np.testing.assert_array_equal(result.complete, result.regions + 4)


def fields(example: Example) -> dict[str, object]:
    return {name: getattr(example, name) for name in Example.__dataclass_fields__}
