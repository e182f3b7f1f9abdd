"""OME-Zarr (a folder of chunks, versions 0.4 and 0.5) as blocks of exact level pixels.

In comes the folder, out come 8-bit RGB blocks; `pixels.open_pixels` decides to come here. Needs the extra `zarr`.
The format lets chunks of one colour be left out, and readers fill them in; an incomplete copy looks just the same. So
a chunk that is not there is refused, as a damaged tile of any other format is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import ImageError
from tissuebridge.project.pixels import FilePixels, check_size, pyramid

_UM_PER_UNIT: Final = {
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_RGB: Final = ("FF0000", "00FF00", "0000FF")


class ZarrPixels(FilePixels):
    """The first multiscale image of an OME-Zarr.

    Args:
        path: Its folder.

    Raises:
        ImageError: It is no OME-Zarr, has planes, or is not 8-bit RGB; or `zarr` is not installed.
    """

    def __init__(self, path: Path) -> None:
        group = _opened(path)
        attributes = _attributes(group)
        if "multiscales" not in attributes and "0" in group:
            # A file of several images, as converters write it.
            group = group["0"]
            attributes = _attributes(group)
        try:
            image = attributes["multiscales"][0]
            datasets, axes = image["datasets"], [axis["name"] for axis in image["axes"]]
        except (KeyError, IndexError, TypeError) as error:
            raise ImageError(
                f"{path.name}: it has no image of OME-Zarr 0.4 or 0.5 ({error}); write it anew"
            ) from error
        arrays = [group[dataset["path"]] for dataset in datasets]
        _check(path.name, arrays, axes, attributes)
        sizes = [(array.shape[axes.index("x")], array.shape[axes.index("y")]) for array in arrays]
        check_size(path.name, *sizes[0])
        known = pyramid(sizes)
        self._axes, self._arrays = axes, [arrays[index] for index in known]
        super().__init__(path.name, list(known.values()), _calibration(image, datasets[0], axes))

    def _decode(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        array = self._arrays[level]
        wanted = {"x": slice(x, x + width), "y": slice(y, y + height), "c": slice(0, 3)}
        place = tuple(wanted.get(axis, slice(0, 1)) for axis in self._axes)
        _check_chunks(array, place)
        block = np.asarray(array[place])
        order = [self._axes.index(axis) for axis in "yxc"]
        others = [axis for axis in range(block.ndim) if axis not in order]
        return np.ascontiguousarray(block.transpose(*others, *order).reshape(height, width, 3))

    def close(self) -> None:
        """Nothing is held open."""


def _opened(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImageError(f"{path.name}: OME-Zarr needs pip install 'tissuebridge[zarr]'") from error
    return zarr.open_group(path, mode="r")


def _attributes(group: Any) -> Mapping[str, Any]:
    """What OME says of a group: under its own name since version 0.5."""
    attributes = dict(group.attrs)
    found = attributes.get("ome", attributes)
    return found if isinstance(found, Mapping) else {}


def _check(name: str, arrays: Sequence[Any], axes: Sequence[str], attributes: Mapping[str, Any]) -> None:
    """Refuses what is not one plane of 8-bit RGB.

    Raises:
        ImageError: Says what it is.
    """
    cure = "brightfield RGB is needed"
    if any(array.ndim != len(axes) or np.dtype(array.dtype) != np.uint8 for array in arrays):
        raise ImageError(f"{name}: its pixels are {arrays[0].dtype}, not 8-bit; {cure}")
    if not {"x", "y", "c"} <= set(axes) or arrays[0].shape[axes.index("c")] != 3:
        raise ImageError(f"{name}: it has not three channels; {cure}")
    if any(size != 1 for axis, size in zip(axes, arrays[0].shape, strict=True) if axis not in "xyc"):
        raise ImageError(
            f"{name}: it has several planes or time points; write the wanted one as an image of its own"
        )
    channels = attributes.get("omero", {}).get("channels", [])
    colours = tuple(str(channel.get("color", "")).upper() for channel in channels)
    if all(colours) and len(colours) == 3 and colours != _RGB:
        raise ImageError(f"{name}: its channels are coloured {', '.join(colours)}: fluorescence; {cure}")


def _calibration(
    image: Mapping[str, Any], dataset: Mapping[str, Any], axes: Sequence[str]
) -> tuple[float, float] | None:
    """The pixel size (x, y) in um; None where the file tells none in a unit of length."""
    units = {axis["name"]: axis.get("unit") for axis in image["axes"]}
    scale = dict.fromkeys(axes, 1.0)
    for told in (dataset, image):
        for step in told.get("coordinateTransformations", []):
            if step.get("type") == "scale":
                scale = {
                    axis: scale[axis] * float(factor)
                    for axis, factor in zip(axes, step["scale"], strict=True)
                }
    if units["x"] not in _UM_PER_UNIT or units["y"] not in _UM_PER_UNIT:
        return None
    return scale["x"] * _UM_PER_UNIT[units["x"]], scale["y"] * _UM_PER_UNIT[units["y"]]


def _check_chunks(array: Any, place: Sequence[slice]) -> None:
    """Refuses a block of which a chunk's file is not there.

    Raises:
        ValueError: Names the file.
    """
    sides = array.shards or array.chunks
    folder = Path(array.store.root) / array.path
    ranges = (
        range(one.start // side, (one.stop - 1) // side + 1) for one, side in zip(place, sides, strict=True)
    )
    for chunk in product(*ranges):
        file = folder / array.metadata.encode_chunk_key(chunk)
        if not file.is_file():
            raise ValueError(f"chunk {file.relative_to(array.store.root)} is not there")
