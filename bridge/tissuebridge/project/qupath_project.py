"""A QuPath project as a `Project`: images by its list, pixels by Python where it can read them, objects by QuPath.

Comes in from the command line as a `.qpproj`; `writeback` puts results into it. Java starts when objects are first
asked for, or pixels that only QuPath can read; not for names, places and sizes.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import CalibrationError, ImageError, InputRefused
from tissuebridge.objects import PathObject
from tissuebridge.project.base import ImageIdentity, Level, PixelSource
from tissuebridge.project.entry_files import EntryFiles, FileState
from tissuebridge.project.flat import unflattened
from tissuebridge.project.paquo.opened import OpenEntry, OpenProject
from tissuebridge.project.pixels import FilePixels, open_pixels, square_pixel
from tissuebridge.project.qpproj import Entry, project_file, read_entries
from tissuebridge.project.split_file import SPLITS

OURS: Final = "tissuebridge"
"""The folder in a project's folder where everything of ours lies."""
SPLIT_KEY: Final = "split"
"""QuPath's metadata key that puts an image into train, validation or test."""

_log = logging.getLogger(__name__)


class QuPathImage:
    """An image of a QuPath project; an `Image`.

    Args:
        entry: What the project's file tells.
        project: The project in QuPath, opened when needed.
        pixel_size_um: The pixel size for an image that has none.
    """

    def __init__(self, entry: Entry, project: QuPathProject, pixel_size_um: float | None = None) -> None:
        self.entry = entry
        self._project = project
        self._given_um = pixel_size_um
        self._read: tuple[FileState, Sequence[PathObject]] | None = None

    @property
    def name(self) -> str:
        """QuPath's name of the image, without an image's extension, as a name for files too."""
        return self.entry.name

    @property
    def identity(self) -> ImageIdentity:
        """What makes it this image.

        Raises:
            CalibrationError: It has no pixel size and none was given.
            ImageError: Neither the project nor its file tells its size.
        """
        full = self.entry.levels[0] if self.entry.levels else self._header[0]
        name = self.entry.path.name if self.entry.path else self._source_name
        return ImageIdentity(
            unicodedata.normalize("NFC", name),
            self.entry.series,
            self.entry.transform,
            full.width,
            full.height,
            round(self.pixel_size_um, 4),
        )

    @property
    def pixel_size_um(self) -> float:
        """The pixel size that QuPath has, else the file's own, else the given one.

        Raises:
            CalibrationError: There is none, or an impossible one, and none was given.
            ImageError: The file cannot be read.
        """
        found = self.entry.pixel_size_um
        own = square_pixel(self.entry.entry_name, found) if found else self._header[1]
        if own is None and self._given_um is None:
            raise CalibrationError(
                f"{self.entry.entry_name}: the image has no pixel size in QuPath. Set it there (Image tab, click on "
                "the pixel width twice), or give it in micrometres, such as --pixel-size 0.5."
            )
        return own if own is not None else float(self._given_um or 0)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata that a person entered in QuPath."""
        return self.entry.metadata

    @property
    def files(self) -> Sequence[Path]:
        """The image's file, if it is one on this machine, and QuPath's file of its objects."""
        path = self.entry.path
        data = self.entry.files.data
        return (
            *((path,) if path is not None and path.is_file() else ()),
            *((data,) if data.is_file() else ()),
        )

    @cached_property
    def open_entry(self) -> OpenEntry:
        """The image in QuPath; starts Java.

        Raises:
            UsageError: paquo or QuPath is missing.
            InputRefused: QuPath cannot open the project.
        """
        return self._project.opened.entry(self.entry.id)

    @property
    def project_output(self) -> Path:
        """Where files of results go."""
        return self._project.default_output

    def check_reachable(self) -> None:
        """Refuses an image whose file is not where the project says.

        Raises:
            ImageError: Says where it was looked for, and the cure.
        """
        path = self.entry.path
        if path is not None and not path.exists():
            raise ImageError(
                f"{self.entry.entry_name}: its file is not at {path}. Open the project in QuPath, which asks for the "
                "new place of moved images (Update URIs), and save it."
            )

    def open_pixels(self) -> PixelSource:
        """Opens the pixels: by Python where it can read the file as QuPath shows it, else by QuPath's own server.

        Raises:
            ImageError: The file is gone, or nobody can read it as 8-bit RGB.
        """
        self.check_reachable()
        if (pixels := self._python_pixels()) is not None:
            return pixels
        return QuPathPixels(self.entry.entry_name, self.open_entry)

    def objects(self) -> Sequence[PathObject]:
        """All objects as QuPath saved them last, in z-slice and time point 0; read again when the file changed.

        Raises:
            InputRefused: A save of them broke off, or QuPath cannot read them.
            ResourceLimit: Java's memory does not suffice.
        """
        files = self.entry.files
        state = FileState.of(files.data)
        if self._read is None or self._read[0] != state:
            files.check(self.entry.entry_name)
            self._read = (state, self._read_objects(files))
        return self._read[1]

    def _read_objects(self, files: EntryFiles) -> Sequence[PathObject]:
        if not files.data.is_file():
            return ()
        flat = self.open_entry.read_objects(files.data)
        files.check_count(self.entry.entry_name, len(flat))
        every = unflattened(flat)
        shown = [obj for obj in every if obj.plane.z == 0 and obj.plane.t == 0]
        if len(shown) < len(every):
            _log.warning(
                "%s: %d objects on other z-slices or time points are left out; the first plane is analysed",
                self.entry.entry_name,
                len(every) - len(shown),
            )
        return shown

    def _python_pixels(self) -> FilePixels | None:
        """Python's own reader, where it shows what QuPath shows: the file's first image, unchanged."""
        entry = self.entry
        if entry.path is None or entry.transform or entry.series or entry.planes > 1:
            return None
        try:
            pixels = open_pixels(entry.path)
        except ImageError as error:
            _log.info("%s: read through QuPath, since Python cannot: %s", entry.entry_name, error)
            return None
        full = pixels.levels[0]
        if entry.levels and (full.width, full.height) != (entry.levels[0].width, entry.levels[0].height):
            pixels.close()
            return None
        return pixels

    @cached_property
    def _header(self) -> tuple[Level, float | None]:
        """Full resolution and pixel size, from whoever reads the pixels."""
        with self.open_pixels() as opened:
            pixels = cast(FilePixels, opened)
            return pixels.levels[0], pixels.pixel_size_um

    @property
    def _source_name(self) -> str:
        """A name for what is no file: the last part of its first URI."""
        uris = self.entry.uris
        return (urlsplit(uris[0]).path.rpartition("/")[2] or uris[0]) if uris else self.entry.entry_name


class QuPathPixels(FilePixels):
    """Pixels from QuPath's own image server: whatever QuPath opens, as it shows it (cropped, rotated, a series).

    Args:
        name: The image's name.
        entry: The image in QuPath.

    Raises:
        ImageError: QuPath cannot open it, or it is not 8-bit RGB.
    """

    def __init__(self, name: str, entry: OpenEntry) -> None:
        self._entry = entry
        super().__init__(name, entry.levels(), entry.pixel_size_um())

    def _decode(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        return self._entry.read_block(level, x, y, width, height)

    def close(self) -> None:
        """Closes QuPath's server."""
        self._entry.close_pixels()


