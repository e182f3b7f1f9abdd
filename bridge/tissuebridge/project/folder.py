"""A folder of images and QuPath-exported GeoJSON as a project: no Java, no QuPath project needed.

The first step of the way of the data, in its simplest form; also the format of training sets. A path comes
in; images with calibration, objects and pixels go out. Two layouts::

    FOLDER/images/NAME.png             FOLDER/NAME.png
    FOLDER/annotations/NAME.geojson    FOLDER/NAME.geojson
    FOLDER/splits.json                 FOLDER/splits.json     (optional)
    FOLDER/proposals/NAME.geojson      (what `propose` wrote and a person reviewed)

Annotations are only ever read: results go elsewhere (`result_path`).
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from tissuebridge.errors import CalibrationError, InputRefused, UsageError
from tissuebridge.geojson import read_objects
from tissuebridge.objects import PathObject, of_other_runs
from tissuebridge.project.base import Image, ImageIdentity, Level, PixelSource
from tissuebridge.project.pixels import ZARR_SUFFIXES, is_zarr, open_pixels
from tissuebridge.project.split_file import SPLITS_FILE, read_splits

IMAGE_SUFFIXES: Final = (
    ".ome.tiff", ".ome.tif", ".png", ".jpg", ".jpeg", ".tiff", ".tif", ".svs", ".ndpi", ".scn", ".mrxs",
    ".bif", *ZARR_SUFFIXES
)  # fmt: skip
ANNOTATION_SUFFIXES: Final = (".geojson.gz", ".geojson", ".json.gz", ".json", ".zip")
RESULTS: Final = "results"
PROPOSALS: Final = "proposals"

_SAME_PIXEL_SIZE: Final = 0.02
"""A given pixel size that differs less from the file's own is the same, differently rounded."""

_log = logging.getLogger(__name__)


class FolderImage:
    """An image file and the GeoJSON that belongs to it; an `Image`.

    Args:
        path: The image file.
        annotations: The GeoJSON, or None.
        pixel_size_um: The pixel size for a file that tells none.
        proposals: Where `propose` writes this image's; read where it is there.
    """

    def __init__(
        self,
        path: Path,
        annotations: Path | None = None,
        pixel_size_um: float | None = None,
        proposals: Path | None = None,
    ) -> None:
        self.path = path
        self.annotations = annotations
        self.proposals = proposals
        self._given_um = pixel_size_um

    @property
    def name(self) -> str:
        """The file's name without its extension ("x.ome.tif" is "x"), accents composed."""
        return name_of(self.path, IMAGE_SUFFIXES) or self.path.stem

    @property
    def identity(self) -> ImageIdentity:
        """What makes it this image; reads the file's header once.

        Raises:
            CalibrationError: It has no pixel size and none was given.
            ImageError: The file cannot be read.
        """
        full = self._header.full
        name = unicodedata.normalize("NFC", self.path.name)
        return ImageIdentity(name, 0, "", full.width, full.height, round(self.pixel_size_um, 4))

    @property
    def pixel_size_um(self) -> float:
        """The pixel size that the file tells, else the given one.

        Raises:
            CalibrationError: It has none, or an impossible one, and none was given.
            ImageError: The file cannot be read.
        """
        pixel_size_um = self._header.pixel_size_um
        if isinstance(pixel_size_um, CalibrationError):
            raise pixel_size_um
        return pixel_size_um

    @property
    def metadata(self) -> Mapping[str, str]:
        """None: a folder has no place for it."""
        return {}

    @property
    def files(self) -> Sequence[Path]:
        """The image's file, then those its objects are read from: annotations and proposals, where there are any."""
        found = (self.annotations, self.proposals if self._has_proposals else None)
        return (self.path, *(path for path in found if path is not None))

    def open_pixels(self) -> PixelSource:
        """Opens the pixels; close them after use (they are a context manager).

        Raises:
            ImageError: The file is not an image that can be read as 8-bit RGB.
        """
        return open_pixels(self.path)

    def objects(self) -> Sequence[PathObject]:
        """The objects of its GeoJSON and its proposals (but for runs that came back reviewed), read anew each time.

        Raises:
            GeoJSONError: A GeoJSON is damaged.
            ResourceLimit: A GeoJSON is beyond the limits of `read_objects`.
        """
        drawn = read_objects(self.annotations) if self.annotations else []
        if self.proposals is None or not self._has_proposals:
            return drawn
        return drawn + of_other_runs(read_objects(self.proposals), drawn)

    @property
    def _has_proposals(self) -> bool:
        return self.proposals is not None and self.proposals.is_file()

    @cached_property
    def _header(self) -> _Header:
        with open_pixels(self.path) as pixels:
            full = pixels.levels[0]
            try:
                own_um = pixels.pixel_size_um
            except CalibrationError as error:
                if self._given_um is None:
                    return _Header(full, error)
                _log.warning("%s; %g um, as given, is used", error, self._given_um)
                own_um = None
        return _Header(full, self._believed(own_um))

    def _believed(self, own_um: float | None) -> float | CalibrationError:
        given_um = self._given_um
        if own_um is None and given_um is None:
            return CalibrationError(
                f"{self.path}: the image carries no pixel size. Give it in micrometres, such as --pixel-size 0.5."
            )
        if own_um is None:
            return float(given_um or 0)
        if given_um is not None and abs(given_um - own_um) > _SAME_PIXEL_SIZE * own_um:
            _log.warning(
                "%s: the file says %g um a pixel; the given %g um is for images without and is ignored",
                self.path,
                own_um,
                given_um,
            )
        return own_um


