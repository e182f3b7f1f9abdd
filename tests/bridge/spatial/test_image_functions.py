"""The table of functions: as the functions themselves give them, for every window, and never without a reason."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from tissuebridge.objects import PathClass, PathObject
from tissuebridge.spatial.image_functions import function_rows, radii
from tissuebridge.spatial.nearest import empty_space_f, nearest_g
from tissuebridge.spatial.pair_correlation import pair_correlation
from tissuebridge.spatial.ripley import as_l, ripley_k
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.tissue import tissue_of
from tissuebridge.spatial.window import Window

SETTINGS = SpatialSettings(radii_um=(40.0, 4.0))
SIDE = 800
"""Of a drawn image, px of half a micrometre."""


def drawn(name: str, geometry: shapely.Geometry) -> PathObject:
    return PathObject(geometry, path_class=PathClass(name))


def table(cells: dict[str, NDArray[np.float64]], *regions: PathObject) -> list[Row]:
    """Of cells in um."""
    dots = [drawn(name, shapely.MultiPoint(points * 2)) for name, points in cells.items()]
    return function_rows(tissue_of([*regions, *dots], 0.5, SIDE, SIDE), SETTINGS)


def column(rows: list[Row], name: str, region: str, first: str, second: str) -> NDArray[np.float64]:
    wanted = (region, first, second)
    return np.array(
        [row[name] for row in rows if (row["region"], row["class"], row["other"]) == wanted], np.float64
    )


def two_halves(seed: int = 0) -> tuple[dict[str, NDArray[np.float64]], list[Row]]:
    random = np.random.default_rng(seed)
    cells = {"A": random.uniform(0, 400, (240, 2)), "B": random.uniform(0, 400, (120, 2))}
    halves = (
        drawn("Left", shapely.box(0, 0, SIDE / 2, SIDE)),
        drawn("Right", shapely.box(SIDE / 2, 0, SIDE, SIDE)),
    )
    return cells, table(cells, *halves)


def test_the_table_holds_what_the_functions_give_in_every_window() -> None:
    cells, rows = two_halves()

    assert {row["region"] for row in rows} == {"tissue", "Left", "Right"}
    assert len(rows) == 3 * 4 * 10
    window = Window.of(shapely.box(0, 0, 200, 400))
    a, b = (cells[name][cells[name][:, 0] <= 200] for name in "AB")
    r = radii(window, SETTINGS)
    assert column(rows, "r_um", "Left", "A", "B") == pytest.approx(r)
    k, own = ripley_k(a, window, r, b), ripley_k(a, window, r)
    assert column(rows, "K_um2", "Left", "A", "B") == pytest.approx(k.values)
    assert column(rows, "K_um2", "Left", "B", "A") == pytest.approx(k.values)
    assert column(rows, "L_um", "Left", "A", "A") == pytest.approx(as_l(own).values)
    assert column(rows, "K_random_um2", "Left", "A", "A") == pytest.approx(np.pi * r**2)
    g = nearest_g(b, window, r, a)
    assert column(rows, "nearest_G", "Left", "B", "A") == pytest.approx(g.values)
    assert column(rows, "nearest_G_random", "Left", "B", "A") == pytest.approx(g.random)
    f = empty_space_f(a, window, r)
    assert column(rows, "empty_space_F", "Left", "B", "A") == pytest.approx(f.values)
    assert {row["cells"] for row in rows if row["region"] == "Left" and row["class"] == "A"} == {len(a)}


def test_g_is_that_of_its_kernel_and_has_a_reason_below_it() -> None:
    cells, rows = two_halves()
    window = Window.of(shapely.box(0, 0, 400, 400))
    r = radii(window, SETTINGS)
    # Stoyan's half width would be 5.5 um for the rarer class.
    h = 0.15 / np.sqrt(120 / 160_000)

    g = column(rows, "g", "tissue", "A", "B")

    expected = pair_correlation(cells["A"], window, r, cells["B"], half_width_um=float(h)).values
    assert np.isnan(g[0])
    assert g[1:] == pytest.approx(expected[1:])
    first = next(row for row in rows if row["other"] == "B" and row["r_um"] == 4.0)
    assert first["reason"] == "g: below the half width of its kernel"


def test_inhomogeneous_forms_take_out_a_gradient_of_density_that_homogeneous_ones_call_clustering() -> None:
    k, weighted, g, weighted_g = [], [], [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        # The density rises from 0 to twice the mean along x.
        cells = {"A": np.c_[400 * np.sqrt(random.random(300)), random.uniform(0, 400, 300)]}
        rows = table(cells)
        k.append(column(rows, "L_um", "tissue", "A", "A")[-1])
        weighted.append(column(rows, "L_inhomogeneous_um", "tissue", "A", "A")[-1])
        g.append(column(rows, "g", "tissue", "A", "A")[-1])
        weighted_g.append(column(rows, "g_inhomogeneous", "tissue", "A", "A")[-1])

    # E of the squared density over the squared mean is 4/3: L is sqrt(4/3) r = 46.2 um at 40 um.
    assert np.mean(k) == pytest.approx(46.0, abs=1.0)
    assert np.mean(weighted) == pytest.approx(40.0, abs=1.5)
    assert np.mean(g) > 1.2
    assert np.mean(weighted_g) == pytest.approx(1.0, abs=0.1)


def test_inhomogeneous_forms_of_few_random_cells_are_near_randomness() -> None:
    own, between = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        rows = table({"A": random.uniform(0, 400, (30, 2)), "B": random.uniform(0, 400, (30, 2))})
        own.append(column(rows, "K_inhomogeneous_um2", "tissue", "A", "A")[-1])
        between.append(column(rows, "K_inhomogeneous_um2", "tissue", "A", "B")[-1])

    # 1.5 between classes where densities are not scaled.
    assert np.mean(own) / (np.pi * 40**2) == pytest.approx(0.9, abs=0.15)
    assert np.mean(between) / (np.pi * 40**2) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("count", "reason"), [(1, "fewer than 2 cells"), (0, None)], ids=["one cell", "no cell, no class"]
)
def test_too_few_cells_have_a_reason(count: int, reason: str | None) -> None:
    rows = table({"A": np.full((count, 2), 50.0)} if count else {})

    assert {row["reason"] for row in rows} == ({reason} if count else set())
    for row in rows:
        assert row["K_um2"] is None
        assert row["nearest_G"] is None
        # One cell is enough to be far from or near to.
        assert row["empty_space_F"] is not None


def test_a_class_that_a_region_lacks_has_a_reason_there() -> None:
    rows = table(
        {"A": np.array([[50.0, 50.0], [60.0, 50.0]]), "B": np.array([[55.0, 50.0]])},
        drawn("Left", shapely.box(0, 0, SIDE / 2, SIDE)),
        drawn("Right", shapely.box(SIDE / 2, 0, SIDE, SIDE)),
    )

    assert {row["reason"] for row in rows if row["region"] == "Right" and row["class"] != row["other"]} == {
        "no cells of one class"
    }
    assert not np.isnan(column(rows, "K_um2", "Left", "A", "B")).any()
    for row in rows:
        values = [value for name, value in row.items() if name != "reason"]
        assert row["reason"] or None not in values
        assert not any(isinstance(value, float) and not np.isfinite(value) for value in values)


def test_a_window_too_small_for_any_radius_has_a_reason() -> None:
    rows = table({"A": np.array([[1.0, 1.0], [2.0, 2.0]])}, drawn("Small", shapely.box(0, 0, 14, 14)))

    assert [(row["r_um"], row["reason"]) for row in rows] == [(None, "the window is too small")] * 2
