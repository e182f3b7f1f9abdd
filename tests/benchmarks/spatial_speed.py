"""Speed of second-order statistics, beside R's spatstat where it is installed; run by hand.

    python tests/benchmarks/spatial_speed.py [--million]

Cross-K with the translation correction of n + n cells at a density that gives about 30 neighbours within the largest
radius, in a rectangle and in a polygon with a hole. Before, K of few cells beside astropy and pointpats, and cross-K
and K in a rectangle beside spatstat, alternately, where they are installed. With --million also 10^6 cells, with the
peak memory. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter, process_time

import numpy as np
import shapely

from tissuebridge.spatial.edges import Correction
from tissuebridge.spatial.nearest import nearest_g
from tissuebridge.spatial.pair_correlation import pair_correlation
from tissuebridge.spatial.ripley import ripley_k
from tissuebridge.spatial.window import Window

PER_MM2 = 4000
REACH_UM = float(np.sqrt(30 / (np.pi * PER_MM2 / 1e6)))
R = np.linspace(0, REACH_UM, 65)[1:]

FINE = np.linspace(0, REACH_UM, 513)
"""As many radii as spatstat takes by default."""

SPATSTAT = """
suppressMessages(library(spatstat.explore)); suppressMessages(library(spatstat.random))
given <- as.numeric(commandArgs(trailingOnly = TRUE))
n <- given[1]; side <- given[2]; r <- seq(0, given[3], length.out = 513); W <- owin(c(0, side), c(0, side))
X <- superimpose(a = runifpoint(n, W), b = runifpoint(n, W))
for (i in 1:2) {
  cross <- system.time(suppressWarnings(Kcross(X, "a", "b", r = r, correction = "translate")))
  single <- system.time(Kest(X, r = r, correction = "isotropic", nlarge = Inf))
}
for (t in list(cross, single)) cat(t[["user.self"]] + t[["sys.self"]], "\\n")
"""
"""Prints the CPU-s of the second time, when all is loaded. Of more than 46,340 points of each class, R warns that their
product is no integer."""


def windows(n: int) -> list[Window]:
    side = float(np.sqrt(n / PER_MM2 * 1e6))
    square = Window.of(shapely.box(0, 0, side, side), name="rectangle")
    angle = np.linspace(0, 2 * np.pi, 1500, endpoint=False)
    radius = side * (0.56 + 0.03 * np.sin(9 * angle) + 0.004 * np.sin(101 * angle))
    blob = shapely.Polygon(side / 2 + np.c_[radius * np.cos(angle), radius * np.sin(angle)])
    return [square, Window.of(blob, [shapely.Point(side / 2, side / 2).buffer(side / 10)], "holed polygon")]


def timed(what: str, function: object, *arguments: object, **options: object) -> None:
    assert callable(function)
    started = perf_counter()
    function(*arguments, **options)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {perf_counter() - started:.2f} s, peak so far {peak_gib:.1f} GiB", flush=True)


def beside_peers(n: int, rounds: int = 3) -> None:
    """Ripley's K of the same cells in a rectangle by us and by the Python libraries that are installed, alternately."""
    [window, _] = windows(n)
    cells = window.sample(n, np.random.default_rng(0))
    side = float(np.sqrt(window.area_um2))
    ways: dict[str, Callable[[], object]] = {
        "ours, translation": lambda: ripley_k(cells, window, R, correction=Correction.TRANSLATION)
    }
    with suppress(ImportError):
        from astropy.stats import RipleysKEstimator

        peer = RipleysKEstimator(area=side**2, x_max=side, y_max=side, x_min=0, y_min=0)
        ways["astropy, translation"] = lambda: peer(cells, R, mode="translation")
    with suppress(ImportError):
        import pointpats

        ways["pointpats, no correction"] = lambda: pointpats.k(cells, support=R)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            started = process_time()
            run()
            seconds[way].append(process_time() - started)
    own, *_ = medians = [statistics.median(times) for times in seconds.values()]
    for way, median in zip(ways, medians, strict=True):
        print(f"K of {n:,} cells, {way}: {median:.3f} CPU-s, {median / own:.0f} times ours", flush=True)


def beside_spatstat(n: int, rounds: int = 5) -> None:
    """Cross-K of n + n cells and K of all of them in a rectangle, and by R's spatstat; alternately, one thread each."""
    [window, _] = windows(n)
    random = np.random.default_rng(0)
    a, b = window.sample(n, random), window.sample(n, random)
    both = np.concatenate([a, b])
    size = [str(n), str(float(np.sqrt(window.area_um2))), str(REACH_UM)]
    seconds: list[tuple[float, ...]] = []
    for _ in range(rounds):
        started = process_time()
        ripley_k(a, window, FINE, b, correction=Correction.TRANSLATION)
        middle = process_time()
        ripley_k(both, window, FINE, correction=Correction.ISOTROPIC)
        own = middle - started, process_time() - middle
        told = subprocess.run(["Rscript", "-e", SPATSTAT, *size], check=True, capture_output=True, text=True)
        seconds.append((*own, *map(float, told.stdout.split())))
    cross, single, their_cross, their_single = (statistics.median(one) for one in zip(*seconds, strict=True))
    for what, ours, theirs in (
        (f"cross-K translation, {n:,} + {n:,} cells", cross, their_cross),
        (f"K isotropic, {2 * n:,} cells", single, their_single),
    ):
        print(f"{what}: {ours:.2f} CPU-s, spatstat {theirs:.2f}, {ours / theirs:.2f} of it", flush=True)


def main(sizes: list[int]) -> None:
    for n in (5_000, 10_000):
        beside_peers(n)
    if shutil.which("Rscript"):
        for n in (10_000, 100_000):
            beside_spatstat(n)
    for n in sizes:
        for window in windows(n):
            random = np.random.default_rng(0)
            a, b = window.sample(n, random), window.sample(n, random)
            for correction in Correction:
                timed(
                    f"cross-K {correction}, {n:,} + {n:,} cells, {window.name}",
                    ripley_k,
                    a,
                    window,
                    R,
                    b,
                    correction=correction,
                )
            timed(f"g translation, {n:,} cells, {window.name}", pair_correlation, a, window, R)
            timed(f"G, {n:,} cells, {window.name}", nearest_g, a, window, R)


if __name__ == "__main__":
    main([10_000, 100_000, *([1_000_000] if "--million" in sys.argv else [])])
