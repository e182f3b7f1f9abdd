"""Interfaces, their bands and moved borders against drawings by hand, random places and shapely's buffers."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import UsageError
from tissuebridge.spatial import tissue_raster
from tissuebridge.spatial.bands import profile
from tissuebridge.spatial.distances import signed_distance
from tissuebridge.spatial.interfaces import Interface, meeting_lines
from tissuebridge.spatial.nulls import stratum_of
from tissuebridge.spatial.window import Window

TUMOR = Window.of(shapely.box(0, 0, 500, 1000), name="Tumor")
STROMA = Window.of(shapely.box(500, 0, 1000, 1000), name="Stroma")
TISSUE = Window.of(shapely.box(0, 0, 1000, 1000))


def interface(strata: list[Window], edges: list[float], moved_um: float = 0.0) -> Interface:
    [found] = Interface.of(strata, edges, [moved_um])
    return found


def rough(vertices: int = 3000) -> Window:
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    radius = 250 + 30 * np.sin(5 * angle) + np.random.default_rng(3).uniform(-3, 3, vertices)
    return Window.of(shapely.Polygon(np.c_[500 + radius * np.cos(angle), 500 + radius * np.sin(angle)]))


# ---- Where regions meet ----------------------------------------------------------------------------------


def test_interfaces_leave_out_glass_and_the_edge() -> None:
    met = interface([TUMOR, STROMA], [-10, 10])

    assert met.line.length_um == pytest.approx(1000, abs=5)
    # Towards the slide's edge, which is nearer, nothing is measured.
    assert met.distance(np.array([[100.0, 500.0]])) == pytest.approx([-400], abs=2)


def test_hand_drawn_gaps_are_still_an_interface() -> None:
    apart = shapely.box(501.5, 0, 1000, 1000)

    assert meeting_lines(TUMOR.area, [apart], 2.0)[0].length_um == pytest.approx(1000, abs=5)
    assert not len(meeting_lines(TUMOR.area, [apart], 1.0)[0].pieces)


def test_regions_that_meet_nothing_have_no_interface() -> None:
    far = Window.of(shapely.box(700, 0, 1000, 1000))

    assert Interface.of([TUMOR, far], [-10, 10]) == []
    assert Interface.of([TUMOR], [-10, 10]) == []


def test_each_piece_belongs_to_whom_it_meets() -> None:
    above, below = shapely.box(500, 0, 1000, 300), shapely.box(500, 300, 1000, 1000)

    lengths = [line.length_um for line in meeting_lines(TUMOR.area, [above, below])]

    assert lengths == pytest.approx([300, 700], abs=4)


# ---- Bands -----------------------------------------------------------------------------------------------


def test_band_areas_are_known_of_a_disc() -> None:
    disc = Window.of(shapely.Point(500, 500).buffer(200, quad_segs=256))

    bands = interface([disc, Window.of(TISSUE.area, [disc.area])], [-50, -20, 0, 30, 60]).bands

    radii = np.array([150, 180, 200, 230, 260])
    areas = np.pi * np.diff(radii**2)
    assert bands.areas[0] == pytest.approx(areas * [1, 1, 0, 0], rel=1e-4)
    assert bands.areas[1] == pytest.approx(areas * [0, 0, 1, 1], rel=1e-4)


def test_band_areas_stop_at_the_windows_edge_and_strata_add_up() -> None:
    bands = interface([TUMOR, STROMA], [-30, -10, 10, 600]).bands

    # At its ends, an interface runs round the corner as far as a gap may be wide.
    assert bands.areas[0] == pytest.approx([20_000, 10_000, 0], abs=30)
    assert bands.areas[1] == pytest.approx([0, 10_000, 490_000], abs=30)


def test_bands_round_a_rough_outline_are_those_of_many_random_places() -> None:
    tumor = rough()
    met = interface([tumor, Window.of(TISSUE.area, [tumor.area])], [-40, -10, -5, 0, 5, 10, 40])

    bands = met.bands

    points = np.random.default_rng(4).uniform(0, 1000, (1_000_000, 2))
    counts = bands.counts(met.distance(points))
    assert bands.areas.sum(axis=0) == pytest.approx(counts, abs=4 * np.sqrt(counts.max()))
    assert (bands.areas[0, 3:] == 0).all()
    assert (bands.areas[1, :3] == 0).all()


def test_bands_are_the_same_strip_by_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = interface([TUMOR, STROMA], [-200, -30, 0, 70]).bands.areas
    monkeypatch.setattr(tissue_raster, "_AT_ONCE", 1)

    assert interface([TUMOR, STROMA], [-200, -30, 0, 70]).bands.areas == pytest.approx(whole)


@pytest.mark.parametrize("edges", [[], [5], [3, 1], [0, np.nan], [1, 1]])
def test_bands_that_do_not_increase_are_refused(edges: list[float]) -> None:
    with pytest.raises(UsageError, match="increasing"):
        Interface.of([TUMOR, STROMA], edges)


def test_an_infiltration_curve_is_flat_for_uniform_cells() -> None:
    points = TISSUE.sample(20_000, np.random.default_rng(0))
    met = interface([TUMOR, STROMA], [-200, -100, 0, 100, 200])

    curve = profile("CD3", "Tumor", met.bands, met.distance(points))

    assert [(low, high) for low, high, _ in curve] == [(-200, -100), (-100, 0), (0, 100), (100, 200)]
    assert [d.per_mm2 for *_, d in curve] == pytest.approx([20_000] * 4, rel=0.08)


# ---- Moved borders ---------------------------------------------------------------------------------------


def moved_by_hand(region: BaseGeometry, others: list[BaseGeometry], by_um: float) -> list[BaseGeometry]:
    """By shapely's buffers; a strip that is lost belongs to whichever is nearer."""
    if by_um > 0:
        grown = region.buffer(by_um, quad_segs=64).intersection(shapely.union_all([region, *others]))
        return [grown, *(other - grown for other in others)]
    near = [region & other.buffer(-by_um, quad_segs=64) for other in others]
    return [
        region - shapely.union_all(near),
        *(other | strip for other, strip in zip(others, near, strict=True)),
    ]


