"""Two classes under random shifts: the level is kept where each clusters by itself, and who follows is found."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from tissuebridge.objects import PathClass, PathObject
from tissuebridge.spatial.image_pairs import pair_rows
from tissuebridge.spatial.pair_shifting import ShiftedPair, shifted_pairs
from tissuebridge.spatial.ripley import as_l, ripley_k
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.tissue import tissue_of
from tissuebridge.spatial.window import Window

SIDE = 300.0
R = np.arange(6.0, 31.0, 4.0)
OUTLINE = shapely.union_all([shapely.Point(150, 150).buffer(150), shapely.box(0, 0, 150, 150)])
"""A disc with one corner: no rectangle, so that moves lose cells on all sides."""
WINDOW = Window.of(OUTLINE)


def clusters(random: np.random.Generator) -> NDArray[np.float64]:
    """About 6 cells in each of about 30 clusters of 6 um, in the window."""
    parents = random.uniform(-20, SIDE + 20, (30, 2))
    points = np.repeat(parents, random.poisson(6, 30), axis=0)
    points = points + random.normal(0, 6, points.shape)
    return points[WINDOW.contains(points)]


def followers(of: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """A third as many cells, each within about 8 um of one of the others."""
    near = of[::3] + random.normal(0, 5, of[::3].shape)
    return near[WINDOW.contains(near)]


def shifted(
    first: NDArray[np.float64], second: NDArray[np.float64], simulations: int = 99, seed: int = 0
) -> ShiftedPair:
    cells = {"A": first, "B": second}
    return shifted_pairs(cells, [("A", "B")], WINDOW, R, 75, simulations=simulations, seed=seed)["A", "B"]


def test_p_is_uniform_where_clusters_of_two_classes_are_independent() -> None:
    """Of 120 runs 6 are expected at 5 % (12 or more: 2 %), 60 up to one half. Strata as the null reject 13 of 30."""
    p = []
    for run in range(120):
        random = np.random.default_rng(run)
        found = shifted(clusters(random), clusters(random), seed=run)
        p.append((found.mad.value, found.dclf.value))
    values = np.array(p, np.float64)

    for of_test in values.T:
        assert (of_test <= 0.05).sum() <= 11
        assert 42 <= (of_test <= 0.5).sum() <= 78
        assert (of_test > 0.8).sum() >= 12


def test_who_follows_is_found_and_who_is_kept_off_too() -> None:
    for run in range(8):
        random = np.random.default_rng(run)
        others = clusters(random)

        found = shifted(followers(others, random), others, seed=run)

        assert found.mad.value is not None
        assert found.mad.value <= 0.05
        assert found.mad.null == "random shift"
        assert found.mad.how == "99 simulations"
        # At 14 um, the third radius.
        assert found.off_um[2] > found.chance_um[1, 2]

    away = random.uniform(0, SIDE, (400, 2))
    away = away[WINDOW.contains(away)]
    away = away[np.hypot(*(away[:, None] - others).transpose(2, 0, 1)).min(axis=1) > 15]
    found = shifted(away, others)
    assert (found.mad.value or 1) <= 0.05
    assert found.off_um[2] < found.chance_um[0, 2]


def test_the_effect_is_cross_l_with_the_edge_taken_off() -> None:
    random = np.random.default_rng(3)
    first, second = random.uniform(0, SIDE, (2, 600, 2))
    first, second = first[WINDOW.contains(first)], second[WINDOW.contains(second)]

    found = shifted(first, second, 19)

    expected = as_l(ripley_k(first, WINDOW, R, second)).values - R
    # Positions are those of pixels of 4 um.
    assert found.off_um[2:] == pytest.approx(expected[2:], abs=0.6)


def test_the_same_seed_gives_the_same_p_and_another_class_does_not_matter() -> None:
    random = np.random.default_rng(4)
    cells = {"A": clusters(random), "B": clusters(random), "C": clusters(random)}

    alone = shifted(cells["A"], cells["B"], seed=5)
    found = shifted_pairs(cells, [("A", "B"), ("A", "C")], WINDOW, R, 75, simulations=99, seed=5)

    assert found["A", "B"].mad == alone.mad
    assert found["A", "C"].mad != alone.mad


# ---- The table -------------------------------------------------------------------------------------------


def drawn(name: str, geometry: shapely.Geometry) -> PathObject:
    return PathObject(geometry, path_class=PathClass(name))


def table(*objects: PathObject) -> list[Row]:
    """Of an image of 300 x 300 um in pixels of 1 um."""
    settings = SpatialSettings(simulations=99, radii_um=(30.0, 2.0))
    return pair_rows(tissue_of(objects, 1.0, int(SIDE), int(SIDE), settings), settings)


def test_the_table_tells_effect_p_and_q_of_each_pair_in_each_region() -> None:
    """B follows A on the left; on the right each clusters by itself."""
    random = np.random.default_rng(1)

    def of(left: float) -> NDArray[np.float64]:
        parents = np.repeat(
            np.c_[random.uniform(left, left + 150, 20), random.uniform(0, SIDE, 20)], 6, axis=0
        )
        return np.clip(parents + random.normal(0, 5, parents.shape), (left + 0.5, 0), (left + 149.5, SIDE))

    a, other, alone = of(0), of(150), of(150)
    near = np.clip(a[::2] + random.normal(0, 4, a[::2].shape), (0, 0), (149.5, SIDE))
    rows = table(
        drawn("Left", shapely.box(0, 0, 150, SIDE)),
        drawn("Right", shapely.box(150, 0, SIDE, SIDE)),
        drawn("A", shapely.MultiPoint(np.concatenate([a, other]))),
        drawn("B", shapely.MultiPoint(np.concatenate([near, alone]))),
    )

    assert [(row["region"], row["class"], row["other"], row["r_um"]) for row in rows] == [
        (region, "A", "B", r) for region in ("Left", "Right") for r in (10.0, 20.0, 30.0)
    ]
    left, right = rows[0], rows[3]
    assert left["p_mad"] is not None
    assert left["p_mad"] <= 0.05 < (right["p_mad"] or 0)
    assert left["q_mad"] == pytest.approx(min(2 * float(left["p_mad"]), float(right["p_mad"] or 0)))
    assert float(left["l_minus_r_um"] or 0) > float(left["chance_high_um"] or 0)
    assert left["family"] == "the 2 tests of pairs of this image"
    assert (left["from_um"], left["to_um"], left["null"]) == (6.0, 30.0, "random shift")


@pytest.mark.parametrize(
    ("cells", "side", "reason"),
    [([[10, 10]], SIDE, "fewer than 2 cells"), ([[1, 1], [2, 2]], 16, "the window is too small")],
    ids=["one cell", "a small window"],
)
def test_what_cannot_be_tested_has_a_reason(cells: list[list[float]], side: float, reason: str) -> None:
    region = drawn("Tumor", shapely.box(0, 0, side, side))

    rows = table(
        region, drawn("A", shapely.MultiPoint(cells)), drawn("B", shapely.MultiPoint([[3, 3], [4, 4]]))
    )

    assert [(row["p_mad"], row["q_mad"], row["reason"]) for row in rows] == [(None, None, reason)]