class QuPathProject:
    """A `.qpproj`; a `Project`.

    Args:
        path: The project's file, or its folder.
        pixel_size_um: The pixel size of images that have none.

    Raises:
        UsageError: There is none.
        InputRefused: It is damaged, or has no images.
    """

    def __init__(self, path: Path, pixel_size_um: float | None = None) -> None:
        self.file = project_file(path)
        entries = read_entries(self.file)
        if not entries:
            raise InputRefused(f"{self.file}: there are no images in the project. Add some in QuPath.")
        images = [QuPathImage(entry, self, pixel_size_um) for entry in entries]
        self._images = tuple(sorted(images, key=lambda image: image.name))

    @property
    def name(self) -> str:
        """The name of the project's folder."""
        return self.file.resolve().parent.name

    @property
    def images(self) -> Sequence[QuPathImage]:
        """The images, by name."""
        return self._images

    @property
    def splits(self) -> Mapping[str, Sequence[str]] | None:
        """Split to image names, by the images' metadata "split"; None where no image has it."""
        found: dict[str, list[str]] = {}
        for image in self._images:
            told = {key.casefold(): text.strip().casefold() for key, text in image.metadata.items()}
            split = told.get(SPLIT_KEY, "")
            if split in SPLITS:
                found.setdefault(split, []).append(image.name)
            elif split:
                _log.warning("%s: split %r is none of %s", image.name, split, ", ".join(SPLITS))
        return found or None

    @property
    def folder(self) -> Path:
        """Where everything of ours lies in the project: results, runs, snapshots."""
        return self.file.parent / OURS

    @property
    def default_output(self) -> Path:
        """Where files of results go unless told otherwise; objects go into the project."""
        return self.folder / "results"

    @cached_property
    def opened(self) -> OpenProject:
        """The project in QuPath; starts Java.

        Raises:
            UsageError: paquo or QuPath is missing.
            InputRefused: QuPath cannot open the project.
        """
        return OpenProject(self.file)
