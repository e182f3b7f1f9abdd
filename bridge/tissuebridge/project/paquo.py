"""QuPath itself, in a JVM inside this process: the only file that imports paquo and jpype, and only when asked.

paquo finds QuPath and starts its Java; projects are opened with paquo, objects cross in bulk (`flat`, and
`objects.groovy` on the other side). paquo's own saving is never used: it saves on leaving a `with` block,
whatever happened, and skips images silently; `Entry` objects here save once, when told.

A process has one JVM. It cannot be forked after that: start other processes with spawn.
"""

from __future__ import annotations

import importlib
import importlib.resources
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import (
    ImageError,
    InputRefused,
    JavaExhausted,
    ResourceLimit,
    StorageError,
    TissuebridgeError,
    UsageError,
)
from tissuebridge.project.base import Level
from tissuebridge.project.flat import (
    FlatObjects,
    decoded,
    encoded,
    geometries_of,
    rings_of,
    with_rings,
    wkb_of,
)

JAVA_OPTIONS: Final = "PAQUO_JAVA_OPTS"
LEAST_HEAP: Final = 2 * 2**30
HEAP_SHARE: Final = 0.6
"""Of the machine's memory; a limit, which Java takes only as far as it needs."""
OBJECT_BYTES: Final = 9_000
"""Java's memory for one detection while it is made, saved and read again: 1,000,000 in 9 GB."""
DATA_FACTOR: Final = 26
"""Java's memory for a byte of `data.qpdata`: 346 MB hold 1,000,000 detections."""

_INSTALL: Final = "Install it: pip install 'tissuebridge[qupath]'."
_FIND: Final = "Install QuPath 0.6 or newer, and set PAQUO_QUPATH_DIR to its folder."
_ARRAYS: Final = {
    "ids": np.int64,
    "kind": np.int8,
    "flags": np.int8,
    "path_class": np.int32,
    "name": np.int32,
    "plane": np.int32,
    "class_colors": np.int32,
    "metadata_ends": np.int32,
    "metadata_keys": np.int32,
    "metadata_values": np.int32,
    "measurement_ends": np.int32,
    "measurement_names": np.int32,
    "measurement_values": np.float64,
}

_log = logging.getLogger(__name__)


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

    def add_image(self, path: Path, pixel_size_um: float | None = None) -> str:
        """Adds the first image of a file to the project; gives its entry ID.

        Args:
            path: The file.
            pixel_size_um: Set in QuPath, for a file that has none.

        Raises:
            ImageError: QuPath cannot read the file.
        """
        from jpype import JClass

        with from_java(f"{path}: QuPath cannot add it", ImageError):
            try:
                entry = self._paquo.add_image(path, return_list=True)[0].java_object
            except (OSError, RuntimeError) as error:
                raise ImageError(f"{path}: QuPath cannot read it: {error}") from error
            if pixel_size_um is not None:
                data = entry.readImageData()
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
            return _flat(objects_class().pack(_hierarchy(data)))

    def load(self) -> FlatObjects:
        """Loads the image's data for a change, and gives its objects.

        Raises:
            InputRefused: QuPath cannot read it.
            ResourceLimit: Java's memory does not suffice.
        """
        with from_java(f"{self.what}: its data cannot be read", InputRefused):
            self._data = self._entry.readImageData()
            return _flat(objects_class().pack(self._data.getHierarchy()))

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
            new, below = objects_class().unpack(_map(added)), parents
            if snapshot is not None and returned is not None and len(returned):
                old = objects_class().chosen(_hierarchy(snapshot), _java(returned))
                below = np.concatenate([parents, np.array(objects_class().parentsOf(old)).reshape(-1, 2)])
                new.addAll(old)
            objects_class().change(self._data.getHierarchy(), _java(gone), new, _java(below))

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
            raw = np.asarray(objects_class().block(server, level, x, y, width, height))
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


