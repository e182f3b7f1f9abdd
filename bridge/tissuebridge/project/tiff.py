"""TIFF-like slides (plain, pyramidal, OME, SVS, NDPI, Philips) as blocks of exact level pixels.

In comes a path, out come 8-bit RGB blocks; `pixels.open_pixels` decides to come here. tifffile knows the
formats and decodes single tiles and strips; which of them a block needs is worked out here, because reading
through a slide's full-resolution coordinates rounds, and because array views of a TIFF fill missing tiles
with black.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile
from numpy.typing import NDArray

from tissuebridge.errors import ImageError, ResourceLimit
from tissuebridge.project.calibration import tiff_calibration
from tissuebridge.project.pixels import FilePixels, check_size, on_white, pyramid

_log = logging.getLogger(__name__)

MAX_TILE_SIDE: Final = 2**16
MAX_SEGMENT_BYTES: Final = 2**28
"""A compressed tile or strip that decodes to more is refused: it would have to be decoded as a whole."""

_SEGMENT_CACHE_BYTES: Final = 2**26
_JPEG: Final = frozenset({6, 7, 34892, 33007})
_JPEG_2000_YCBCR: Final = 33003
_JPEG_2000: Final = frozenset({_JPEG_2000_YCBCR, 33004, 33005, 34712})
_RGB_FROM_YCBCR: Final = _JPEG | _JPEG_2000
"""Codecs that give RGB for photometric YCbCr."""


class NeedsOpenSlideError(ImageError):
    """Not damaged, but only OpenSlide reads this kind rightly.

    Args:
        what: The kind, in the plural.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class TiffPixels(FilePixels):
    """The pyramid in a TIFF: the largest series of the file and its sub-resolutions.

    Args:
        path: The file.

    Raises:
        ImageError: Damaged, absurd, or not 8-bit RGB.
        NeedsOpenSlideError: Only OpenSlide knows how its parts lie.
    """

    def __init__(self, path: Path) -> None:
        # Other files that an OME header names are not opened: a path inside a file is nobody's wish.
        self._tif = tifffile.TiffFile(path, _multifile=False)
        try:
            number, series = _main_series(path.name, self._tif)
            levels = [_TiffLevel.of(path.name, level) for level in series.levels]
            check_size(path.name, levels[0].width, levels[0].height)
            known = pyramid([(level.width, level.height) for level in levels])
            self._tiff_levels = [levels[index] for index in known]
            for level in self._tiff_levels:
                level.check(path.name)
            calibration = tiff_calibration(self._tif, levels[0].pages[0].keyframe, number)
        except BaseException:
            self._tif.close()
            raise
        self._may_be_sparse = self._tif.is_philips or self._tif.is_svs
        self._cache: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        super().__init__(path.name, list(known.values()), calibration)

    def _decode(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        image = self._tiff_levels[level]
        samples = [self._read_plane(page, plane, x, y, width, height) for page, plane in image.planes]
        return image.to_rgb(samples[0] if len(samples) == 1 else np.concatenate(samples, axis=2))

    def _read_plane(
        self, page: Any, plane: int, x: int, y: int, width: int, height: int
    ) -> NDArray[np.uint8]:
        """One block of one page, samples of one plane: (height, width, samples)."""
        key = page.keyframe
        tall, wide, across, down = _segments(key)
        out = np.empty((height, width, key.shaped[-1]), np.uint8)
        for row in range(y // tall, (y + height - 1) // tall + 1):
            top, bottom = max(y, row * tall), min(y + height, (row + 1) * tall)
            for col in range(x // wide, (x + width - 1) // wide + 1):
                left, right = max(x, col * wide), min(x + width, (col + 1) * wide)
                index = plane * across * down + row * across + col
                part = self._rows(
                    page,
                    index,
                    top - row * tall,
                    bottom - row * tall,
                    min(tall, key.imagelength - row * tall),
                )
                out[top - y : bottom - y, left - x : right - x] = part[
                    :, left - col * wide : right - col * wide
                ]
        return out

    def _rows(self, page: Any, index: int, top: int, bottom: int, rows: int) -> NDArray[np.uint8]:
        """Rows `top` to `bottom` of a tile or strip that has `rows` rows inside the image."""
        key = page.keyframe
        if not key.is_tiled and key.compression == 1 and key.predictor == 1 and key.fillorder == 1:
            # Many programs write one uncompressed strip as large as the image: read only what is needed.
            row_bytes = key.imagewidth * key.shaped[-1]
            data = self._bytes(page, index, top * row_bytes, (bottom - top) * row_bytes)
            return np.frombuffer(data, np.uint8).reshape(bottom - top, key.imagewidth, key.shaped[-1])
        place = (page.dataoffsets[index], index)
        segment = self._cache.pop(place, None)
        if segment is None:
            segment = self._segment(page, index, rows)
        self._cache[place] = segment  # the most recently used is the last
        while (
            len(self._cache) > 1 and sum(part.nbytes for part in self._cache.values()) > _SEGMENT_CACHE_BYTES
        ):
            self._cache.popitem(last=False)
        return segment[top:bottom]

    def _segment(self, page: Any, index: int, rows: int) -> NDArray[np.uint8]:
        """A decoded tile or strip, (row, col, sample); raises rather than filling anything in."""
        key = page.keyframe
        tall, wide, _, _ = _segments(key)
        count = page.databytecounts[index]
        if count == 0 and self._may_be_sparse:
            return np.full((tall, wide, key.shaped[-1]), 255, np.uint8)  # not scanned: glass
        # Fetched first: the first access of both moves the file's position.
        decode, tables, header = key.decode, page.jpegtables, page.jpegheader
        data = self._bytes(page, index, 0, count)
        if key.compression in _JPEG and header is None:
            check_jpeg(data, tall, wide)
        if key.compression in _JPEG_2000:
            check_end(data)
        decoded = decode(data, index, jpegtables=tables, jpegheader=header)[0]
        if decoded is None or decoded.dtype != np.uint8 or decoded.ndim != 4:
            raise ValueError(f"tile {index} is not 8-bit")
        part: NDArray[np.uint8] = decoded[0]
        if part.shape[0] < rows or part.shape[2] != key.shaped[-1]:
            raise ValueError(f"tile {index} has the wrong size {part.shape}")
        return part

    def _bytes(self, page: Any, index: int, start: int, count: int) -> bytes:
        """Bytes of a tile or strip as they stand in the file, all of them."""
        if count == 0 or page.dataoffsets[index] == 0 or start + count > page.databytecounts[index]:
            raise ValueError(f"tile {index} is missing from the file")
        file, offset = self._tif.filehandle, page.dataoffsets[index] + start
        # Compared first: a damaged count of 2 GiB would be allocated before it is found missing.
        if offset + count > file.size:
            raise ValueError(f"tile {index} lies beyond the end of the file")
        file.seek(offset)
        return bytes(file.read(count))

    def close(self) -> None:
        """Closes the file."""
        self._cache.clear()
        self._tif.close()


@dataclass(frozen=True)
class _TiffLevel:
    """One level: RGB(A) or palette in one page, or red, green and blue in three."""

    width: int
    height: int
    pages: tuple[Any, ...]

    @staticmethod
    def of(name: str, series: Any) -> _TiffLevel:
        """The level, if it is a single plane."""
        sizes = dict(zip(series.axes, series.shape, strict=True))
        extra = {axis: size for axis, size in sizes.items() if axis not in "YXSC" and size > 1}
        if extra:
            raise ImageError(
                f"{name}: the image is a stack (axes {series.axes}, {extra}); export one plane as RGB"
            )
        if "Y" not in sizes or "X" not in sizes:
            raise ImageError(
                f"{name}: the image has axes {series.axes} instead of rows and columns; export it as RGB"
            )
        pages = tuple(series.pages)
        if not pages or any(page is None for page in pages):
            raise ImageError(
                f"{name}: planes of the image are missing from the file; export it as one RGB TIFF"
            )
        return _TiffLevel(sizes["X"], sizes["Y"], pages)

    @property
    def planes(self) -> list[tuple[Any, int]]:
        """(page, plane in it) in the order of the samples."""
        return [(page, plane) for page in self.pages for plane in range(page.keyframe.shaped[0])]

    @property
    def samples(self) -> int:
        """Samples of a pixel, over all planes."""
        return sum(int(page.keyframe.shaped[-1]) for page, _ in self.planes)

    def check(self, name: str) -> None:
        """Refuses what is not 8-bit RGB, and what cannot be a true description of a file."""
        for page in self.pages:
            key = page.keyframe
            _check_depth(name, key)
            _check_segments(name, page, (self.width, self.height))
        key = self.pages[0].keyframe
        photometric = key.photometric
        label = getattr(photometric, "name", photometric)
        if photometric == 5 or label in ("CIELAB", "ICCLAB", "ITULAB", "CFA"):
            raise ImageError(
                f"{name}: the image is {'CMYK' if photometric == 5 else label}; convert it to RGB"
            )
        if photometric == 6 and key.compression not in _RGB_FROM_YCBCR:
            raise ImageError(
                f"{name}: YCbCr colours with {key.compression.name} compression; convert it to RGB"
            )
        if photometric == 3 and self.samples == 1 and key.colormap is not None:
            return
        if self.samples in (1, 2):
            raise ImageError(
                f"{name}: the image is greyscale ({self.samples} channel(s)); brightfield RGB is needed: "
                "open the original colour image, or convert it to RGB"
            )
        if self.samples > 4 or (self.samples == 4 and photometric != 2):
            raise ImageError(f"{name}: the image has {self.samples} channels; export it as 8-bit RGB")

    def to_rgb(self, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, samples) to (height, width, 3)."""
        key = self.pages[0].keyframe
        if samples.shape[2] == 1:  # a palette, in 16 bit
            palette = np.ascontiguousarray((key.colormap.T >> 8).astype(np.uint8))
            return palette[samples[..., 0]]
        extra = [int(kind) for kind in key.extrasamples]
        if samples.shape[2] == 4 and extra in ([1], [2]):
            return on_white(samples, premultiplied=extra == [1])
        return np.ascontiguousarray(samples[..., :3])


def _main_series(name: str, tif: Any) -> tuple[int, Any]:
    """The largest image of the file, the first of equals, and its number."""
    if tif.is_scn or tif.is_bif:
        raise NeedsOpenSlideError("Leica SCN slides" if tif.is_scn else "Ventana BIF slides")
    if not len(tif.pages) or not tif.series:
        raise ImageError(
            f"{name}: there is no image in this TIFF; it is damaged or incomplete: copy it again"
        )
    areas = [one.keyframe.imagelength * one.keyframe.imagewidth for one in tif.series]
    number = areas.index(max(areas))
    series = tif.series[number]
    if series.keyframe.compression == _JPEG_2000_YCBCR:
        raise NeedsOpenSlideError("Aperio slides with this kind of JPEG 2000")
    if len(tif.series) > 1:
        _log.info("%s: %d images in the file; reading the largest", name, len(tif.series))
    return number, series


def _check_depth(name: str, key: Any) -> None:
    bits, kind = key.bitspersample, getattr(key.sampleformat, "name", key.sampleformat)
    if key.dtype == np.uint8 and bits == 8:
        return
    what = "floating-point" if key.sampleformat == 3 else "signed" if key.sampleformat == 2 else ""
    if key.dtype is None:
        what = f"of an unknown type ({kind})"
    raise ImageError(f"{name}: the image is {bits}-bit {what}".rstrip() + "; convert it to 8-bit RGB")


def _segments(key: Any) -> tuple[int, int, int, int]:
    """Height and width of a tile or strip in px, and how many lie across and down a page."""
    if key.is_tiled:
        tall, wide = key.tilelength, key.tilewidth
    else:
        tall, wide = min(key.rowsperstrip, key.imagelength), key.imagewidth
    return tall, wide, -(-key.imagewidth // wide), -(-key.imagelength // tall)


def _check_segments(name: str, page: Any, size: tuple[int, int]) -> None:
    """Refuses tile sizes and counts that cannot be, before anything is allocated for them."""
    key = page.keyframe
    if (key.imagewidth, key.imagelength) != size or key.shaped[1] != 1:
        raise ImageError(f"{name}: planes or depths differ in size; export the image as one RGB TIFF")
    sides = (key.tilewidth, key.tilelength) if key.is_tiled else (1, key.rowsperstrip)
    if min(sides) < 1 or (key.is_tiled and max(sides) > MAX_TILE_SIDE):
        raise ImageError(
            f"{name}: the file claims tiles of {sides[0]} x {sides[1]} px; it is damaged: copy it again"
        )
    tall, wide, across, down = _segments(key)
    expected = key.shaped[0] * across * down
    if len(page.dataoffsets) < expected or len(page.databytecounts) < expected:
        raise ImageError(
            f"{name}: {size[0]} x {size[1]} px need {expected} tiles or strips, but the file lists "
            f"{len(page.dataoffsets)}; it is damaged: copy it again"
        )
    if tall * wide * key.shaped[-1] > MAX_SEGMENT_BYTES and (key.compression != 1 or key.is_tiled):
        raise ResourceLimit(
            f"{name}: the image is compressed in pieces of {wide} x {tall} px, too large to decode; "
            "rewrite it as a tiled TIFF"
        )


def check_end(data: bytes) -> None:
    """Refuses JPEG or JPEG 2000 data without the marker that ends both; the decoders fill in what is missing.

    Raises:
        ValueError: The data are cut off.
    """
    # Some scanners pad to an even length after the marker.
    if b"\xff\xd9" not in data[-32:]:
        raise ValueError("the JPEG data of the tile are cut off")


def check_jpeg(data: bytes, rows: int, cols: int) -> None:
    r"""Refuses a JPEG stream that was cut off, or that claims to be larger than its tile.

    libjpeg fills in grey for what was cut off and only warns.

    Args:
        data: The stream; tables may be elsewhere.
        rows: Height of the tile in px.
        cols: Width of the tile in px.

    Raises:
        ValueError: The stream is not a whole JPEG of at most this size.

    >>> check_jpeg(b"\xff\xd8\xff", 8, 8)
    Traceback (most recent call last):
    ValueError: the JPEG data of the tile are cut off
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("the data of the tile are not JPEG")
    check_end(data)
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (
                int.from_bytes(data[at + 5 : at + 7], "big"),
                int.from_bytes(data[at + 7 : at + 9], "big"),
            )
            if height > rows or width > cols:
                raise ValueError(f"the JPEG data claim {width} x {height} px in a tile of {cols} x {rows}")
            return
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("the JPEG data of the tile have no size")
