"""Images over several processes and over a Dask cluster: the same files as by one process, whoever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile

from tissuebridge.batch.cluster import ClusterWorkers
from tissuebridge.batch.local import TRIES, LocalWorkers
from tissuebridge.batch.tasks import Task, compute
from tissuebridge.cli import main
from tissuebridge.errors import ImageError, ServerUnreachable, UsageError
from tissuebridge.starter import starter_folder

SIDE = 192
IMAGES = 4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    (folder / "images").mkdir()
    tissue = np.ascontiguousarray(skimage.data.immunohistochemistry())
    for number in range(IMAGES):
        part = tissue[: SIDE + 16 * number, 64 * number : 64 * number + SIDE]
        tifffile.imwrite(folder / "images" / f"case {number}.tif", part, photometric="rgb")
    return folder


@pytest.fixture(scope="module")
def straight(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return results(run(source, tmp_path_factory.mktemp("straight")))


def run(source: Path, output: Path, *more: str) -> Path:
    assert main(["analyse", str(source), "--pixel-size", "0.5", "--output", str(output), *more]) == 0
    return output


def results(output: Path) -> dict[str, Any]:
    """The objects of each image, but for what names the run; scores to 4 digits, since threads change the last ones."""
    found = {}
    for path in sorted(output.glob("*.geojson")):
        features = json.loads(path.read_text())["features"]
        for feature in features:
            feature["properties"]["metadata"].pop("tissuebridge:run")
            measured = feature["properties"]["measurements"]
            feature["properties"]["measurements"] = {
                name: round(value, 4) for name, value in measured.items()
            }
        found[path.name] = features
        found[path.stem] = path.with_name(f"{path.stem}.labels.tif").read_bytes()
    return found


def tasks(source: Path, place: Path, **given: Any) -> list[Task]:
    return [
        Task(
            source=str(source),
            image=f"case {number}",
            journal=str(place / f"case {number}"),
            model=str(starter_folder()),
            pixel_size_um=0.5,
            **given,
        )
        for number in range(IMAGES)
    ]


def nobody(done: int, total: int) -> None:
    """Hears how far it is."""


def strips(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_two_workers_write_the_same_files_as_one_process(
    source: Path, straight: dict[str, Any], tmp_path: Path
) -> None:
    assert results(run(source, tmp_path, "--workers", "2")) == straight
    assert len(straight) == 2 * IMAGES


def test_the_process_that_writes_what_workers_computed_loads_no_network(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from tissuebridge.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    )
    asked = ["analyse", str(source), "--pixel-size", "0.5", "--output", str(tmp_path), "--workers", "2"]

    found = subprocess.run([sys.executable, "-c", script, *asked], capture_output=True, text=True, check=True)

    assert found.stdout.splitlines() == [
        *(str(tmp_path / f"case {number}.geojson") for number in range(IMAGES)),
        "False",
    ]


def test_killed_workers_are_replaced_and_nothing_is_missing(
    source: Path, straight: dict[str, Any], tmp_path: Path
) -> None:
    with LocalWorkers(tasks(source, tmp_path / "journal"), 2) as workers:
        for _ in range(2):
            while not workers._processes:
                time.sleep(0.01)
            os.kill(next(iter(workers._processes.values())).pid, signal.SIGTERM)
            time.sleep(0.5)
        for number in range(IMAGES):
            workers.wait_for(f"case {number}", nobody)

    before = strips(tmp_path / "journal")
    assert results(run(source, tmp_path)) == straight
    assert len(before) >= IMAGES


def test_an_image_that_kills_its_workers_is_set_aside(source: Path, tmp_path: Path) -> None:
    todo = tasks(source, tmp_path)
    # What no caller of ours sends: the worker falls over it.
    poisoned = [
        *todo[:1],
        Task(**{**{k: getattr(todo[1], k) for k in Task.__slots__}, "region": "zz"}),
        *todo[2:],
    ]

    with LocalWorkers(poisoned, 2) as workers:
        with pytest.raises(ImageError, match=f"case 1: {TRIES} workers died of it"):
            workers.wait_for("case 1", nobody)
        for number in (0, 2, 3):
            workers.wait_for(f"case {number}", nobody)


def test_a_damaged_image_is_told_and_the_others_are_done(
    source: Path, straight: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    (folder / "images").mkdir(parents=True)
    for path in (source / "images").iterdir():
        (folder / "images" / path.name).write_bytes(path.read_bytes())
    (folder / "images" / "case 1.tif").write_bytes(b"II*\0 not a picture")

    command = [
        "analyse",
        str(folder),
        "--pixel-size",
        "0.5",
        "--output",
        str(tmp_path / "out"),
        "--workers",
        "2",
    ]
    assert main(command) == 5

    found = results(tmp_path / "out")
    assert found == {name: held for name, held in straight.items() if not name.startswith("case 1")}
    assert "case 1" in capsys.readouterr().err


def test_what_a_worker_has_done_is_not_done_again(source: Path, tmp_path: Path) -> None:
    [task, *_] = tasks(source, tmp_path, tile_size=64)
    compute(task)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")} or {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()
    }
    told: list[tuple[int, int]] = []

    compute(task, lambda done, total: told.append((done, total)))

    assert told == [(told[0][1], told[0][1])]
    assert times.items() <= {path: path.stat().st_mtime_ns for path in times}.items()


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of SIDE px are huge."""
    monkeypatch.setattr("tissuebridge.batch.tasks.PART_PX", SIDE * SIDE // 3)
    monkeypatch.setattr("tissuebridge.batch.tasks.LOOK_S", 0.01)


@pytest.mark.usefixtures("in_parts")
def test_a_huge_image_is_computed_by_several_workers_at_once(
    source: Path, straight: dict[str, Any], tmp_path: Path
) -> None:
    [task, *_] = tasks(source, tmp_path / "journal", tile_size=32)
    parts = task.in_parts(SIDE * SIDE)
    assert len(parts) == 3
    told: list[tuple[int, int]] = []

    with LocalWorkers(parts, 2) as workers:
        while not workers._processes:
            time.sleep(0.01)
        os.kill(next(iter(workers._processes.values())).pid, signal.SIGKILL)
        workers.wait_for("case 0", lambda *tiles: told.append(tiles))

    done = [tiles for tiles, _ in told]
    assert done == sorted(done), "what is told never goes back"
    assert len({total for _, total in told}) == 1
    again: list[tuple[int, int]] = []
    compute(task, lambda *tiles: again.append(tiles))
    assert again == [(again[0][1], again[0][1])], "no strip is missing"
    assert {path.name for path in (tmp_path / "journal" / "case 0").glob("*.strip")} == {
        f"{strip:06d}.strip" for strip in range(2 * SIDE // 32)
    }

    one = tmp_path / "one"
    one.mkdir()
    (one / "case 0.tif").write_bytes((source / "images" / "case 0.tif").read_bytes())
    found = results(run(one, tmp_path / "out", "--workers", "2", "--tile-size", "64"))
    assert found == {name: held for name, held in straight.items() if name.startswith("case 0")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, resources={"model": 1}, host="127.0.0.1"
    ) as running:
        yield running


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_writes_the_same_files_though_a_worker_is_killed(
    cluster: Any, source: Path, straight: dict[str, Any], tmp_path: Path
) -> None:
    with ClusterWorkers(tasks(source, tmp_path / "journal"), cluster.scheduler_address) as workers:
        time.sleep(1)
        os.kill(next(iter(cluster.workers.values())).process.pid, signal.SIGKILL)
        for number in range(IMAGES):
            workers.wait_for(f"case {number}", nobody)
    assert len(strips(tmp_path / "journal")) >= IMAGES

    assert results(run(source, tmp_path, "--scheduler", cluster.scheduler_address)) == straight


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("in_parts")
def test_a_cluster_computes_the_parts_of_a_huge_image_and_tells_how_far_it_is(
    cluster: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tissuebridge.batch.cluster.LOOK_S", 0.05)
    [task, *_] = tasks(source, tmp_path / "journal", tile_size=32)
    told: list[tuple[int, int]] = []

    with ClusterWorkers(task.in_parts(SIDE * SIDE), cluster.scheduler_address) as workers:
        workers.wait_for("case 0", lambda *tiles: told.append(tiles))

    assert told
    assert told == sorted(told)
    assert {total for _, total in told} == {(2 * SIDE // 32) ** 2}
    assert len(list((tmp_path / "journal" / "case 0").glob("*.strip"))) == 2 * SIDE // 32


@pytest.mark.filterwarnings("ignore")
def test_without_a_scheduler_the_cure_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tissuebridge.batch.cluster.PATIENCE_S", 1)
    with pytest.raises(ServerUnreachable, match="no Dask scheduler answers"):
        ClusterWorkers(tasks(source, tmp_path), "tcp://127.0.0.1:9")


def test_a_server_computes_by_itself(source: Path) -> None:
    assert main(["analyse", str(source), "--server", "127.0.0.1:9", "--workers", "2"]) == 2
    with pytest.raises(UsageError, match="has no image"):
        compute(Task(str(source), "nobody", str(source), str(starter_folder())))