@dataclass(frozen=True, slots=True)
class _Header:
    """What is kept of a file that was opened once: an error too, so that size and name stay usable."""

    full: Level
    pixel_size_um: float | CalibrationError


class FolderProject:
    """A folder of images; a `Project`. Nothing but names is read until an image is asked.

    Args:
        path: The folder.
        pixel_size_um: The pixel size of images that carry none.

    Raises:
        UsageError: No such folder.
        InputRefused: No images in it, or two images of one name, or two GeoJSON files for one image.
        AnnotationError: `splits.json` is damaged or names what is not there.
    """

    def __init__(self, path: Path, pixel_size_um: float | None = None) -> None:
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder. Give a folder with images, or one image.")
        self.path = path
        images = _named_images(path / "images" if (path / "images").is_dir() else path)
        folders = dict.fromkeys((path / "annotations", next(iter(images.values())).parent))
        annotations = _annotations([folder for folder in folders if folder.is_dir()], images)
        self._images = tuple(
            FolderImage(image, annotations.get(name), pixel_size_um, path / PROPOSALS / f"{name}.geojson")
            for name, image in sorted(images.items())
        )
        self._splits = read_splits(path / SPLITS_FILE, list(images))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def images(self) -> Sequence[FolderImage]:
        """The images, by name."""
        return self._images

    @property
    def splits(self) -> Mapping[str, Sequence[str]] | None:
        """Split ("train", "validation", "test") to image names, as in `splits.json`; None without one."""
        return self._splits

    @property
    def default_output(self) -> Path:
        """Where results go unless told otherwise."""
        return self.path / RESULTS


@dataclass(frozen=True, slots=True)
class SingleImage:
    """One image file as a `Project`.

    Attributes:
        name: The image's name.
        images: The image.
        splits: None.
        default_output: Where results go unless told otherwise.
    """

    name: str
    images: Sequence[FolderImage]
    default_output: Path
    splits: Mapping[str, Sequence[str]] | None = None


