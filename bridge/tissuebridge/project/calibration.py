"""The pixel size that a TIFF's metadata tells, in um; asked by `tiff`.

In comes an open TIFF, out comes (x, y) or None. Where a file says it in a microscopist's way (OME, Aperio,
Philips, ImageJ) that is taken as it stands, even if impossible: the person should hear of it. The resolution
tags count only where they are plausible, since most programs fill them for printers.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import tifffile

_UM_PER_UNIT: Final = {
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "\\u00b5m": 1.0,  # as ImageJ escapes it
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
_PRINTERS_DPI: Final = frozenset({72, 96, 150, 300, 600})
PLAUSIBLE_UM: Final = (0.05, 20.0)
"""Resolution tags outside this range are a printer's, not a microscope's."""


def tiff_calibration(tif: Any, page: Any, image: int = 0) -> tuple[float, float] | None:
    """What a TIFF says of its full-resolution pixels: (x, y) in um, or None.

    Args:
        tif: An open `tifffile.TiffFile`.
        page: The page of the full-resolution level.
        image: Which of the images, for OME-TIFF.
    """
    if tif.is_ome and (found := _from_ome(tif.ome_metadata, image)):
        return found
    if tif.is_svs and (found := _from_aperio(tif.pages.first.description)):
        return found
    if tif.is_philips and (found := _from_philips(tif.philips_metadata)):
        return found
    if tif.is_imagej:
        unit = str((tif.imagej_metadata or {}).get("unit", "")).lower()
        return _from_resolution(page, _UM_PER_UNIT[unit]) if unit in _UM_PER_UNIT else None
    return _from_tags(page)


def _from_ome(xml: str, image: int) -> tuple[float, float] | None:
    try:
        images = tifffile.xml2dict(xml)["OME"]["Image"]
        images = images if isinstance(images, list) else [images]
        pixels = images[min(image, len(images) - 1)]["Pixels"]
    except (
        SyntaxError,
        KeyError,
        TypeError,
    ):  # malformed XML is a SyntaxError; the pixels are good all the same
        return None
    sizes = [_number(pixels.get(f"PhysicalSize{axis}")) for axis in "XY"]
    units = [_UM_PER_UNIT.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")).lower()) for axis in "XY"]
    if sizes[0] is None or sizes[1] is None or units[0] is None or units[1] is None:
        return None
    return sizes[0] * units[0], sizes[1] * units[1]


def _from_aperio(description: str) -> tuple[float, float] | None:
    found = re.search(r"\|\s*MPP\s*=\s*([^|\s]+)", description)
    size = _number(found.group(1)) if found else None
    return None if size is None else (size, size)


def _from_philips(xml: str) -> tuple[float, float] | None:
    # Spacing is (between rows, between columns) in mm, each in quotes, escaped in the XML of the description.
    found = re.search(r'Name="DICOM_PIXEL_SPACING"[^>]*>\s*(?:"|&quot;)([^"&]+)\D+?(?:"|&quot;)([^"&]+)', xml)
    sizes = [_number(text) for text in found.groups()] if found else [None]
    return None if None in sizes else (float(sizes[1] or 0) * 1e3, float(sizes[0] or 0) * 1e3)


def _from_tags(page: Any) -> tuple[float, float] | None:
    unit = page.tags.valueof("ResolutionUnit", 1)
    if unit == 2:
        dots = _resolution(page)
        if dots is None or any(round(value) in _PRINTERS_DPI for value in dots):
            return None
    found = _from_resolution(page, {2: 25_400.0, 3: 10_000.0}.get(int(unit), 0.0))
    low, high = PLAUSIBLE_UM
    return found if found and all(low <= size <= high for size in found) else None


def _from_resolution(page: Any, um_per_unit: float) -> tuple[float, float] | None:
    dots = _resolution(page)
    return None if dots is None else (um_per_unit / dots[0], um_per_unit / dots[1])


def _resolution(page: Any) -> tuple[float, float] | None:
    """XResolution and YResolution in dots per unit, if both are positive numbers."""
    found = []
    for tag in ("XResolution", "YResolution"):
        value = page.tags.valueof(tag)
        if not isinstance(value, tuple) or len(value) != 2 or value[0] <= 0 or value[1] <= 0:
            return None
        found.append(value[0] / value[1])
    return found[0], found[1]


def _number(value: object) -> float | None:
    """A float, NaN included; None for what is no number."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if not math.isinf(number) else math.nan
