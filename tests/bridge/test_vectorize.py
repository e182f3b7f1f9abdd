import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize
from scipy import ndimage

from tissuebridge.objects import COORDINATE_STEP
from tissuebridge.outlines import cut_corners, trace
from tissuebridge.vectorize import RegionPolygon, discs, polygonise
from tissuemodel.labels import IGNORE_LABEL

LABELS = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, max_side=14),
    elements=st.sampled_from([0, 1, 1, 2, IGNORE_LABEL]),
)


def rasterised(regions: list[RegionPolygon], shape: tuple[int, int], downsample: float) -> NDArray[np.uint8]:
    if not regions:
        return np.full(shape, IGNORE_LABEL, np.uint8)
    pairs = [(region.polygon, region.class_index) for region in regions]
    burnt = rasterize(pairs, shape, fill=IGNORE_LABEL, transform=Affine.scale(downsample), dtype="uint8")
    return np.asarray(burnt)


def checkered(height: int, width: int) -> NDArray[np.uint8]:
    """One comb-shaped region with many corners, on which nothing else lies but small holes."""
    labels = np.zeros((height, width), np.uint8)
    labels[1::2, 1::2] = IGNORE_LABEL
    return labels


@pytest.mark.parametrize("downsample", [1.0, 0.5, 2.06])
@settings(max_examples=60, deadline=None)
@given(labels=LABELS)
def test_rasterising_the_polygons_gives_the_labels_back(downsample: float, labels: NDArray[np.uint8]) -> None:
    regions = polygonise(labels, downsample)

    assert np.array_equal(rasterised(regions, labels.shape, downsample), labels)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, downsample=st.sampled_from([0.5, 1.0, 2.06, 0.73]))
def test_polygons_are_valid_also_when_rounded_as_written(
    labels: NDArray[np.uint8], downsample: float
) -> None:
    height, width = labels.shape
    # The smallest image whose grid, rounded half up, has this size.
    size = (math.ceil((width - 0.5) * downsample), math.ceil((height - 0.5) * downsample))

    regions = polygonise(labels, downsample, image_size=size)

    for region in regions:
        written = shapely.transform(
            region.polygon, lambda xy: np.round(xy / COORDINATE_STEP) * COORDINATE_STEP
        )
        assert region.polygon.is_valid
        assert written.is_valid
        assert written.area > 0
        assert written.bounds[2] <= size[0]
        assert written.bounds[3] <= size[1]


@settings(max_examples=60, deadline=None)
@given(labels=LABELS)
def test_there_is_one_polygon_per_component_with_its_first_pixel_and_area(labels: NDArray[np.uint8]) -> None:
    expected = []
    for index in (0, 1, 2):
        components, count = ndimage.label(labels == index)
        for component in range(1, count + 1):
            row, col = np.argwhere(components == component)[0].tolist()
            expected.append((row, col, index, int((components == component).sum())))

    regions = polygonise(labels, 2.0)

    assert [(r.row, r.col, r.class_index, r.area_px) for r in regions] == sorted(expected)
    assert sum(r.polygon.area for r in regions) == pytest.approx(
        4.0 * (labels != IGNORE_LABEL).sum(), abs=2.0 * labels.size
    )


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, simplify_px=st.sampled_from([0.0, 1.0, 2.0]), max_vertices=st.sampled_from([8, 1000]))
def test_neighbours_have_neither_gaps_nor_overlaps(
    labels: NDArray[np.uint8], simplify_px: float, max_vertices: int
) -> None:
    labels = np.where(labels == IGNORE_LABEL, 3, labels).astype(np.uint8)

    regions = polygonise(labels, 1.0, simplify_px=simplify_px, max_vertices=max_vertices, coarse_block_px=4)

    polygons = [region.polygon for region in regions]
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons).sum() == pytest.approx(labels.size)
    assert shapely.union_all(polygons).area == pytest.approx(labels.size)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS)
def test_regions_over_several_blocks_are_those_of_one(labels: NDArray[np.uint8]) -> None:
    of_one = polygonise(labels, 1.0)

    of_many = polygonise(labels, 1.0, coarse_block_px=3)

    assert [replace(region, polygon=shapely.Polygon()) for region in of_many] == [
        replace(region, polygon=shapely.Polygon()) for region in of_one
    ]
    assert np.array_equal(rasterised(of_many, labels.shape, 1.0), labels)
    # Corners on the grid's lines are not cut.
    for one, many in zip(of_one, of_many, strict=True):
        assert shapely.hausdorff_distance(one.polygon, many.polygon) < 0.75