@pytest.mark.parametrize("by_um", [-5.0, 5.0])
def test_a_moved_border_is_that_of_buffers(by_um: float) -> None:
    tumor = rough(300)
    stroma = Window.of(TISSUE.area & shapely.box(0, 0, 1000, 500), [tumor.area])
    fat = Window.of(TISSUE.area & shapely.box(0, 500, 1000, 1000), [tumor.area])

    met = interface([tumor, stroma, fat], [-50, -10, 0, 10, 50], by_um)

    by_hand = [Window.of(area) for area in moved_by_hand(tumor.area, [stroma.area, fat.area], by_um)]
    assert met.areas_um2 == pytest.approx([one.area_um2 for one in by_hand], abs=60)
    assert sum(met.areas_um2) == pytest.approx(1e6)
    assert met.line.length_um == pytest.approx(by_hand[0].border.length_um, rel=0.01)
    points = np.random.default_rng(4).uniform(0, 1000, (300_000, 2))
    stratum, distances = met.locate(points)
    expected = signed_distance(by_hand[0], points)
    assert np.abs(distances - expected).max() < 0.6
    assert (stratum != stratum_of(by_hand, points)).mean() < 2e-4
    for one in range(3):
        counts = met.bands.counts(distances[stratum == one]) / 0.3
        assert met.bands.areas[one] == pytest.approx(counts, abs=4 * np.sqrt(counts.max() / 0.3) + 1)


def test_what_a_move_swallows_has_no_border_left() -> None:
    """An island of 8 um is gone when the tissue round it grows by 5 um; so is the distance to it."""
    island = shapely.box(200, 500, 208, 508)
    tumor = Window.of(TUMOR.area, [island])
    stroma = Window.of(STROMA.area | island)

    met = interface([tumor, stroma], [-100, 0, 100], 5.0)

    assert met.distance(np.array([[204.0, 504.0]])) == pytest.approx([-301], abs=0.5)
    assert met.areas_um2 == pytest.approx([505_000, 495_000], abs=40)


def test_moves_that_leave_nothing_are_left_out() -> None:
    thin = Window.of(shapely.box(496, 0, 500, 1000))

    assert [met.moved_um for met in Interface.of([thin, STROMA], [-10, 0, 10], [0.0, -5.0, 5.0])] == [
        0.0,
        5.0,
    ]


def test_moved_borders_are_the_same_strip_by_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    strata = [TUMOR, STROMA]
    whole = interface(strata, [-200, -30, 0, 70], -5.0)
    monkeypatch.setattr(tissue_raster, "_AT_ONCE", 1)

    strips = interface(strata, [-200, -30, 0, 70], -5.0)

    assert strips.bands.areas == pytest.approx(whole.bands.areas, rel=1e-4)
    assert strips.line.length_um == pytest.approx(whole.line.length_um, rel=1e-4)


def test_cells_outside_all_strata_stay_outside() -> None:
    points = np.array([[498.0, 10.0], [502.0, 10.0], [1200.0, 10.0]])

    found = [
        interface([TUMOR, STROMA], [-10, 0, 10], by_um).locate(points)[0].tolist()
        for by_um in (-5.0, 0.0, 5.0)
    ]

    assert found == [[1, 1, -1], [0, 1, -1], [0, 0, -1]]
