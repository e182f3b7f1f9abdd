"""Many objects into QuPath and back: flat arrays against paquo's loop over objects, in one run, alternately.

    PAQUO_QUPATH_DIR=... python tests/benchmarks/qupath_objects.py [--count 100000] [--rounds 3]
    PAQUO_JAVA_OPTS=-Xmx9g python tests/benchmarks/qupath_objects.py --count 1000000 --rounds 1 --no-loop

Times exclude saving but where it says so. Sizes are those of `data.qpdata` with the same objects by either way.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import skimage.io

from tissuebridge.objects import ObjectType, PathClass, PathObject
from tissuebridge.project.flat import FlatObjects, flattened, unflattened
from tissuebridge.project.paquo.arrays import flat_of
from tissuebridge.project.paquo.java import hierarchy_of, objects_class, start_java
from tissuebridge.project.paquo.opened import OpenEntry, create_project
from tissuebridge.project.qpproj import read_entries
from tissuebridge.vectorize import discs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-loop", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), given.count, given.rounds, with_loop=not given.no_loop)


def run(folder: Path, count: int, rounds: int, *, with_loop: bool) -> None:
    skimage.io.imsave(folder / "image.png", skimage.data.immunohistochemistry(), check_contrast=False)
    objects = cells(count)
    times: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for number in range(rounds):
        ways: dict[str, Callable[..., None]] = {"bulk": bulk} | ({"loop": loop} if with_loop else {})
        for way, add in ways.items():
            opened = create_project(folder / f"{way} {number}" / "project.qpproj")
            entry_id = opened.add_image(folder / "image.png", 0.5)
            opened.sync()
            entry = next(e for e in read_entries(opened.file) if e.id == entry_id)
            store = opened.entry(entry_id)
            store.load()
            given = measure(times, "to flat arrays", lambda: flattened(objects)) if way == "bulk" else objects
            measure(
                times, f"{way}: create and add", lambda add=add, store=store, given=given: add(store, given)
            )
            measure(times, f"{way}: save", store.save)
            sizes[way] = entry.files.data.stat().st_size
            store.forget()
            if way == "bulk":
                flat = measure(
                    times, "read the file in bulk", lambda s=store, e=entry: s.read_objects(e.files.data)
                )
                hierarchy = hierarchy_of(entry.files.data)
                measure(
                    times,
                    "read in bulk, file loaded",
                    lambda h=hierarchy: flat_of(objects_class().pack(h)),
                )
                measure(times, "as PathObject", lambda flat=flat: unflattened(flat))
    report(times, sizes, count)


def cells(count: int) -> list[PathObject]:
    """Discs of 24 vertices with a class and two measurements, as QUPATH.md's table has them."""
    xy = np.random.default_rng(0).random((count, 2)) * 500
    tumor = PathClass("Tumor", (200, 0, 0))
    return [
        PathObject(shape, ObjectType.DETECTION, None, tumor, measurements={"a": 0.5, "b": 0.25})
        for shape in discs(xy, np.full(count, 10.0))
    ]


def bulk(store: OpenEntry, objects: FlatObjects) -> None:
    store.change(np.zeros((0, 2), np.int64), objects, np.zeros((len(objects), 2), np.int64))


def loop(store: OpenEntry, objects: list[PathObject]) -> None:
    from paquo.classes import QuPathPathClass
    from paquo.hierarchy import QuPathPathObjectHierarchy

    hierarchy = QuPathPathObjectHierarchy(store._data.getHierarchy())
    tumor = QuPathPathClass("Tumor")
    for obj in objects:
        hierarchy.add_detection(obj.geometry, path_class=tumor, measurements=dict(obj.measurements))


def measure(times: dict[str, list[float]], what: str, do: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = do()
    times.setdefault(what, []).append(time.perf_counter() - start)
    return result


def report(times: dict[str, list[float]], sizes: dict[str, int], count: int) -> None:
    print(f"{count:,} detections, QuPath {start_java()}; median (all), s")
    for what, found in times.items():
        print(f"{what:28} {statistics.median(found):7.2f}  ({', '.join(f'{one:.2f}' for one in found)})")
    for way, size in sizes.items():
        print(f"{way:28} {size / 1e6:7.1f} MB")
    if "loop" in sizes:
        ratio = statistics.median(
            slow / fast
            for slow, fast in zip(times["loop: create and add"], times["bulk: create and add"], strict=True)
        )
        print(f"bulk is {ratio:.1f} times faster")


if __name__ == "__main__":
    main()