@settings(max_examples=60, deadline=None)
@given(labels=LABELS)
def test_borders_stay_within_half_a_pixel_of_the_pixels_borders(labels: NDArray[np.uint8]) -> None:
    rings, _ = trace(labels)

    cut = cut_corners(rings, labels)

    for exact, polygon in zip(rings.polygons(), cut.polygons(), strict=True):
        assert shapely.hausdorff_distance(exact.boundary, polygon.boundary) <= math.sqrt(0.125)


def test_a_border_of_steps_becomes_a_slope() -> None:
    labels = np.tri(50, dtype=np.uint8)

    regions = polygonise(labels, 1.0)

    assert [shapely.get_num_coordinates(region.polygon) for region in regions] == [8, 6]


def test_simplifying_leaves_corners_out_and_the_frame_alone() -> None:
    row, col = np.mgrid[:200, :200]
    labels = (np.hypot(row - 60, col - 90) < 50).astype(np.uint8)
    labels[150:, 20:] = 2

    exact, simple = polygonise(labels, 1.0), polygonise(labels, 1.0, simplify_px=2.0)

    vertices = [
        shapely.get_num_coordinates([r.polygon for r in regions]).sum() for regions in (exact, simple)
    ]
    assert vertices[1] < vertices[0] / 2
    assert simple[0].polygon.bounds == (0, 0, 200, 200)
    changed = (rasterised(simple, labels.shape, 1.0) != labels).sum()
    assert 0 < changed < 0.01 * labels.size


def test_small_regions_are_left_out() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[2, 2:5] = 1
    labels[6, 2:6] = 2

    regions = polygonise(labels, 1.0, min_area_px=4)

    assert [region.class_index for region in regions] == [0, 2]


@settings(max_examples=30, deadline=None)
@given(labels=LABELS)
def test_regions_with_many_corners_are_cut_on_the_coarse_grid(labels: NDArray[np.uint8]) -> None:
    regions = polygonise(labels, 1.0, max_vertices=8, coarse_block_px=4)

    assert np.array_equal(rasterised(regions, labels.shape, 1.0), labels)
    for region in regions:
        assert region.polygon.is_valid
        if region.block:
            row, col = (int(number) for number in region.block.split(","))
            assert (region.row // 4, region.col // 4) == (row, col)
            assert shapely.box(4 * col, 4 * row, 4 * col + 4, 4 * row + 4).contains(region.polygon)
        else:
            assert shapely.get_num_coordinates(region.polygon) <= 8
    keys = [(region.class_index, region.row, region.col) for region in regions]
    assert len(set(keys)) == len(keys)


def test_a_region_beyond_the_limit_is_really_cut() -> None:
    labels = checkered(211, 415)

    regions = polygonise(labels, 1.0, coarse_block_px=256)

    assert shapely.get_num_coordinates([r.polygon for r in regions]).max() <= 100_000
    assert {region.block for region in regions} == {"0,0", "0,1"}
    assert np.array_equal(rasterised(regions, labels.shape, 1.0), labels)


def test_polygons_end_where_the_image_ends() -> None:
    regions = polygonise(np.zeros((3, 3), np.uint8), 2.0, image_size=(5, 6))

    assert regions[0].polygon.bounds == (0, 0, 5, 6)


def test_discs_have_their_centres_diameters_and_corners() -> None:
    centres = np.random.default_rng(0).random((50, 2)) * 1000
    diameters = np.linspace(5, 20, 50)

    polygons = discs(centres, diameters)

    found = shapely.get_coordinates(shapely.centroid(polygons))
    assert np.allclose(found, centres, atol=1e-6)
    assert np.allclose(shapely.get_coordinates(polygons[7])[0] - centres[7], (diameters[7] / 2, 0))
    assert (shapely.get_num_coordinates(polygons) == 17).all()
    assert shapely.is_valid(polygons).all()


def test_no_cells_give_no_discs() -> None:
    assert len(discs(np.zeros((0, 2)), 10.0)) == 0
