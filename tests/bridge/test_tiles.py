import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from shapely.geometry.collection import GeometryCollection

from tissuebridge.errors import UsageError
from tissuebridge.tiles import BLOCK_PX, AnalysedArea, TilePlan, Window, batches, halo_px

SIZES = st.integers(1, 700)
PLANS = st.builds(
    lambda height, width, stride, tile_size, halo: TilePlan.of(
        height, width, stride=stride, tile_size=tile_size, halo=halo * stride
    ),
    SIZES,
    SIZES,
    st.sampled_from([1, 8, 16]),
    st.integers(40, 900),
    st.integers(0, 10),
)


@settings(max_examples=60, deadline=None)
@given(plan=PLANS)
def test_the_cores_cover_the_padded_extent_once(plan: TilePlan) -> None:
    covered = np.zeros((plan.padded_height, plan.padded_width), np.uint8)

    for strip in range(plan.strips):
        for tile in plan.tiles(strip):
            covered[tile.core.slices(Window(0, 0, 0, 0))] += 1

    assert (covered == 1).all()


@settings(max_examples=60, deadline=None)
@given(plan=PLANS)
def test_every_tile_starts_and_ends_on_the_stride_and_stays_inside(plan: TilePlan) -> None:

    for strip in range(plan.strips):
        for tile in plan.tiles(strip):
            for window in (tile.core, tile.context):
                corners = (window.row, window.col, window.bottom, window.right)
                assert all(corner % plan.stride == 0 for corner in corners)
            context = tile.context
            assert context.row == max(tile.core.row - plan.halo, 0)
            assert context.right == min(tile.core.right + plan.halo, plan.padded_width)


@pytest.mark.parametrize("tile_size", [0, -1, 10**9])
def test_an_impossible_tile_size_is_refused_with_the_range(tile_size: int) -> None:
    with pytest.raises(UsageError, match="must be from 1 to 16384"):
        TilePlan.of(100, 100, stride=16, tile_size=tile_size, halo=16)


def test_a_halo_off_the_stride_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of the model's stride 16"):
        TilePlan.of(100, 100, stride=16, tile_size=64, halo=137)


@pytest.mark.parametrize(
    ("reach", "radii", "expected"), [(137, [6.2], 144), (137, [7.0], 160), (15, [], 16), (16, [], 32)]
)
def test_the_halo_covers_reach_disc_and_one_pixel_more(reach: int, radii: list[float], expected: int) -> None:
    assert halo_px(reach, radii, 16) == expected


def test_batches_hold_equal_shapes_in_order_and_all_tiles() -> None:
    tiles = TilePlan.of(100, 1000, stride=16, tile_size=96, halo=32).tiles(0)

    grouped = list(batches(tiles, 4))

    assert [tile for batch in grouped for tile in batch] == tiles
    assert max(len(batch) for batch in grouped) == 4
    for batch in grouped:
        assert len({(tile.context.height, tile.context.width) for tile in batch}) == 1


STAR = Polygon([(10.2, 5), (900, 130.7), (400, 333.3), (777, 801), (333.1, 420), (50, 640.5), (222, 300)])


@pytest.mark.parametrize("downsample", [1.0, 1.7, 0.6])
@settings(max_examples=25, deadline=None)
@given(
    row=st.integers(0, 400), col=st.integers(0, 400), height=st.integers(1, 300), width=st.integers(1, 300)
)
def test_a_windows_mask_is_the_windows_part_of_the_whole(
    downsample: float, row: int, col: int, height: int, width: int
) -> None:
    area = AnalysedArea(700, 700, downsample, STAR)

    whole = area.within(Window(0, 0, 700, 700))

    window = Window(row, col, height, width)
    assert np.array_equal(area.within(window), whole[window.slices(Window(0, 0, 0, 0))])


def test_a_pixel_is_analysed_if_its_centre_is_in_the_region_of_interest() -> None:
    area = AnalysedArea(300, 600, 2.0, STAR)
    rows, cols = np.mgrid[:300:7, :600:7]

    mask = area.within(Window(0, 0, 300, 600))

    inside = [
        STAR.contains(Point((col + 0.5) * 2.0, (row + 0.5) * 2.0))
        for row, col in zip(rows.ravel(), cols.ravel(), strict=True)
    ]
    assert np.array_equal(mask[rows.ravel(), cols.ravel()], inside)
    assert 0 < sum(inside) < len(inside)
    assert area.count() == mask.sum()


def test_skipped_blocks_are_not_analysed_and_their_tiles_are_not_touched() -> None:
    skipped = np.zeros((2, 3), np.bool_)
    skipped[0, 1] = True
    area = AnalysedArea(400, 700, 1.0, skipped_blocks=skipped)

    mask = area.within(Window(0, 0, 400, 700))

    assert not mask[:BLOCK_PX, BLOCK_PX : 2 * BLOCK_PX].any()
    assert mask.sum() == area.count() == 400 * 700 - BLOCK_PX**2
    assert not area.touches(Window(10, 300, 200, 200))
    assert area.touches(Window(10, 300, 200, 213))


def test_a_window_beyond_the_grid_is_not_touched() -> None:
    area = AnalysedArea(100, 100, 1.0)

    assert not area.touches(Window(100, 96, 12, 16))
    assert area.touches(Window(96, 96, 16, 16))


def test_lines_in_a_region_of_interest_analyse_nothing() -> None:
    mixed = GeometryCollection([LineString([(0, 0), (300, 300)]), MultiPolygon([box(10, 10, 20, 20)])])

    assert AnalysedArea(300, 300, 1.0, mixed).count() == 100


def test_blocks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"expected \(2, 3\)"):
        AnalysedArea(400, 700, 1.0, skipped_blocks=np.zeros((3, 2), np.bool_))


def test_digests_tell_areas_apart() -> None:
    square, star = AnalysedArea(9, 9, 1.0, box(0, 0, 5, 5)), AnalysedArea(9, 9, 1.0, STAR)

    assert square.digests != star.digests
    assert AnalysedArea(9, 9, 1.0).digests == ("", "")
    assert AnalysedArea(9, 9, 1.0, skipped_blocks=np.ones((1, 1), np.bool_)).digests[1] != ""
