"""A QuPath project and its images, opened in the JVM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import ImageError, InputRefused, StorageError
from tissuebridge.project.base import Level
from tissuebridge.project.flat import FlatObjects
from tissuebridge.project.paquo.arrays import flat_of, java_array, map_of
from tissuebridge.project.paquo.java import from_java, hierarchy_of, objects_class, pixels_class, start_java


class OpenProject:
    """A QuPath project in the JVM.

    Args:
        file: The `.qpproj`.

    Raises:
        UsageError: paquo or QuPath is missing.
        InputRefused: QuPath cannot open it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        start_java()
        from paquo.projects import QuPathProject

        with from_java(f"{file}: QuPath cannot open it", InputRefused):
            # Never as a context manager: paquo would save on leaving it. Mode r+ writes nothing by itself.
            self._paquo = QuPathProject(file, mode="r+")
            self._project = self._paquo.java_object

    def entry(self, entry_id: str) -> OpenEntry:
        """The image with that number.

        Raises:
            InputRefused: QuPath knows none.
        """
        for entry in self._project.getImageList():
            if str(entry.getID()) == entry_id:
                return OpenEntry(entry, str(entry.getImageName()))
        raise InputRefused(f"{self.file}: QuPath finds no image with the entry ID {entry_id}")

    def add_image(self, path: Path, pixel_size_um: float) -> str:
        """Adds the first image of a file to the project; gives its entry ID.

        Args:
            path: The file.
            pixel_size_um: Set in QuPath where it finds none in the file.

        Raises:
            ImageError: QuPath cannot read the file.
        """
        from jpype import JClass

        with from_java(f"{path}: QuPath cannot add it", ImageError):
            try:
                entry = self._paquo.add_image(path, return_list=True)[0].java_object
            except (OSError, RuntimeError) as error:
                raise ImageError(f"{path}: QuPath cannot read it: {error}") from error
            data = entry.readImageData()
            if not data.getServer().getPixelCalibration().hasPixelSizeMicrons():
                builder = JClass("qupath.lib.images.servers.ImageServerMetadata$Builder")
                sized = builder(data.getServerMetadata()).pixelSizeMicrons(pixel_size_um, pixel_size_um)
                data.updateServerMetadata(sized.build())
                entry.saveImageData(data)
            return str(entry.getID())

    def set_metadata(self, entry_id: str, key: str, text: str) -> None:
        """Sets a piece of an image's metadata; `sync` writes it.

        Raises:
            InputRefused: QuPath knows no such image.
        """
        for entry in self._project.getImageList():
            if str(entry.getID()) == entry_id:
                entry.getMetadata().put(key, text)

    def sync(self) -> None:
        """Writes the project's file.

        Raises:
            StorageError: It could not be written.
        """
        with from_java(f"{self.file}: the project could not be written", StorageError):
            self._project.syncChanges()

    def add_classes(self, classes: dict[str, tuple[int, int, int] | None]) -> bool:
        """Puts classes into the project's list, behind those it has; tells whether any was new.

        Raises:
            StorageError: The list could not be written.
        """
        from jpype import JClass

        with from_java(f"{self.file}: its classes could not be written", StorageError):
            of_name = JClass("qupath.lib.objects.classes.PathClass")
            have = list(self._project.getPathClasses())
            names = {str(known.toString()) for known in have}
            new = [
                of_name.fromString(name, _color(color))
                for name, color in classes.items()
                if name not in names
            ]
            if new:
                self._project.setPathClasses(JClass("java.util.ArrayList")([*have, *new]))
        return bool(new)


