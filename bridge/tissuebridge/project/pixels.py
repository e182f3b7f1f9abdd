"""From a file to 8-bit RGB blocks at the file's own levels; the first step of the way of the data.

In comes the path of a PNG, JPEG, TIFF (plain, pyramidal, OME, SVS, NDPI, Philips), of an OME-Zarr or of a slide for
OpenSlide; out comes a `PixelSource`, whose blocks `resample` turns into the model's grid. Files are told
apart by their first bytes, not by their names. Nothing here resamples, and nothing is ever filled in for
pixels that cannot be decoded: a damaged tile is an `ImageError`. (JPEG has no checksum: damage inside a
JPEG stream that still decodes cannot be noticed by anybody.)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import CalibrationError, ImageError, ResourceLimit, TissuebridgeError
from tissuebridge.project.base import Level, PixelSource

MAX_SIDE: Final = 2**20
"""Images with a longer side are refused: beyond it QuPath's float32 is not exact to 1/16 px."""

MAX_DECODED_PIXELS: Final = 100_000_000
"""PNG and JPEG are decoded as a whole (3 bytes a pixel); larger ones are refused with the cure."""

ZARR_SUFFIXES: Final = (".ome.zarr", ".zarr")
"""Images that are folders."""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OPENSLIDE_ONLY: Final = frozenset({".mrxs", ".vms", ".vmu", ".dcm", ".czi", ".svslide"})
_PILLOW_REFUSED: Final = {
    "1": ("bilevel", "convert it to RGB"),
    "L": ("greyscale", "brightfield RGB is needed; open the original colour image, or convert it to RGB"),
    "LA": ("greyscale with alpha", "brightfield RGB is needed; convert it to RGB"),
    "I": ("16- or 32-bit greyscale", "brightfield RGB is needed; convert it to 8-bit RGB"),
    "I;16": ("16-bit greyscale", "brightfield RGB is needed; convert it to 8-bit RGB"),
    "CMYK": ("CMYK", "convert it to RGB"),
    "YCCK": ("YCCK", "convert it to RGB"),
}


def is_zarr(path: Path) -> bool:
    """Whether a path is an image that is a folder.

    >>> is_zarr(Path("no such.ome.zarr"))
    False
    """
    return path.name.lower().endswith(ZARR_SUFFIXES) and path.is_dir()


def open_pixels(path: Path) -> FilePixels:
    """Opens the pixels of an image file; cheap: at most metadata is read.

    Args:
        path: A PNG, JPEG or TIFF-like file, the folder of an OME-Zarr, or a slide for OpenSlide (optional extra).

    Returns:
        The open pixels; close them after use (they are a context manager).

    Raises:
        ImageError: The file is missing, empty, damaged or not 8-bit colour; says the cure.
        ResourceLimit: A PNG or JPEG too large to be decoded as a whole.
    """
    name = path.name
    with decoding(name, "open the file"):
        if is_zarr(path):
            from tissuebridge.project.ome_zarr import ZarrPixels

            return ZarrPixels(path)
        with path.open("rb") as file:
            head = file.read(32)
        if path.suffix.lower() in _OPENSLIDE_ONLY:
            return open_with_openslide(path, f"{path.suffix} slides")
        if not head:
            raise ImageError(f"{name}: the file is empty (0 bytes); copy it again")
        if head.startswith((_PNG, _JPEG)):
            return PillowPixels(path, head)
        if head.startswith(_TIFF):
            from tissuebridge.project.tiff import NeedsOpenSlideError, TiffPixels

            try:
                return TiffPixels(path)
            except NeedsOpenSlideError as error:
                return open_with_openslide(path, error.what)
    raise ImageError(
        f"{name}: this is not a PNG, JPEG or TIFF image (it begins with {head[:8]!r}); "
        "convert it to PNG or to a tiled TIFF"
    )


