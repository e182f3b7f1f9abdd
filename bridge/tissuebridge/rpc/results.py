"""An analysis as messages, and the same analysis again from them.

Behind the engine in the server (`result_messages`), before write-back in the client (`Results`). Together
with `convert` the only files that know both messages and values. Arrays travel as little-endian bytes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from tissuebridge import __version__
from tissuebridge.analysis import Analysis, Cells, Summary
from tissuebridge.errors import TissuebridgeError
from tissuebridge.objects import PathObject, provenance
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.predictor.base import ModelDescription
from tissuebridge.project.base import ImageIdentity
from tissuebridge.rpc.convert import model_message, model_of
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.vectorize import RegionPolygon
from tissuemodel.detection import Candidates
from tissuemodel.labels import IGNORE_LABEL

_MAX_MESSAGE: Final = 2**20
"""Results are cut into messages of about this many bytes, so that small clients need no large buffer."""

_CELLS_A_MESSAGE: Final = 8192


def accepted_message(name: str, model: ModelDescription, options: AnalysisOptions) -> wire.AnalyzeResponse:
    """The server's opening."""
    return wire.AnalyzeResponse(
        accepted=wire.Accepted(
            server_version=__version__,
            model=model_message(name, model),
            run_id=options.run_id,
            cells_as_points=options.cells_as_points,
            min_region_area_um2=options.min_region_area_um2,
        )
    )


def result_messages(analysis: Analysis, *, details: bool, identify: bool) -> Iterator[wire.AnalyzeResponse]:
    """An analysis in pieces, the summary last."""
    yield from _region_messages(analysis, identify)
    yield from _cell_messages(analysis, identify)
    if details:
        yield from _label_messages(analysis.labels)
        yield from _candidate_messages(analysis.candidates)
    yield wire.AnalyzeResponse(summary=_summary_message(analysis))


def _region_messages(analysis: Analysis, identify: bool) -> Iterator[wire.AnalyzeResponse]:
    batch, size = wire.Regions(), 0
    marks = _marks(analysis.region_objects() if identify else None)
    for region in analysis.regions:
        identity, digest = next(marks)
        message = wire.Region(
            class_index=region.class_index,
            wkb=shapely.to_wkb(region.polygon, byte_order=1),
            row=region.row,
            col=region.col,
            block=region.block,
            area_px=region.area_px,
            id=identity,
            digest=digest,
        )
        if batch.regions and size + len(message.wkb) > _MAX_MESSAGE:
            yield wire.AnalyzeResponse(regions=batch)
            batch, size = wire.Regions(), 0
        batch.regions.append(message)
        size += len(message.wkb) + 64
    if batch.regions:
        yield wire.AnalyzeResponse(regions=batch)


def _marks(objects: Iterator[PathObject] | None) -> Iterator[tuple[bytes, bytes]]:
    """Id and digest of each object, 16 bytes each; endlessly nothing where they are not wanted."""
    while objects is None:
        yield b"", b""
    for obj in objects:
        origin = provenance(obj)
        if obj.id is None or origin is None:
            raise TissuebridgeError("an object of an analysis has no id or no provenance")
        yield obj.id.bytes, bytes.fromhex(origin.digest)


def _cell_messages(analysis: Analysis, identify: bool) -> Iterator[wire.AnalyzeResponse]:
    cells, marks = analysis.cells, _marks(analysis.cell_objects() if identify else None)
    for start in range(0, len(cells), _CELLS_A_MESSAGE):
        part = slice(start, start + _CELLS_A_MESSAGE)
        pairs = [next(marks) for _ in cells.class_index[part]]
        yield wire.AnalyzeResponse(
            cells=wire.Cells(
                xy=_pack(cells.xy[part], "<f8"),
                class_index=_pack(cells.class_index[part], "u1"),
                scores=_pack(cells.scores[part], "<f4"),
                region_index=_pack(cells.region_index[part], "u1"),
                pixels=_pack(cells.pixels[part], "<i4"),
                ids=b"".join(identity for identity, _ in pairs),
                digests=b"".join(digest for _, digest in pairs),
            )
        )


