"""Small annotated tissue drawn in code, for tests of the training."""

import numpy as np

from tissuemodel.labels import Example

TISSUE = ((205, 150, 190), (170, 190, 225))
CELLS = ((110, 60, 20), (200, 30, 40))


def drawn(seed: int, side: int = 96) -> Example:
    """Two tissues with a wavy border, brown and red cells on them, noise; completely annotated."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side, :side] + 0.5
    regions = (cols + 8 * np.sin(rows / 9 + seed) > side / 2).astype(np.uint8)
    image = np.array(TISSUE, float)[regions]
    grid = np.stack(np.meshgrid(*[np.arange(12.0, side - 6, 18)] * 2), axis=-1).reshape(-1, 2)
    points = (grid + rng.uniform(-4, 4, grid.shape)).astype(np.float32)
    kinds = rng.integers(0, 2, len(points)).astype(np.uint8)
    for (x, y), kind in zip(points, kinds, strict=True):
        weight = np.exp(-((((cols - x) ** 2 + (rows - y) ** 2) / 14) ** 2))[..., None]
        image = (1 - weight) * image + weight * np.array(CELLS[kind])
    return Example(
        name=f"drawn {seed}",
        image=np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8),
        regions=regions,
        points=points,
        point_classes=kinds,
        negatives=np.zeros((0, 2), np.float32),
        complete=np.full((side, side), 3, np.uint16),
        ignored=np.zeros((side, side), np.bool_),
    )