# ---- The JVM ----------------------------------------------------------------------------------------------


@cache
def start_java() -> str:
    """Starts QuPath's Java in this process, once; gives QuPath's version.

    Raises:
        UsageError: paquo or QuPath is missing.
        ResourceLimit: Java could not get its memory.
    """
    options = _java_options()
    os.environ[JAVA_OPTIONS] = json.dumps(options)
    try:
        importlib.import_module("paquo.projects")  # sets QuPath's logging to DEBUG, so before it is set here
        from paquo.java import LogManager, System, qupath_version
    except ModuleNotFoundError as error:
        raise UsageError(f"QuPath projects need paquo ({error}). {_INSTALL}") from error
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"QuPath was not found: {error}. {_FIND}") from error
    except (OSError, RuntimeError) as error:
        raise ResourceLimit(f"QuPath's Java does not start with {' '.join(options)}: {error}") from error
    # Standard output is for results.
    System.setOut(System.err)
    # What QuPath warns of on opening images (no objective power) is not ours to tell; its errors are.
    for name in ("qupath", "paquo"):
        logging.getLogger(name).setLevel(
            logging.ERROR if _log.getEffectiveLevel() > logging.INFO else logging.INFO
        )
    if LogManager is not None:
        LogManager.setError()
    _log.info("QuPath %s started with %s", qupath_version, " ".join(options))
    return str(qupath_version)


