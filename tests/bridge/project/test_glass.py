"""Empty glass is skipped, tissue never: told from a thumbnail, on slides as scanners make them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drawn_tissue import ArrayImage
from tissuebridge.project.glass import glass_blocks
from tissuebridge.project.resample import BlockCache, Grid
from tissuebridge.tiles import BLOCK_PX

SIDE = 3072
TILE = 1536


def slide(seed: int, noise: float = 2.0, shade: float = 3.0) -> NDArray[np.float32]:
    """Glass with the noise of a camera and light that falls off towards the edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    light = shade * (x**2 + y**2) / 2
    return np.array([243, 241, 244], np.float32) - light[..., None] + rng.normal(0, noise, (SIDE, SIDE, 3))


def scanned(pixels: NDArray[np.float32], quality: int = 80) -> NDArray[np.uint8]:
    """As a scanner keeps it: JPEG."""
    ok, data = cv2.imencode(
        ".jpg", np.clip(pixels, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert ok
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def found(pixels: NDArray[np.uint8], downsample: float = 1.0) -> NDArray[np.bool_]:
    image = ArrayImage(pixels)
    grid = Grid(round(pixels.shape[1] / downsample), round(pixels.shape[0] / downsample), downsample)
    with BlockCache(image.open_pixels()) as source:
        return glass_blocks(source, grid)


def test_an_empty_slide_is_all_glass() -> None:
    assert found(scanned(slide(0))).mean() > 0.95


def test_what_a_scanner_fills_in_is_glass() -> None:
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[:1024, :1024] = scanned(slide(1))[:1024, :1024]
    cv2.circle(pixels, (500, 500), 200, (200, 100, 190), -1)

    glass = found(pixels)

    assert not glass[:4, :4].any()
    assert glass[6:, 6:].all()


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["disc", "fibre", "specks"]),
    st.sampled_from([(238, 208, 226), (225, 190, 215), (205, 200, 228)]),
)
def test_no_tile_with_a_thousandth_of_tissue_is_skipped(
    seed: int, shape: str, color: tuple[int, int, int]
) -> None:
    """Also pale eosin, as a disc, a fibre of a few px, or specks strewn about."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    row, col = rng.integers(0, SIDE - TILE, 2)
    needed = TILE * TILE // 1000 + 1
    if shape == "disc":
        radius = int(np.ceil(np.sqrt(needed / np.pi)))
        cv2.circle(mask, (int(col) + TILE // 2, int(row) + TILE // 2), radius, 1, -1)
    elif shape == "fibre":
        cv2.line(mask, (int(col), int(row)), (int(col) + 1000, int(row) + 300), 1, 3)
    else:
        for y, x in rng.integers(20, TILE - 20, (40, 2)):
            cv2.circle(mask, (int(col + x), int(row + y)), 5, 1, -1)
    assert mask.sum() >= needed
    pixels = slide(seed)
    pixels[mask > 0] = np.array(color, np.float32) + rng.normal(0, 4, (int(mask.sum()), 3))

    glass = found(scanned(pixels))

    # Stronger than by tiles: hardly any tissue lies in a skipped block at all.
    blocks = np.kron(glass, np.ones((BLOCK_PX, BLOCK_PX), np.uint8))[:SIDE, :SIDE]
    assert (mask * blocks).sum() < 0.1 * mask.sum()
    assert glass.mean() > 0.2


@pytest.mark.parametrize("downsample", [1.0, 2.0, 1.7])
def test_tissue_is_found_at_any_pixel_size(downsample: float) -> None:
    pixels = slide(3)
    cv2.circle(pixels, (800, 900), 150, (215, 160, 205), -1)

    glass = found(scanned(pixels), downsample)

    block = int(900 / downsample // BLOCK_PX), int(800 / downsample // BLOCK_PX)
    assert not glass[block]
    assert glass.any()


def test_a_slide_without_any_glass_is_not_skipped() -> None:
    rng = np.random.default_rng(5)
    coarse = rng.normal(0, 20, (SIDE // 8, SIDE // 8, 3)).astype(np.float32)
    pixels = np.array([200, 120, 190], np.float32) + cv2.resize(coarse, (SIDE, SIDE))

    assert not found(scanned(pixels)).any()
