"""`Spatial` over gRPC: the numbers of the command line, from objects that a client sends."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import numpy as np
import pytest
import shapely
from PIL import Image

from drawn import HeldNetwork
from tissuebridge.cli import main
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import CELLS_MARKED, ObjectType, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.report.gallery import NO_PIXELS
from tissuebridge.report.page import page_html
from tissuebridge.rpc.transport import CLIENT_OPTIONS, ERROR_KEY, PROTOCOL, with_token
from tissuebridge.rpc.v1 import analysis_pb2, spatial_pb2_grpc, training_pb2
from tissuebridge.rpc.v1 import spatial_pb2 as wire
from tissuebridge.server.serve import Server, ServerOptions
from tissuebridge.spatial.measurements import measured_image
from tissuebridge.spatial.rows import csv_of
from tissuebridge.spatial.settings import SpatialSettings

TOKEN = "a token for tests"
SIDE = 400
UM = 0.5
OVER = threading.Event()


@pytest.fixture
def objects() -> list[PathObject]:
    rng = np.random.default_rng(4)
    areas = [("Tumor", shapely.box(0, 0, 180, SIDE)), ("Stroma", shapely.box(180, 0, SIDE, SIDE))]
    drawn = [
        PathObject(area, id=UUID(int=n + 1), path_class=PathClass(name))
        for n, (name, area) in enumerate(areas)
    ]
    places = np.round(rng.uniform(2, SIDE - 2, (80, 2)) * 16) / 16
    return drawn + [
        PathObject(shapely.Point(*place), id=UUID(int=100 + n), path_class=PathClass("CD3"))
        for n, place in enumerate(places)
    ]


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Any]:
    options = ServerOptions(port=0, token=TOKEN, discovery=tmp_path / "server.json")
    with (
        Server({"filters": HeldNetwork()}, options) as server,
        grpc.insecure_channel(server.address, options=CLIENT_OPTIONS) as channel,
    ):
        OVER.clear()
        yield spatial_pb2_grpc.SpatialStub(channel)
        OVER.set()


def requests(objects: list[PathObject], folder: Path, **start: Any) -> Iterator[wire.MeasureRequest]:
    path = folder / "sent.geojson"
    write_objects(path, objects)
    image = analysis_pb2.ImageIdentity(name="a.tif", width=SIDE, height=SIDE, pixel_size_um=UM)
    given = {"protocol": PROTOCOL, "image": image, "pixel_size_um": UM, "simulations": 19, **start}
    yield wire.MeasureRequest(start=wire.MeasureStart(**given))
    yield wire.MeasureRequest(objects=training_pb2.ObjectsPiece(geojson=path.read_bytes(), last=True))
    # A client keeps its side open until it has heard all.
    OVER.wait(60)


def test_measured_by_a_server_as_here(stub: Any, objects: list[PathObject], tmp_path: Path) -> None:
    call = stub.Measure(requests(objects, tmp_path), metadata=with_token(TOKEN), timeout=120)
    tables: dict[str, bytes] = {}
    found: dict[UUID, dict[str, float]] = {}
    page, told = b"", []
    for response in call:
        kind = response.WhichOneof("step")
        if kind == "table":
            tables[response.table.name] = tables.get(response.table.name, b"") + response.table.csv
        elif kind == "objects":
            names = list(response.objects.names)
            for at in range(0, len(response.objects.ids), 16):
                row = struct.unpack_from(
                    f"<{len(names)}d", response.objects.values, at // 16 * 8 * len(names)
                )
                found[UUID(bytes=response.objects.ids[at : at + 16])] = dict(zip(names, row, strict=True))
        elif kind == "page":
            page += response.page
        elif kind == "done":
            told = list(response.done.told)

    here = measured_image(objects, UM, SIDE, SIDE, SpatialSettings(simulations=19))
    assert tables == {
        name: csv_of([{"image": "a.tif", **row} for row in rows]) for name, rows in here.tables.items()
    }
    for obj in here.objects:
        measured = {name: value for name, value in found[obj.id].items() if not np.isnan(value)}  # type: ignore[index]
        assert measured == pytest.approx(dict(obj.measurements))
    assert b"Infiltration at" in page
    assert any(line.startswith("a.tif: CD3 in Tumor") for line in told)


@pytest.fixture
def checked(objects: list[PathObject]) -> list[PathObject]:
    """The same with all cells marked, and what an analysis found: all but the first ten, with scores."""
    marked = PathObject(shapely.box(0, 0, SIDE, SIDE), id=UUID(int=50), path_class=PathClass(CELLS_MARKED))
    found = [
        with_provenance(
            PathObject(
                dot.geometry.buffer(4),
                ObjectType.DETECTION,
                id=UUID(int=1000 + n),
                path_class=PathClass("CD3"),
                measurements={"tissuebridge: score CD3": 0.5 + n / 256},
            ),
            Provenance("run-1", "analyse", "lung", "d", "0.1"),
        )
        for n, dot in enumerate(objects[12:])
    ]
    return [*objects, marked, *found]


def test_how_far_to_trust_the_numbers_is_told_as_by_the_command_line(
    stub: Any, checked: list[PathObject], tmp_path: Path
) -> None:
    for part in ("images", "annotations"):
        (tmp_path / part).mkdir()
    Image.fromarray(np.full((SIDE, SIDE, 3), 220, np.uint8)).save(tmp_path / "images" / "a.png")
    write_objects(tmp_path / "annotations" / "a.geojson", checked)
    assert main(["spatial", str(tmp_path), "--pixel-size", str(UM), "--simulations", "19"]) == 0
    image = analysis_pb2.ImageIdentity(name="a", width=SIDE, height=SIDE, pixel_size_um=UM)

    call = stub.Measure(requests(checked, tmp_path, image=image), metadata=with_token(TOKEN), timeout=120)
    responses = list(call)

    tables: dict[str, bytes] = {}
    for piece in (one.table for one in responses if one.WhichOneof("step") == "table"):
        tables[piece.name] = tables.get(piece.name, b"") + piece.csv
    page = b"".join(one.page for one in responses).decode()
    for name in ("agreement", "agreement_areas", "sensitivity"):
        assert tables[name] == (tmp_path / "spatial" / f"{name}.csv").read_bytes()
    theirs = (tmp_path / "spatial" / "spatial.html").read_text()
    for heading in ("Counted by a person and by the analysis", "If the threshold were higher"):
        section = theirs[theirs.index(f"<h2>{heading}</h2>") :].split("</section>")[0]
        assert "<table>" in section
        assert section in page
    assert "gallery" not in tables
    assert page_html("", [NO_PIXELS]).split("<section>")[1].split("</section>")[0] in page


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"protocol": 9}, "speaks protocol"),
        ({"simulations": 3}, "at least 19"),
        ({"cells": "mine"}, "latest, analysis, person"),
        ({"pixel_size_um": -1}, "pixel size"),
    ],
)
def test_an_impossible_order_is_refused(
    stub: Any, objects: list[PathObject], tmp_path: Path, given: Any, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Measure(requests(objects, tmp_path, **given), metadata=with_token(TOKEN), timeout=60))

    error: Any = caught.value
    assert {item.key: item.value for item in error.trailing_metadata()}[ERROR_KEY] == "UsageError"
    assert words in error.details()
