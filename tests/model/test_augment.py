"""Whatever is turned, everything turns together; whatever is recoloured, nothing moves."""

from dataclasses import replace

import numpy as np
import pytest
from skimage.color import rgb_from_hed

from tissuemodel.augment import augmented_crop, colour_change, dihedral, random_turn, recolour
from tissuemodel.config import AugmentationConfig, ModelConfig, NetworkConfig, TargetConfig, TrainingConfig
from tissuemodel.labels import Example

SIDE = 48
DOTS = np.array([[10.3, 7.8], [36.55, 12.1], [20.0, 33.75]], np.float32)
NEGATIVE = np.array([[39.2, 40.6]], np.float32)
BACKGROUND, DEPTH, SIGMA = 230, 150, 2.0
STILL = AugmentationConfig(density_jitter=0, gain_jitter=0, stain_jitter=0)
CONFIG = ModelConfig(
    region_classes=("a", "b", "c", "d"),
    cell_classes=("T", "NK"),
    colors={},
    pixel_size_um=1.0,
    mean=(float(BACKGROUND),) * 3,
    network=NetworkConfig((2, 2, 2)),
    targets=TargetConfig((5.0, 5.0)),
    training=TrainingConfig(crop_px=32),
)
SQUARE = replace(CONFIG, training=TrainingConfig(crop_px=SIDE), augmentation=replace(STILL, elastic_um=1.0))


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


# ---- Colour --------------------------------------------------------------------------------------------


def every_colour() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)


def test_a_neutral_change_gives_the_identical_picture() -> None:
    picture = every_colour()

    same = recolour(picture, colour_change(STILL, np.random.default_rng(0)))

    np.testing.assert_array_equal(same, picture)
    assert picture.tobytes() == every_colour().tobytes()


def test_stain_jitter_scales_each_stains_density_and_nothing_else() -> None:
    densities = np.random.default_rng(1).uniform(0.05, 0.5, (50, 1, 3))
    light = 256 * np.exp(-densities @ rgb_from_hed) - 1
    plan = replace(STILL, stain_jitter=0.15)

    change = colour_change(plan, np.random.default_rng(2))
    changed = recolour(np.rint(light).astype(np.uint8), change).astype(float)

    found = -np.log((changed + 1) / 256) @ np.linalg.inv(rgb_from_hed)
    factors = [np.median(found[..., stain] / densities[..., stain]) for stain in range(3)]
    expected = 256 * np.exp(-(densities * factors) @ rgb_from_hed) - 1
    np.testing.assert_allclose(changed, expected, atol=2.5)
    assert all(0.83 < factor < 1.17 for factor in factors)
    assert np.ptp(factors) > 0.05


def test_glass_stays_white_whatever_the_stains() -> None:
    glass = np.full((4, 4, 3), 255, np.uint8)
    plan = replace(STILL, stain_jitter=0.5, density_jitter=0.5)

    for seed in range(20):
        assert (recolour(glass, colour_change(plan, np.random.default_rng(seed))) == 255).all()


def test_density_jitter_is_a_power_of_the_light_of_each_channel() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    plan = replace(STILL, density_jitter=0.25)
    curves = [
        recolour(ramp, colour_change(plan, np.random.default_rng(seed)))[0].astype(int) for seed in range(50)
    ]

    for curve in curves:
        assert (np.diff(curve, axis=0) >= 0).all()
        power = np.log((curve[128] + 1) / 256) / np.log(129 / 256)
        np.testing.assert_allclose(curve, 256 * (np.arange(1, 257)[:, None] / 256) ** power - 1, atol=1.5)
        # 0.75 to 1.25, times 0.875 to 1.125 for all channels together.
        assert 0.65 < power.min() < power.max() < 1.42
    assert (np.std([curve[128] for curve in curves], axis=0) > 5).all()
    assert any(np.ptp(curve[128]) > 10 for curve in curves)  # channels differ: a hue, not a brightness alone


def test_gain_jitter_is_a_factor_on_the_light() -> None:
    grey = np.full((1, 1, 3), 150, np.uint8)
    plan = replace(STILL, gain_jitter=0.06)

    values = [recolour(grey, colour_change(plan, np.random.default_rng(seed))) for seed in range(200)]

    assert 150 * 0.94 - 1 <= np.min(values) < 145 < 155 < np.max(values) <= 150 * 1.06 + 1


def test_a_change_goes_the_same_way_in_every_part_of_a_large_picture() -> None:
    picture, change = every_colour(), colour_change(AugmentationConfig(), np.random.default_rng(4))

    np.testing.assert_array_equal(recolour(picture, change)[40:50], recolour(picture[40:50], change))


# ---- Together ------------------------------------------------------------------------------------------


def test_mirror_and_rotation_come_as_often_as_configured() -> None:
    plan = AugmentationConfig(mirror=0.2, rotation=0.6)

    turns = [random_turn(plan, np.random.default_rng(seed)) for seed in range(1000)]

    assert np.mean([turn & 4 > 0 for turn in turns]) == pytest.approx(0.2, abs=0.05)
    assert [np.mean([turn & 3 == quarters for turn in turns]) for quarters in range(4)] == pytest.approx(
        [0.4, 0.2, 0.2, 0.2], abs=0.05
    )


def test_what_is_zero_is_switched_off() -> None:
    plan = AugmentationConfig(
        mirror=0, rotation=0, density_jitter=0, gain_jitter=0, stain_jitter=0, elastic_um=0
    )
    config = replace(CONFIG, augmentation=plan)

    crop = augmented_crop(drawn(), (8, 8), config, np.random.default_rng(0))

    np.testing.assert_array_equal(crop.image, drawn().image[8:40, 8:40])
    np.testing.assert_array_equal(crop.regions, drawn().regions[8:40, 8:40])
    np.testing.assert_allclose(crop.points, DOTS - 8)


def test_augmenting_repeats_for_the_same_seed_and_differs_for_another() -> None:
    first, again, other = (
        augmented_crop(drawn(), (8, 8), CONFIG, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )

    assert first.image.tobytes() == again.image.tobytes()
    assert first.points.tobytes() == again.points.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_after_everything_dots_are_where_their_points_say_on_their_labels() -> None:
    errors = []
    for seed in range(40):
        crop = augmented_crop(drawn(), (0, 0), SQUARE, np.random.default_rng(seed))

        assert crop.image.shape == (SIDE, SIDE, 3)
        inside = ((crop.points > 7) & (crop.points < SIDE - 7)).all(axis=1)
        errors += [np.hypot(*(centroid(crop.image, point) - point)) for point in crop.points[inside]]
        np.testing.assert_array_equal(crop.complete[~crop.ignored], crop.regions[~crop.ignored] + 4)
    assert len(errors) > 60
    # Recoloured dots are no Gaussians any more, which shifts their centroids in front of a border.
    assert np.mean(errors) < 0.1


def fields(example: Example) -> dict[str, object]:
    return {name: getattr(example, name) for name in Example.__dataclass_fields__}
