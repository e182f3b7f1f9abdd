"""The service `Spatial`: an image's objects in; measurements for them, tables and a page out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import BoundedSemaphore
from typing import Any, Final

import numpy as np

from tissuebridge.errors import Cancelled, UsageError
from tissuebridge.objects import PathObject
from tissuebridge.report.checks import Checks
from tissuebridge.report.gallery import NO_PIXELS
from tissuebridge.report.spatial import SpatialPage
from tissuebridge.rpc import convert
from tissuebridge.rpc.v1 import analysis_pb2, spatial_pb2_grpc
from tissuebridge.rpc.v1 import spatial_pb2 as wire
from tissuebridge.server.call import Busy, Call, objects_in, run
from tissuebridge.spatial.measurements import changed_measurements, measured_image
from tissuebridge.spatial.rows import csv_of
from tissuebridge.spatial.sensitivity import scores_of
from tissuebridge.spatial.settings import SpatialSettings, Whose
from tissuebridge.spatial.told import told

_PLACES: Final = 2
_PIECE: Final = 2**20
_ROWS: Final = 8192


class SpatialService(spatial_pb2_grpc.SpatialServicer):
    """Measures images for clients.

    Args:
        idle_timeout_s: A call ends when its client sends or takes nothing for so long while it is waited for.
    """

    def __init__(self, idle_timeout_s: float) -> None:
        self._idle_timeout_s, self._places = idle_timeout_s, BoundedSemaphore(_PLACES)

    def Measure(  # noqa: N802
        self, request_iterator: Iterator[wire.MeasureRequest], context: Any
    ) -> Iterator[wire.MeasureResponse]:
        """Measures one image."""
        if not self._places.acquire(blocking=False):
            raise Busy(f"the server already measures {_PLACES} images; come again in a moment")
        yield from run(
            _Measuring(self._idle_timeout_s, context.cancel), request_iterator, context, self._places
        )


class _Measuring(Call[wire.MeasureRequest, wire.MeasureResponse]):
    """An image that is measured."""

    opens_with = "MeasureStart: which image"

    def block_of(self, request: wire.MeasureRequest) -> analysis_pb2.PixelBlock | None:
        return None

    def is_opening(self, number: int, request: wire.MeasureRequest) -> bool:
        return request.WhichOneof("step") == ("start" if number == 0 else "objects")

    def asking(self, request: analysis_pb2.BlockRequest) -> wire.MeasureResponse:
        raise NotImplementedError("no pixel is needed")

    def answer(self) -> None:
        start = self.opening().start
        image, um = convert.measured_image_of(start)
        settings = _settings_of(start)
        objects = objects_in(lambda: self.opening().objects)
        found = measured_image(objects, um, image.width, image.height, settings, self._tell)
        for message in _measurements(objects, found.objects):
            self.outbox.put(message)
        tables = {name: [{"image": image.name, **row} for row in rows] for name, rows in found.tables.items()}
        checks = Checks()
        checks.add(image.name, um, found.tissue, objects, scores_of(found.tissue, objects))
        tables |= checks.tables()
        for name, rows in tables.items():
            for piece in _pieces(csv_of(rows)):
                self.outbox.put(wire.MeasureResponse(table=wire.TablePiece(name=name, csv=piece)))
        page = SpatialPage()
        page.add(image.name, found.tissue, found.tables)
        for piece in _pieces(page.html([NO_PIXELS, *checks.sections()]).encode()):
            self.outbox.put(wire.MeasureResponse(page=piece))
        self.outbox.put(wire.MeasureResponse(done=wire.MeasureDone(told=told(tables).splitlines())))

    def _tell(self, done: int, total: int) -> None:
        if self.is_over():
            raise Cancelled("the call has ended")
        self.outbox.put(wire.MeasureResponse(progress=analysis_pb2.Progress(done=done, total=total)))


def _settings_of(start: wire.MeasureStart) -> SpatialSettings:
    try:
        cells, regions = Whose(start.cells or "latest"), Whose(start.regions or "latest")
    except ValueError:
        raise UsageError(f"whose cells and regions: expected one of {', '.join(Whose)}") from None
    settings = SpatialSettings(cells=cells, regions=regions, seed=start.seed)
    return replace(settings, simulations=start.simulations) if start.HasField("simulations") else settings


def _measurements(
    before: Sequence[PathObject], after: Sequence[PathObject]
) -> Iterator[wire.MeasureResponse]:
    ids, names, values = changed_measurements(before, after)
    for start in range(0, len(ids), _ROWS):
        part = slice(start, start + _ROWS)
        measured = wire.MeasuredObjects(
            names=names,
            ids=b"".join(one.bytes for one in ids[part]),
            values=np.ascontiguousarray(values[part], "<f8").tobytes(),
        )
        yield wire.MeasureResponse(objects=measured)


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]