def check_heap(what: str, data_bytes: int, new_objects: int) -> None:
    """Refuses a change that Java's memory would not suffice for, before it is begun.

    Raises:
        ResourceLimit: Says how much is needed.
    """
    from jpype import JClass

    needed = DATA_FACTOR * data_bytes + OBJECT_BYTES * new_objects
    heap = int(JClass("java.lang.Runtime").getRuntime().maxMemory())
    if needed > heap:
        give = -(-needed // 2**30) + 1
        raise ResourceLimit(
            f"{what}: {data_bytes / 1e6:,.0f} MB of objects and {new_objects:,} new ones need about "
            f"{needed / 1e9:.1f} GB of Java's memory, which has {heap / 1e9:.1f} GB. "
            f"Set {JAVA_OPTIONS}='[\"-Xmx{give}g\"]', on a machine that has as much."
        )


@cache
def objects_class() -> Any:
    """The class of `objects.groovy`, compiled by QuPath's own Groovy."""
    start_java()
    from jpype import JClass

    text = importlib.resources.files(__package__).joinpath("objects.groovy").read_text("utf-8")
    return JClass(JClass("groovy.lang.GroovyClassLoader")().parseClass(text))


@contextmanager
def from_java(what: str, kind: type[TissuebridgeError]) -> Iterator[None]:
    """Makes an error of Java one of ours; a lack of memory is always `ResourceLimit`.

    Raises:
        TissuebridgeError: Of the kind; with Java's message, without its stack.
    """
    import jpype

    try:
        yield
    except jpype.JException as error:
        _log.info("%s: %s", what, error.stacktrace())
        name, said = type(error).__name__, str(error.getMessage())
        causes = _causes(error)
        if any(cause.endswith(("OutOfMemoryError", "StackOverflowError")) for cause in causes):
            raise JavaExhausted(
                f"{what}: Java's memory does not suffice ({causes[-1].rpartition('.')[2]}). "
                f'Set {JAVA_OPTIONS}=\'["-Xmx8g", "-Xss16m"]\' or more.'
            ) from None
        raise kind(f"{what}: {said} ({name.rpartition('.')[2]})") from None
    except OverflowError as error:
        raise ResourceLimit(f"{what}: {error}") from error


def _causes(error: Any) -> list[str]:
    names: list[str] = []
    while error is not None and len(names) < 10:
        names.append(str(error.getClass().getName()))
        error = error.getCause()
    return names


def _java_options() -> list[str]:
    """What a person set, else a heap for this machine; Ctrl-C stays Python's (-Xrs) in any case."""
    given = os.environ.get(JAVA_OPTIONS)
    if given is None:
        options = [f"-Xmx{max(LEAST_HEAP, int(HEAP_SHARE * _memory())) // 2**20}m"]
    else:
        try:
            options = json.loads(given) if given.lstrip().startswith("[") else shlex.split(given)
        except ValueError as error:
            raise UsageError(
                f"{JAVA_OPTIONS}={given}: neither options nor a JSON list of them: {error}"
            ) from error
    extra = [option for option in ("-Xrs", "-Djava.awt.headless=true") if option not in options]
    return [*map(str, options), *extra]


def _memory() -> int:
    if sys.platform == "win32":
        return LEAST_HEAP * 4
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _hierarchy(data: Path) -> Any:
    from jpype import JClass

    return JClass("qupath.lib.io.PathIO").readHierarchy(JClass("java.io.File")(str(data)).toPath())


# ---- Arrays there and back --------------------------------------------------------------------------------


def _flat(packed: Any) -> FlatObjects:
    def array(name: str) -> NDArray[Any]:
        return np.array(packed.get(name))

    def raw(name: str) -> tuple[bytes, NDArray[np.int32]]:
        return array(name).tobytes(), array(f"{name}_ends")

    return FlatObjects(
        ids=array("ids").reshape(-1, 2),
        kind=array("kind").view(np.uint8),
        flags=array("flags").view(np.uint8),
        path_class=array("path_class"),
        name=array("name"),
        parent=array("parent"),
        plane=array("plane").reshape(-1, 3),
        classes=decoded(*raw("classes")),
        class_colors=array("class_colors"),
        strings=decoded(*raw("strings")),
        metadata_ends=array("metadata_ends"),
        metadata_keys=array("metadata_keys"),
        metadata_values=array("metadata_values"),
        measurement_ends=array("measurement_ends"),
        measurement_names=array("measurement_names"),
        measurement_values=array("measurement_values"),
        geometries=with_rings(geometries_of(*raw("geometries")), array("rings"), array("rings_ends")),
        nuclei=geometries_of(*raw("nuclei")),
    )


def _map(flat: FlatObjects) -> Any:
    from jpype import JClass

    out = JClass("java.util.HashMap")()
    for name, dtype in _ARRAYS.items():
        array = getattr(flat, name)
        out.put(name, _java(array.view(dtype) if array.dtype.itemsize == 1 else array.astype(dtype)))
    _put(out, "classes", *encoded(flat.classes))
    _put(out, "strings", *encoded(flat.strings))
    rings, ends, others = rings_of(flat)
    out.put("rings", _java(rings))
    out.put("rings_ends", _java(ends))
    _put(out, "geometries", *wkb_of(others))
    _put(out, "nuclei", *wkb_of(flat.nuclei))
    return out


def _put(out: Any, name: str, raw: NDArray[np.uint8], ends: NDArray[np.int32]) -> None:
    out.put(name, _java(raw.view(np.int8)))
    out.put(f"{name}_ends", _java(ends))


def _java(array: NDArray[Any]) -> Any:
    """A Java array of the numbers, row by row."""
    import jpype

    kinds: dict[Any, Any] = {
        np.int8: jpype.JByte,
        np.int32: jpype.JInt,
        np.int64: jpype.JLong,
        np.float32: jpype.JFloat,
        np.float64: jpype.JDouble,
    }
    kind = kinds[array.dtype.type]
    flat = np.ascontiguousarray(array).ravel()
    return jpype.JArray(kind)(flat) if flat.size else jpype.JArray(kind)(0)


def _color(color: Sequence[int] | None) -> Any:
    from jpype import JClass

    if color is None:
        return None
    return JClass("java.lang.Integer")(
        int(np.uint32(0xFF000000 | color[0] << 16 | color[1] << 8 | color[2]).astype(np.int32))
    )