class OpenEntry:
    """One image of an open project; errors name it.

    Args:
        entry: QuPath's `ProjectImageEntry`.
        what: For messages.
    """

    def __init__(self, entry: Any, what: str) -> None:
        self._entry = entry
        self.what = what
        self._server: Any = None
        self._data: Any = None

    # ---- Objects ------------------------------------------------------------------------------------------

    def read_objects(self, data: Path) -> FlatObjects:
        """All objects of a `data.qpdata` (this entry's, or a snapshot of it), in bulk.

        Raises:
            InputRefused: QuPath cannot read it.
            ResourceLimit: Java's memory does not suffice.
        """
        with from_java(f"{self.what}: {data.name} cannot be read", InputRefused):
            return flat_of(objects_class().pack(hierarchy_of(data)))

    def load(self) -> FlatObjects:
        """Loads the image's data for a change, and gives its objects.

        Raises:
            InputRefused: QuPath cannot read it.
            ResourceLimit: Java's memory does not suffice.
        """
        with from_java(f"{self.what}: its data cannot be read", InputRefused):
            self._data = self._entry.readImageData()
            return flat_of(objects_class().pack(self._data.getHierarchy()))

    def change(
        self,
        gone: NDArray[np.int64],
        added: FlatObjects,
        parents: NDArray[np.int64],
        snapshot: Path | None = None,
        returned: NDArray[np.int64] | None = None,
    ) -> None:
        """Changes the loaded objects, with one hierarchy event; nothing is saved.

        Args:
            gone: Ids (n, 2) of objects to take away; what lies below them stays.
            added: New objects.
            parents: Ids (n, 2) of the objects they lie below, zeros for the root.
            snapshot: A `data.qpdata` that objects come back from.
            returned: Ids (n, 2) of those.

        Raises:
            ResourceLimit: Java's memory does not suffice.
            InputRefused: QuPath refused; the loaded data is of no use any more.
        """
        with from_java(f"{self.what}: its objects could not be changed", InputRefused):
            new, below = objects_class().unpack(map_of(added)), parents
            if snapshot is not None and returned is not None and len(returned):
                old = objects_class().chosen(hierarchy_of(snapshot), java_array(returned))
                below = np.concatenate([parents, np.array(objects_class().parentsOf(old)).reshape(-1, 2)])
                new.addAll(old)
            objects_class().change(self._data.getHierarchy(), java_array(gone), new, java_array(below))

    def measure(self, ids: NDArray[np.int64], names: Sequence[str], values: NDArray[np.float64]) -> None:
        """Puts measurements on loaded objects, with one event; nothing is saved.

        Args:
            ids: Of n objects, (n, 2).
            names: Of m measurements.
            values: (n, m); NaN leaves an object's own.

        Raises:
            ResourceLimit: Java's memory does not suffice.
            InputRefused: QuPath refused; the loaded data is of no use any more.
        """
        from jpype import JArray, JString

        with from_java(f"{self.what}: its objects could not be measured", InputRefused):
            hierarchy = self._data.getHierarchy()
            objects_class().measure(
                hierarchy, java_array(ids), JArray(JString)(list(names)), java_array(values)
            )

    def save(self) -> None:
        """Saves the changed data, as QuPath does: over the old file. Take a snapshot before.

        Raises:
            StorageError: The disk refused.
            ResourceLimit: Java's memory does not suffice: the file may be damaged now.
        """
        with from_java(f"{self.what}: it could not be saved", StorageError):
            self._entry.saveImageData(self._data)

    def forget(self) -> None:
        """Lets Java reclaim the loaded data."""
        self._data = None

    # ---- Pixels -------------------------------------------------------------------------------------------

    def levels(self) -> tuple[Level, ...]:
        """The levels of QuPath's own server, full resolution first.

        Raises:
            ImageError: QuPath cannot open the image, or it is not 8-bit RGB.
        """
        server = self._opened()
        with from_java(f"{self.what}: its levels cannot be read", ImageError):
            if not server.isRGB():
                raise ImageError(
                    f"{self.what}: not 8-bit RGB ({server.getPixelType()}, {server.nChannels()} channels); "
                    "brightfield RGB is needed"
                )
            metadata = server.getMetadata()
            every = [metadata.getLevel(number) for number in range(metadata.nLevels())]
            return tuple(
                Level(int(level.getWidth()), int(level.getHeight()), float(level.getDownsample()))
                for level in every
            )

    def pixel_size_um(self) -> tuple[float, float] | None:
        """(width, height) of a full-resolution pixel, as QuPath has it; None without a calibration.

        Raises:
            ImageError: QuPath cannot open the image.
        """
        calibration = self._opened().getPixelCalibration()
        if not calibration.hasPixelSizeMicrons():
            return None
        return float(calibration.getPixelWidthMicrons()), float(calibration.getPixelHeightMicrons())

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """A block (height, width, 3) from QuPath's own server.

        Raises:
            ImageError: It cannot be decoded.
        """
        server, where = self._opened(), f"level {level}, x {x}, y {y}, {width} x {height} px"
        with from_java(f"{self.what}: a block cannot be read ({where})", ImageError):
            raw = np.asarray(pixels_class().block(server, level, x, y, width, height))
        return raw.view(np.uint8).reshape(height, width, 3)

    def close_pixels(self) -> None:
        """Closes the image's file."""
        if self._server is not None:
            server, self._server = self._server, None
            with from_java(f"{self.what}: cannot be closed", ImageError):
                server.close()

    def _opened(self) -> Any:
        if self._server is None:
            with from_java(f"{self.what}: QuPath cannot open the image", ImageError):
                self._server = self._entry.getServerBuilder().build()
        return self._server


def create_project(file: Path) -> OpenProject:
    """Makes an empty project; its folder must be empty, or not there.

    Raises:
        UsageError: paquo or QuPath is missing.
        InputRefused: QuPath refused.
    """
    start_java()
    from paquo.projects import QuPathProject

    with from_java(f"{file}: QuPath cannot make the project", InputRefused):
        QuPathProject(file, mode="x").save()
    return OpenProject(file)


def _color(color: Sequence[int] | None) -> Any:
    from jpype import JClass

    if color is None:
        return None
    return JClass("java.lang.Integer")(
        int(np.uint32(0xFF000000 | color[0] << 16 | color[1] << 8 | color[2]).astype(np.int32))
    )