def open_image(path: Path, pixel_size_um: float | None = None) -> SingleImage:
    """A project of one image, with the GeoJSON that it has in its folder's project, if there is one.

    Args:
        path: The image file, of any extension.
        pixel_size_um: The pixel size if it carries none.

    Raises:
        UsageError: No such file.
        InputRefused: Two GeoJSON files belong to it.
    """
    if not path.is_file() and not is_zarr(path):
        raise UsageError(f"{path}: no such file. Check the name.")
    name = name_of(path, IMAGE_SUFFIXES) or path.stem
    # Alone or with its project, an image has the same annotations and proposals.
    home = path.parent.parent if path.parent.name == "images" else path.parent
    folders = dict.fromkeys((home / "annotations", path.parent))
    beside = _annotations([folder for folder in folders if folder.is_dir()], {name: path}, strays=False)
    image = FolderImage(path, beside.get(name), pixel_size_um, home / PROPOSALS / f"{name}.geojson")
    return SingleImage(image.name, (image,), path.parent / RESULTS)


def result_path(output: Path, image: Image) -> Path:
    """Where the objects found in an image are written: ``OUTPUT/NAME.geojson``.

    Raises:
        UsageError: There the file would be taken for a person's annotations at the next run.

    >>> result_path(Path("out"), FolderImage(Path("slides/a.ome.tif"))).as_posix()
    'out/a.geojson'
    """
    if isinstance(image, FolderImage):
        read_from = {image.path.parent, (image.annotations or image.path).parent}
        if image.path.parent.name == "images":
            read_from.add(image.path.parent.parent / "annotations")
        if output.resolve() in {folder.resolve() for folder in read_from}:
            raise UsageError(
                f"{output}: annotations are read from this folder, and results would be taken for some. "
                "Choose another --output."
            )
        if image.proposals is not None and output.resolve() == image.proposals.parent.resolve():
            raise UsageError(
                f"{output}: proposals and their review lie in this folder. Choose another --output."
            )
    return output / f"{image.name}.geojson"


def holds_images(folder: Path) -> bool:
    """Whether a folder is, or would be, opened as a project with images.

    >>> holds_images(Path("no such folder"))
    False
    """
    folders = [place for place in (folder, folder / "images") if place.is_dir()]
    return any(name_of(path, IMAGE_SUFFIXES) for place in folders for path in _files(place))


def name_of(path: Path, suffixes: Sequence[str]) -> str | None:
    """The name without the first of the suffixes that fits; None where none does, or the file is hidden.

    Accents are composed (NFC), since macOS hands out names decomposed, and would find no annotation for
    "Präparat".
    """
    if path.name.startswith("."):
        return None
    lower = path.name.lower()
    suffix = next(
        (suffix for suffix in suffixes if lower.endswith(suffix) and len(lower) > len(suffix)), None
    )
    return None if suffix is None else unicodedata.normalize("NFC", path.name[: -len(suffix)])


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() or is_zarr(path))
    except OSError as error:
        raise InputRefused(f"{folder}: cannot be read: {error.strerror}. Check its permissions.") from error


def _named_images(folder: Path) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for path in _files(folder):
        name = name_of(path, IMAGE_SUFFIXES)
        if name is None:
            continue
        if name in images:
            raise InputRefused(
                f"{folder}: {images[name].name} and {path.name} are two images of one name. Rename or move one."
            )
        images[name] = path
    if not images:
        known = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
        raise InputRefused(f"{folder}: there are no images in it ({known}). Give the folder that holds them.")
    return images


def _annotations(
    folders: Sequence[Path], images: Mapping[str, Path], *, strays: bool = True
) -> dict[str, Path]:
    """The GeoJSON of each image: of its name without extension, or with it ("a.svs.geojson")."""
    owners = {unicodedata.normalize("NFC", path.name): name for name, path in images.items()}
    found: dict[str, Path] = {}
    for path in (path for folder in folders for path in _files(folder)):
        given = name_of(path, ANNOTATION_SUFFIXES)
        name = given if given in images else owners.get(given or "")
        if name is None or path.name == SPLITS_FILE:
            if strays and given is not None and ".geojson" in path.name.lower():
                _log.warning("%s belongs to no image: there is none named %r", path, given)
            continue
        if name in found:
            raise InputRefused(
                f"{found[name]} and {path} both belong to the image {name!r}. Keep one of them."
            )
        found[name] = path
    return found
