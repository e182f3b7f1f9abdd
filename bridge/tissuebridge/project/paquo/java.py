"""Starting QuPath's Java, its memory, and its errors as ours."""

from __future__ import annotations

import importlib
import importlib.resources
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from tissuebridge.errors import JavaExhausted, ResourceLimit, TissuebridgeError, UsageError

JAVA_OPTIONS: Final = "PAQUO_JAVA_OPTS"
LEAST_HEAP: Final = 2 * 2**30
HEAP_SHARE: Final = 0.6
"""Of the machine's memory; a limit, which Java takes only as far as it needs."""
OBJECT_BYTES: Final = 9_000
"""Java's memory for one detection while it is made, saved and read again: 1,000,000 in 9 GB."""
DATA_FACTOR: Final = 16
"""Java's memory for a byte of `data.qpdata` that is loaded, taken out and saved: 410 MB hold 1,000,000 detections."""

_INSTALL: Final = "Install it: pip install 'tissuebridge[qupath]'."
_FIND: Final = "Install QuPath 0.6 or newer, and set PAQUO_QUPATH_DIR to its folder."

_log = logging.getLogger(__name__)


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
    return _compiled("objects.groovy")


@cache
def pixels_class() -> Any:
    """The class of `pixels.groovy`."""
    return _compiled("pixels.groovy")


def _compiled(source: str) -> Any:
    start_java()
    from jpype import JClass

    text = importlib.resources.files(__package__).joinpath(source).read_text("utf-8")
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


def hierarchy_of(data: Path) -> Any:
    """The objects in a `data.qpdata`, as QuPath's own hierarchy."""
    from jpype import JClass

    return JClass("qupath.lib.io.PathIO").readHierarchy(JClass("java.io.File")(str(data)).toPath())
