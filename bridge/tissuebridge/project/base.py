"""The seam between images as people keep them and the engine: project, image, pixels.

Implemented by `folder` (images and GeoJSON), later by `paquo` (a .qpproj), and in the server by pixels that a
client sends. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tissuebridge.objects import PathObject


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """What makes an image this image; two equal ones in a batch stop it.

    Attributes:
        name: File name.
        series: Which image inside the file.
        transform: The server's own crop or rotation, as text; "" for none.
        width: Full-resolution width in px.
        height: Full-resolution height in px.
        pixel_size_um: Rounded to 1e-4 um.
    """

    name: str
    series: int
    transform: str
    width: int
    height: int
    pixel_size_um: float

    def key(self) -> str:
        """One line of text that is equal only for equal identities."""
        fields = (
            self.name,
            self.series,
            self.transform,
            self.width,
            self.height,
            f"{self.pixel_size_um:.4f}",
        )
        return "|".join(str(field).replace("|", "%7C") for field in fields)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid.

    Attributes:
        width: In this level's pixels.
        height: In this level's pixels.
        downsample: Full-resolution pixels per pixel of this level; 1.0 for the first.
    """

    width: int
    height: int
    downsample: float


class PixelSource(Protocol):
    """Open pixels of one image plane: 8-bit RGB, a pyramid of at least one level. Used from one thread."""

    @property
    def name(self) -> str:
        """The image's name, for messages."""
        ...

    @property
    def levels(self) -> Sequence[Level]:
        """The levels, full resolution first."""
        ...

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Reads a block that lies wholly inside the level.

        Args:
            level: Index into `levels`.
            x: Left edge, in the level's pixels.
            y: Top edge, in the level's pixels.
            width: In the level's pixels, at least 1.
            height: In the level's pixels, at least 1.

        Returns:
            Array (height, width, 3), red, green, blue.

        Raises:
            ImageError: The block cannot be decoded; names image, level and block.
        """
        ...

    def close(self) -> None:
        """Releases the file or stream."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Image(Protocol):
    """One image of a project: its calibration, its objects, its pixels."""

    @property
    def name(self) -> str:
        """The name shown to people, unique in the project; without the file's extension."""
        ...

    @property
    def identity(self) -> ImageIdentity:
        """What makes it this image.

        Raises:
            CalibrationError: It has no pixel size and none was given.
        """
        ...

    @property
    def pixel_size_um(self) -> float:
        """The size of a full-resolution pixel in um.

        Raises:
            CalibrationError: It has none and none was given.
        """
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What a person entered about the image, key to text (QuPath's project metadata); empty where there is none."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """Its files on this machine, the pixels' first, then the annotations', if any; empty where it has none here."""
        ...

    def open_pixels(self) -> PixelSource:
        """Opens the pixels; close them after use (they are a context manager).

        Raises:
            ImageError: The file is not an image that can be read as 8-bit RGB.
        """
        ...

    def objects(self) -> Sequence[PathObject]:
        """All objects of the image, a person's and ours.

        Raises:
            GeoJSONError: The objects' file is damaged.
        """
        ...


class Project(Protocol):
    """A set of images that belong together."""

    @property
    def name(self) -> str:
        """The project's name."""
        ...

    @property
    def images(self) -> Sequence[Image]:
        """The images, in a stable order (by name)."""
        ...

    @property
    def splits(self) -> Mapping[str, Sequence[str]] | None:
        """Split name ("train", "validation", "test") to image names; None where the project has no splits."""
        ...