@contextmanager
def decoding(name: str, what: str) -> Iterator[None]:
    """Turns whatever a decoder raises into an `ImageError` that names the image.

    Decoders of damaged files raise nearly anything (struct.error, IndexError, SyntaxError, zlib.error, ...),
    so everything is caught here, once, except our own errors.

    Args:
        name: The image.
        what: What was attempted, after "cannot".
    """
    try:
        yield
    except TissuebridgeError:
        raise
    except MemoryError as error:
        raise ResourceLimit(f"{name}: not enough memory to {what}; use a tiled, pyramidal TIFF") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(
            f"{name}: cannot {what} ({reason:.300}); the file is damaged or incomplete: copy it again"
        ) from error


def check_block(source: PixelSource, level: int, x: int, y: int, width: int, height: int) -> None:
    """Checks that a block lies wholly inside a level; all numbers in the level's pixels.

    Raises:
        ValueError: The level does not exist, the block is empty or reaches outside.
    """
    levels = source.levels
    if not 0 <= level < len(levels):
        raise ValueError(f"{source.name}: there is no level {level}; the image has {len(levels)}")
    size = levels[level]
    inside = x >= 0 and y >= 0 and x + width <= size.width and y + height <= size.height
    if width < 1 or height < 1 or not inside:
        raise ValueError(
            f"{source.name}: block x={x}, y={y}, {width} x {height} is not inside level {level} "
            f"({size.width} x {size.height})"
        )


def pyramid(sizes: Sequence[tuple[int, int]]) -> dict[int, Level]:
    """Which of the images in a file form its pyramid, and how far each is downsampled.

    Halving rounds sizes (2967 -> 1483), so the ratio of sizes is not the downsample: where an integer n
    explains both sizes as W / n rounded down or up, the downsample is n; of several the power of two, then
    the nearest to the ratio. Otherwise it is the mean ratio. What has another aspect (label, macro) is left
    out.

    Args:
        sizes: (width, height) in px, full resolution first.

    Returns:
        Index into `sizes` to level, in order of growing downsample; index 0 is always there.

    >>> levels = pyramid([(2220, 2967), (1110, 1483), (387, 463)])
    >>> {index: level.downsample for index, level in levels.items()}
    {0: 1.0, 1: 2.0}
    """
    full = sizes[0]
    levels = {0: Level(*full, 1.0)}
    for index, size in enumerate(sizes[1:], start=1):
        downsample = _downsample(full, size)
        if downsample is not None and downsample > max(level.downsample for level in levels.values()):
            levels[index] = Level(*size, downsample)
    return levels


def _downsample(full: tuple[int, int], size: tuple[int, int]) -> float | None:
    """The downsample of an image of `size` in the pyramid below `full`; None if it does not belong there."""
    if min(size) < 1 or not all(part < whole for part, whole in zip(size, full, strict=True) if whole > 1):
        return None
    # The longer side tells the ratio more exactly; both must agree with it to a pixel and 0.5 %.
    mean = (full[0] + full[1]) / (size[0] + size[1])
    if any(abs(whole / mean - part) > 1 + 0.005 * part for whole, part in zip(full, size, strict=True)):
        return None
    near = range(max(2, math.floor(mean * 0.9)), math.ceil(mean * 1.1) + 2)
    fitting = [n for n in near if all(_rounds_to(w, n, p) for w, p in zip(full, size, strict=True))]
    fitting.sort(key=lambda n: (n & (n - 1) != 0, abs(n - mean)))
    return float(fitting[0]) if fitting else mean