def _label_messages(labels: NDArray[np.uint8]) -> Iterator[wire.AnalyzeResponse]:
    rows = max(1, 4 * _MAX_MESSAGE // max(1, labels.shape[1]))
    for row in range(0, labels.shape[0], rows):
        strip = np.ascontiguousarray(labels[row : row + rows])
        data = zlib.compress(strip.tobytes(), 1)
        yield wire.AnalyzeResponse(
            labels=wire.LabelStrip(row=row, rows=strip.shape[0], cols=strip.shape[1], labels=data)
        )


def _candidate_messages(candidates: Candidates) -> Iterator[wire.AnalyzeResponse]:
    for start in range(0, len(candidates), _CELLS_A_MESSAGE):
        part = slice(start, start + _CELLS_A_MESSAGE)
        yield wire.AnalyzeResponse(
            candidates=wire.Candidates(
                pixels=_pack(candidates.pixels[part], "<i4"),
                xy=_pack(candidates.xy[part], "<f8"),
                class_index=_pack(candidates.class_index[part], "u1"),
                scores=_pack(candidates.scores[part], "<f4"),
            )
        )


def _summary_message(analysis: Analysis) -> wire.Summary:
    summary = analysis.summary
    return wire.Summary(
        cells=summary.cells,
        regions=summary.regions,
        area_um2=summary.area_um2,
        analysed_um2=summary.analysed_um2,
        suppressed_across_classes=summary.suppressed_across_classes,
        tiles=summary.tiles,
        skipped_tiles=summary.skipped_tiles,
        downsample=analysis.downsample,
        warnings=summary.warnings,
        parameters=analysis.parameters,
        parameters_in_short=analysis.parameters_in_short,
    )


class Results:
    """Gathers what a server sends, and makes the same `Analysis` of it as the server's own.

    Args:
        identity: The image.
        accepted: The server's opening.
    """

    def __init__(self, identity: ImageIdentity, accepted: wire.Accepted) -> None:
        self._identity, self._accepted = identity, accepted
        self._model = model_of(accepted.model)
        self._regions: list[RegionPolygon] = []
        self._cells: list[Cells] = []
        self._candidates: list[Candidates] = []
        self._labels: list[NDArray[np.uint8]] = []

    def add(self, response: wire.AnalyzeResponse) -> None:
        """Takes regions, cells, labels or candidates; anything else is nothing to gather.

        Raises:
            TissuebridgeError: An array has not the size it must have: the two sides do not fit.
        """
        kind = response.WhichOneof("step")
        if kind == "regions":
            self._regions.extend(_region_of(region) for region in response.regions.regions)
        elif kind == "cells":
            self._cells.append(_cells_of(response.cells, self._model))
        elif kind == "labels":
            self._labels.append(_labels_of(response.labels))
        elif kind == "candidates":
            self._candidates.append(_candidates_of(response.candidates, len(self._model.numbers)))

    def analysis(self, summary: wire.Summary) -> Analysis:
        """Everything that came, with the server's last message."""
        cells = [_cells_of(wire.Cells(), self._model), *self._cells]
        labels = [strip for strip in self._labels if strip.size]
        return Analysis(
            image=self._identity,
            model=self._model,
            run_id=self._accepted.run_id,
            downsample=summary.downsample,
            labels=np.concatenate(labels) if labels else np.full((0, 0), IGNORE_LABEL, np.uint8),
            cells=Cells(*(_joined([getattr(part, name) for part in cells]) for name in Cells.__slots__)),
            candidates=Candidates.joined(self._candidates, len(self._model.numbers)),
            regions=tuple(self._regions),
            summary=_summary_of(summary, self._model),
            min_region_area_um2=self._accepted.min_region_area_um2,
            cells_as_points=self._accepted.cells_as_points,
            parameters=summary.parameters,
            parameters_in_short=summary.parameters_in_short,
        )


def _region_of(message: wire.Region) -> RegionPolygon:
    polygon = shapely.from_wkb(message.wkb)
    if not isinstance(polygon, Polygon):
        raise TissuebridgeError(f"the server sent a region that is a {polygon.geom_type}")
    return RegionPolygon(
        message.class_index, polygon, message.row, message.col, message.area_px, message.block
    )


def _cells_of(message: wire.Cells, model: ModelDescription) -> Cells:
    class_index = _unpack(message.class_index, "u1", len(message.class_index))
    count = len(class_index)
    scores = _unpack(message.scores, "<f4", count, len(model.numbers))
    return Cells(
        xy=_unpack(message.xy, "<f8", count, 2),
        class_index=class_index,
        score=model.score_of(scores, class_index),
        scores=scores,
        region_index=_unpack(message.region_index, "u1", count),
        pixels=_unpack(message.pixels, "<i4", count, 2),
    )


def _candidates_of(message: wire.Candidates, numbers: int) -> Candidates:
    count = len(message.class_index)
    return Candidates(
        pixels=_unpack(message.pixels, "<i4", count, 2),
        xy=_unpack(message.xy, "<f8", count, 2),
        class_index=_unpack(message.class_index, "u1", count),
        scores=_unpack(message.scores, "<f4", count, numbers),
    )


def _labels_of(strip: wire.LabelStrip) -> NDArray[np.uint8]:
    # One byte more than claimed is enough to notice a strip that unpacks to more.
    size = strip.rows * strip.cols
    return _unpack(zlib.decompressobj().decompress(strip.labels, size + 1), "u1", strip.rows, strip.cols)


def _summary_of(message: wire.Summary, model: ModelDescription) -> Summary:
    def ordered(counts: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        return {name: counts[name] for name in names if name in counts}

    return Summary(
        cells=ordered(message.cells, model.cell_classes),
        regions=ordered(message.regions, model.region_classes),
        area_um2=ordered(message.area_um2, model.region_classes),
        analysed_um2=message.analysed_um2,
        suppressed_across_classes=message.suppressed_across_classes,
        tiles=message.tiles,
        skipped_tiles=message.skipped_tiles,
        warnings=tuple(message.warnings),
    )


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts)


def _pack(array: NDArray[Any], dtype: str) -> bytes:
    return np.ascontiguousarray(array, dtype).tobytes()


def _unpack(data: bytes, dtype: str, *shape: int) -> NDArray[Any]:
    if len(data) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise TissuebridgeError(
            f"the server sent {len(data)} bytes for an array of {shape}: "
            "install the same version on both sides"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(np.dtype(dtype).newbyteorder("="))
