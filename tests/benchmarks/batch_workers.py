"""Many images by one worker and by two, of which two are killed on the way: by hand, never in CI.

    python tests/benchmarks/batch_workers.py IMAGES [--count 16] [--side 1536] [--rounds 2] [--model MODEL]

Makes COUNT different images of real tissue (those of the folder IMAGES, side by side) and lets the command analyse
them, one thread a process, alternately A: by one process, B: with `--workers 2`, C: likewise, while two of the
workers are killed (SIGKILL). Prints wall times, the ratio of their medians, and whether all three wrote the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import tifffile
from pipeline_over_forward import mosaic


def run(folder: Path, output: Path, more: list[str], kills: int = 0) -> float:
    shutil.rmtree(output, ignore_errors=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tissuebridge", "analyse", str(folder), "--pixel-size", "0.25"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--output", str(output), *more],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    for turn in range(kills):
        wanted = 2 + 4 * turn  # not before some images are written
        while process.poll() is None and len(list(output.glob("*.geojson"))) < wanted:
            time.sleep(0.2)
        workers = psutil.Process(process.pid).children()
        workers[turn % len(workers)].kill()
        print(f"  killed a worker after {len(list(output.glob('*.geojson')))} images")
    said = process.communicate()[1].decode()
    if process.returncode != 0:
        raise SystemExit(said)
    return time.perf_counter() - begin


def objects(output: Path) -> dict[str, list[str]]:
    return {
        path.name: sorted(
            json.dumps([feature["id"], feature["geometry"]])
            for feature in json.loads(path.read_text())["features"]
        )
        for path in output.glob("*.geojson")
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--side", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", type=Path)
    asked = parser.parse_args()
    model = ["--model", str(asked.model)] if asked.model else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        folder.mkdir()
        tissue = mosaic(asked.images, 2 * asked.side)
        for number in range(asked.count):
            shift = number * asked.side // asked.count
            tifffile.imwrite(
                folder / f"{number:02}.tif",
                tissue[shift:, shift:][: asked.side, : asked.side],
                tile=(256, 256),
            )
        ways = {"one": ([], 0), "two": (["--workers", "2"], 0), "two, killed": (["--workers", "2"], 2)}
        seconds: dict[str, list[float]] = {}
        for _ in range(asked.rounds):
            for way, (more, kills) in ways.items():
                took = run(folder, Path(name) / way, [*model, *more], kills)
                seconds.setdefault(way, []).append(took)
                print(f"{way}: {took:.1f} s")
        found = {way: objects(Path(name) / way) for way in ways}
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print(f"two workers: {medians['one'] / medians['two']:.2f} times as fast as one")
    same = found["one"] == found["two"] == found["two, killed"]
    print(
        f"{len(found['one'])} images, {sum(map(len, found['one'].values()))} objects; the same by all: {same}"
    )


if __name__ == "__main__":
    main()