def _rounds_to(whole: int, n: int, part: int) -> bool:
    return part in (max(1, whole // n), -(-whole // n))


def on_white(rgba: NDArray[np.uint8], *, premultiplied: bool = False) -> NDArray[np.uint8]:
    """Composites colour with alpha on white, as glass is; (height, width, 4) to (height, width, 3).

    >>> on_white(np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)).tolist()
    [[[10, 20, 30], [255, 255, 255]]]
    """
    if (rgba[..., 3] == 255).all():
        return np.ascontiguousarray(rgba[..., :3])
    out = np.empty((*rgba.shape[:2], 3), np.uint8)
    for row, line in enumerate(rgba):  # by rows: the wider integers of a whole PNG would be gigabytes
        alpha = line[:, 3:].astype(np.uint32)
        part = line[:, :3].astype(np.uint32) * (255 if premultiplied else alpha)
        out[row] = ((part + 255 * (255 - alpha) + 127) // 255).clip(max=255)
    return out


def square_pixel(name: str, calibration: tuple[float, float]) -> float:
    """The side of a pixel in um, of (width, height) that a file or QuPath tells.

    Raises:
        CalibrationError: It is impossible, or not square to 1 %.
    """
    x, y = calibration
    cure = "give the right one with --pixel-size UM"
    # Nobody's microscope is outside this range, as with --pixel-size; 1e-9 um would ask for an endless grid.
    if not (0.01 <= x <= 100 and 0.01 <= y <= 100):
        raise CalibrationError(f"{name}: the file says that a pixel is {x:g} x {y:g} um; {cure}")
    if abs(x - y) > 0.01 * min(x, y):
        raise CalibrationError(f"{name}: pixels are not square, x {x:g} um and y {y:g} um; {cure}")
    return (x + y) / 2


class FilePixels(ABC):
    """Open pixels of an image file: a `PixelSource` that may know its pixel size. Used from one thread.

    Args:
        name: The file's name.
        levels: Full resolution first.
        calibration: What the file says of the pixel size, (x, y) in um; None if it says nothing.
    """

    def __init__(self, name: str, levels: Sequence[Level], calibration: tuple[float, float] | None) -> None:
        self._name = name
        self._levels = tuple(levels)
        self._calibration = calibration

    @property
    def name(self) -> str:
        """The file's name."""
        return self._name

    @property
    def levels(self) -> Sequence[Level]:
        """The levels, full resolution first."""
        return self._levels

    @property
    def pixel_size_um(self) -> float | None:
        """The full-resolution pixel size in um that the file tells; None where it tells none.

        Raises:
            CalibrationError: It tells an impossible one, or pixels that are not square to 1 %.
        """
        return None if self._calibration is None else square_pixel(self._name, self._calibration)

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Reads a block that lies wholly inside the level; see `PixelSource.read_block`.

        Raises:
            ValueError: There is no such level, or the block is not inside it.
            ImageError: The block cannot be decoded; names image, level and block.
        """
        check_block(self, level, x, y, width, height)
        with decoding(self._name, f"decode level {level}, block x={x}, y={y}, {width} x {height}"):
            return self._decode(level, x, y, width, height)

    @abstractmethod
    def _decode(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Decodes a block known to be inside; may raise anything."""

    @abstractmethod
    def close(self) -> None:
        """Releases the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_size(name: str, width: int, height: int) -> None:
    """Refuses sizes that no scanner makes; px at full resolution.

    Raises:
        ImageError: Empty, or longer than `MAX_SIDE`.
    """
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ImageError(
            f"{name}: the file claims {width} x {height} px, but a side has 1 to {MAX_SIDE}; it is damaged"
        )


class PillowPixels(FilePixels):
    """A PNG or JPEG: one level, decoded once, at the first read.

    Alpha is composited on white, a palette is looked up. A dpi value is no microscope's calibration and is
    ignored; so is EXIF's orientation, as in QuPath.

    Args:
        path: The file.
        head: Its first 32 bytes.

    Raises:
        ImageError: Damaged, greyscale, 16-bit or CMYK.
        ResourceLimit: More than `MAX_DECODED_PIXELS`.
    """

    def __init__(self, path: Path, head: bytes) -> None:
        self._path = path
        self._is_png = head.startswith(_PNG)
        self._pixels: NDArray[np.uint8] | None = None
        with path.open("rb") as file, self._image(file) as image:
            width, height = image.size
            mode = "I;16" if self._is_png and head[24] == 16 and image.mode in ("L", "I") else image.mode
        check_size(path.name, width, height)
        if width * height > MAX_DECODED_PIXELS:
            raise ResourceLimit(
                f"{path.name}: {width} x {height} px are too many for a PNG or JPEG "
                f"(limit {MAX_DECODED_PIXELS:,}); convert it to a tiled, pyramidal TIFF"
            )
        # Pillow would silently cut 16-bit colour down to its upper byte.
        deep = self._is_png and head[24] == 16
        if mode not in ("RGB", "RGBA", "P") or deep:
            what, cure = _PILLOW_REFUSED.get(
                mode, (f"{'16-bit ' if deep else ''}{mode}", "convert it to 8-bit RGB")
            )
            raise ImageError(f"{path.name}: the image is {what}; {cure}")
        super().__init__(path.name, [Level(width, height, 1.0)], None)

    def _image(self, file: Any) -> Any:
        """The undecoded image; one plugin chosen by us, so that no other format slips in under this name."""
        from PIL.JpegImagePlugin import JpegImageFile
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(file) if self._is_png else JpegImageFile(file)

    def _decode(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        if self._pixels is None:
            self._pixels = self._decode_all()
        return self._pixels[y : y + height, x : x + width].copy()

    def _decode_all(self) -> NDArray[np.uint8]:
        with self._path.open("rb") as file, self._image(file) as image:
            image.load()
            if image.mode == "RGB" and "transparency" not in image.info:
                return np.array(image, dtype=np.uint8)
            return on_white(np.array(image.convert("RGBA"), dtype=np.uint8))

    def close(self) -> None:
        """Drops the decoded pixels."""
        self._pixels = None


def open_with_openslide(path: Path, what: str) -> FilePixels:
    """Opens a slide with OpenSlide, if it is installed.

    Args:
        path: The slide.
        what: What cannot be read without, for the message.

    Raises:
        ImageError: OpenSlide is not installed or cannot read it; says the cure.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise ImageError(
            f"{path.name}: {what} are read with OpenSlide, which is not installed; "
            "pip install 'tissuebridge[openslide]'"
        ) from error
    return OpenSlidePixels(path, openslide.OpenSlide(path))


class OpenSlidePixels(FilePixels):
    """A slide that OpenSlide reads, cropped to the scanned bounds as in QuPath; unscanned places are white.

    OpenSlide is asked in full-resolution pixels and interpolates where these are no whole pixels of the level;
    only levels whose downsample it holds for a whole number are exact, and the others are left out.

    Args:
        path: The slide.
        slide: The open `openslide.OpenSlide`.
    """

    def __init__(self, path: Path, slide: Any) -> None:
        self._slide = slide
        get = slide.properties.get
        full = slide.level_dimensions[0]
        self._origin = (int(get("openslide.bounds-x", 0)), int(get("openslide.bounds-y", 0)))
        bounds = (int(get("openslide.bounds-width", full[0])), int(get("openslide.bounds-height", full[1])))
        whole = {
            index: level
            for index, level in pyramid(slide.level_dimensions).items()
            if slide.level_downsamples[index] == level.downsample == round(level.downsample)
        }
        self._index = list(whole)
        # A level's last, partial column and row are kept only where the whole slide's level has them too.
        levels = [
            Level(max(1, int(bounds[0] / f)), max(1, int(bounds[1] / f)), f)
            for f in (level.downsample for level in whole.values())
        ]
        check_size(path.name, *bounds)
        x, y = get("openslide.mpp-x"), get("openslide.mpp-y")
        super().__init__(path.name, levels, None if x is None or y is None else (float(x), float(y)))

    def _decode(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        factor = self._levels[level].downsample
        location = (self._origin[0] + round(x * factor), self._origin[1] + round(y * factor))
        region = self._slide.read_region(location, self._index[level], (width, height))
        return on_white(np.array(region, dtype=np.uint8))

    def close(self) -> None:
        """Closes the slide."""
        self._slide.close()
