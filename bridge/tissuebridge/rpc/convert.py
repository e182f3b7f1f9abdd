"""Messages to values and back: models, orders and pixels (what comes of them: `results`).

The client turns an image into `Start` and its pixels into blocks; the server does the reverse. What a client
sent is checked here, once: behind this file an `Order` is possible and a block has the size that was asked
for.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image as PillowImage
from shapely.geometry.base import BaseGeometry

from tissuebridge import __version__
from tissuebridge.errors import ImageError, UsageError
from tissuebridge.objects import is_area
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.predictor.base import ModelDescription
from tissuebridge.project.base import ImageIdentity, Level
from tissuebridge.project.pixels import MAX_SIDE
from tissuebridge.rpc.transport import PROTOCOL
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.rpc.v1 import models_pb2 as models_wire
from tissuebridge.rpc.v1 import spatial_pb2 as spatial_wire
from tissuebridge.rpc.v1 import training_pb2 as training_wire

MODEL_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
JPEG_QUALITY: Final = 90

_MAX_LEVELS: Final = 32
_MAX_NAME: Final = 1024
_MAX_ROI_BYTES: Final = 4 * 2**20
_Plain = Literal[
    "tile_size", "batch_size", "skip_glass", "min_region_area_um2", "simplify_um", "cells_as_points", "run_id"
]


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants analysed.

    Attributes:
        identity: Which image.
        pixel_size_um: Of a full-resolution pixel, not rounded.
        levels: Full resolution first.
        model: The name in the server's list; "" for its only one.
        options: How.
        details: Also send the label map and all candidates.
        identify: Also send the objects' ids and digests.
        proposal: What to propose instead of asking a model (TOML); "" asks the model.
        unfiltered: Send every candidate as a cell, whatever the thresholds.
    """

    identity: ImageIdentity
    pixel_size_um: float
    levels: tuple[Level, ...]
    model: str
    options: AnalysisOptions
    details: bool = False
    identify: bool = False
    proposal: str = ""
    unfiltered: bool = False


@dataclass(frozen=True, slots=True)
class ExampleOrder:
    """An image that a client sends to learn from.

    Attributes:
        order: Which image; what concerns an analysis is empty.
        training_set: The set's name.
        first: Whether the set is to be emptied before.
    """

    order: Order
    training_set: str
    first: bool


# Models


def model_message(name: str, model: ModelDescription) -> models_wire.Model:
    """A model under the name that a server gives it."""
    return models_wire.Model(
        name=name,
        title=model.name,
        digest=model.digest,
        region_classes=model.region_classes,
        cell_classes=model.cell_classes,
        colors={name: _rgb(color) for name, color in model.colors.items()},
        pixel_size_um=model.pixel_size_um,
        stride_px=model.stride,
        reach_px=model.reach,
        pad_value=_rgb(model.pad_value),
        cell_diameters_um=model.cell_diameters_um,
        min_distance_um=model.min_distance_um,
        thresholds=model.thresholds,
        floor=model.floor,
        cross_class_radius_um=model.cross_class_radius_um,
        mode_filter=model.mode_filter,
        normalises_each_image=model.normalises_each_image,
        usual_colours=model.usual_colours,
        other_numbers=model.other_numbers,
        precision=model.precision,
    )


def model_of(message: models_wire.Model) -> ModelDescription:
    """The description that `model_message` was made from."""
    radius = message.cross_class_radius_um if message.HasField("cross_class_radius_um") else None
    return ModelDescription(
        name=message.title,
        digest=message.digest,
        region_classes=tuple(message.region_classes),
        cell_classes=tuple(message.cell_classes),
        colors={name: _color(rgb) for name, rgb in message.colors.items()},
        pixel_size_um=message.pixel_size_um,
        stride=message.stride_px,
        reach=message.reach_px,
        pad_value=_color(message.pad_value),
        cell_diameters_um=tuple(message.cell_diameters_um),
        min_distance_um=tuple(message.min_distance_um),
        thresholds=tuple(message.thresholds),
        floor=message.floor,
        cross_class_radius_um=radius,
        mode_filter=message.mode_filter,
        normalises_each_image=message.normalises_each_image,
        usual_colours=message.usual_colours,
        other_numbers=tuple(message.other_numbers),
        precision=message.precision or "fp32",
    )


def _rgb(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _color(rgb: int) -> tuple[int, int, int]:
    return rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255


# Orders


def start_message(order: Order) -> wire.AnalyzeRequest:
    """The client's opening."""
    identity = order.identity
    return wire.AnalyzeRequest(
        start=wire.Start(
            protocol=PROTOCOL,
            client_version=__version__,
            image=wire.ImageIdentity(
                name=identity.name,
                series=identity.series,
                transform=identity.transform,
                width=identity.width,
                height=identity.height,
                pixel_size_um=identity.pixel_size_um,
            ),
            pixel_size_um=order.pixel_size_um,
            levels=[
                wire.Level(width=level.width, height=level.height, downsample=level.downsample)
                for level in order.levels
            ],
            model=order.model,
            options=_options_message(order.options),
            details=order.details,
            identify=order.identify,
            proposal=order.proposal,
            unfiltered=order.unfiltered,
        )
    )


def _options_message(options: AnalysisOptions) -> wire.Options:
    for name in ("tile_size", "batch_size"):
        if not 0 < getattr(options, name) < 2**31:
            raise UsageError(f"{name} {getattr(options, name)}: must be at least 1")
    area, skipped = options.region_of_interest, options.skipped_blocks
    blocks = None
    if skipped is not None:
        rows, cols = skipped.shape
        blocks = wire.SkippedBlocks(rows=rows, cols=cols, bits=np.packbits(skipped).tobytes())
    return wire.Options(
        tile_size=options.tile_size,
        batch_size=options.batch_size,
        region_of_interest=None if area is None else shapely.to_wkb(area, byte_order=1),
        skipped_blocks=blocks,
        min_region_area_um2=options.min_region_area_um2,
        cells_as_points=options.cells_as_points,
        run_id=options.run_id,
        skip_glass=options.skip_glass,
        simplify_um=options.simplify_um,
    )


def order_of(start: wire.Start) -> Order:
    """The client's opening, checked.

    Raises:
        UsageError: Another protocol, an impossible size or number, an unreadable region of interest.
    """
    check_protocol(start.protocol, start.client_version)
    if start.model:
        check_name(start.model, "a model's")
    return Order(
        identity=_identity_of(start.image),
        pixel_size_um=_within(start.pixel_size_um, 1e-4, 1e3, "the pixel size in um"),
        levels=_levels_of(start),
        model=start.model,
        options=_options_of(start.options),
        details=start.details,
        identify=start.identify,
        proposal=start.proposal,
        unfiltered=start.unfiltered,
    )


def example_of(example: training_wire.Example) -> ExampleOrder:
    """The opening of a client that sends examples, checked.

    Raises:
        UsageError: Another protocol, an impossible size or number, an impossible name of the set.
    """
    check_protocol(example.protocol, example.client_version)
    check_name(example.training_set, "a training set's")
    order = Order(
        identity=_identity_of(example.image),
        pixel_size_um=_within(example.pixel_size_um, 1e-4, 1e3, "the pixel size in um"),
        levels=_levels_of(example),
        model="",
        options=AnalysisOptions(),
    )
    return ExampleOrder(order, example.training_set, example.first)


def measured_image_of(start: spatial_wire.MeasureStart) -> tuple[ImageIdentity, float]:
    """The image of a client that wants it measured, and its pixel size in um, checked.

    Raises:
        UsageError: Another protocol, an impossible size or number.
    """
    check_protocol(start.protocol, start.client_version)
    return _identity_of(start.image), _within(start.pixel_size_um, 1e-4, 1e3, "the pixel size in um")


def check_protocol(protocol: int, client_version: str) -> None:
    """Refuses a client of another version of the contract.

    Raises:
        UsageError: With both versions, and the cure.
    """
    if protocol != PROTOCOL:
        raise UsageError(
            f"this server speaks protocol {PROTOCOL}, the client {protocol} "
            f"(versions {__version__} and {client_version[:32]!r}): "
            "install the same version on both sides"
        )


def check_name(name: str, whose: str) -> None:
    """Refuses what cannot name a model or a training set: it becomes a folder's name.

    Raises:
        UsageError: It cannot.
    """
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} cannot be {whose} name: expected {MODEL_NAME.pattern}")


def _identity_of(image: wire.ImageIdentity) -> ImageIdentity:
    for name, side in (("width", image.width), ("height", image.height)):
        if not 0 < side <= MAX_SIDE:
            raise UsageError(f"the image's {name} is {side} px: expected 1 to {MAX_SIDE}")
    if not image.name or max(len(image.name), len(image.transform)) > _MAX_NAME:
        raise UsageError(f"the image's name and transform: expected 1 to {_MAX_NAME} characters")
    size = _within(image.pixel_size_um, 1e-4, 1e3, "the pixel size in the image's identity")
    return ImageIdentity(image.name, image.series, image.transform, image.width, image.height, size)


def _levels_of(start: wire.Start | training_wire.Example) -> tuple[Level, ...]:
    image = (start.image.width, start.image.height)
    levels = tuple(Level(level.width, level.height, level.downsample) for level in start.levels)
    if not 0 < len(levels) <= _MAX_LEVELS:
        raise UsageError(f"the image has {len(levels)} levels: expected 1 to {_MAX_LEVELS}")
    if levels[0] != Level(*image, 1.0):
        raise UsageError(f"level 0 must be the image itself, {image[0]} x {image[1]} px with downsample 1")
    for index, level in enumerate(levels):
        scale = _within(level.downsample, 1, MAX_SIDE, f"the downsample of level {index}")
        for side, full in zip((level.width, level.height), image, strict=True):
            if side < 1 or abs(side * scale - full) > max(2 * scale, 0.01 * full):
                size = f"{level.width} x {level.height} px at downsample {scale:g}"
                raise UsageError(f"level {index} is {size}, which does not fit the image")
    return levels


def _options_of(options: wire.Options) -> AnalysisOptions:
    """What the client chose; what it left out takes the defaults of `AnalysisOptions`."""
    given: dict[str, Any] = {
        name: getattr(options, name) for name in get_args(_Plain) if options.HasField(name)
    }
    if "min_region_area_um2" in given:
        _within(given["min_region_area_um2"], 0, 1e12, "the minimum area of a region in um^2")
    if "simplify_um" in given:
        _within(given["simplify_um"], 0, 1e6, "the simplification of outlines in um")
    if "run_id" in given and not re.fullmatch(r"[\w.-]{1,64}", given["run_id"], re.ASCII):
        raise UsageError("the run's id: expected 1 to 64 letters, digits, dots or dashes")
    if options.HasField("region_of_interest"):
        given["region_of_interest"] = _area_of(options.region_of_interest)
    if options.HasField("skipped_blocks"):
        given["skipped_blocks"] = _blocks_of(options.skipped_blocks)
    return AnalysisOptions(**given)


def _area_of(wkb: bytes) -> BaseGeometry:
    try:
        area = shapely.from_wkb(wkb) if len(wkb) <= _MAX_ROI_BYTES else None
    except shapely.errors.ShapelyError:
        area = None
    if (
        area is None
        or not is_area(area)
        or area.is_empty
        or not np.isfinite(shapely.get_coordinates(area)).all()
    ):
        raise UsageError(
            "the region of interest must be the WKB of a Polygon or MultiPolygon "
            f"of at most {_MAX_ROI_BYTES} bytes"
        )
    return area


def _blocks_of(blocks: wire.SkippedBlocks) -> NDArray[np.bool_]:
    count = blocks.rows * blocks.cols
    if len(blocks.bits) != -(-count // 8):
        raise UsageError(
            f"skipped blocks: {blocks.rows} x {blocks.cols} bits do not fit {len(blocks.bits)} bytes"
        )
    skipped = np.unpackbits(np.frombuffer(blocks.bits, np.uint8), count=count)
    return skipped.astype(np.bool_).reshape(blocks.rows, blocks.cols)


def _within(value: float, low: float, high: float, what: str) -> float:
    """The number, if it is one in [low, high]; NaN passes protobuf and stops here."""
    if not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{what} is {value:g}: expected {low:g} to {high:g}")
    return value


# Pixels


def block_message(
    request: wire.BlockRequest, pixels: NDArray[np.uint8], *, jpeg: bool
) -> wire.AnalyzeRequest:
    """The client's answer: uint8 (height, width, 3), raw or as JPEG (9 times smaller, not exact)."""
    block = wire.PixelBlock(id=request.id, encoding=wire.PixelBlock.ENCODING_RGB)
    if jpeg:
        buffer = io.BytesIO()
        # Full colour resolution: cells are small and told apart by their colour.
        PillowImage.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        block.encoding, block.data = wire.PixelBlock.ENCODING_JPEG, buffer.getvalue()
    else:
        block.data = np.ascontiguousarray(pixels).tobytes()
    return wire.AnalyzeRequest(block=block)


def pixels_of(block: wire.PixelBlock, width: int, height: int) -> NDArray[np.uint8]:
    """The pixels that a client sent, uint8 (height, width, 3).

    Raises:
        ImageError: They are not what was asked for.
    """
    if block.encoding == wire.PixelBlock.ENCODING_JPEG:
        return _decode_jpeg(block.data, width, height)
    if block.encoding != wire.PixelBlock.ENCODING_RGB:
        raise ImageError(f"pixel block {block.id}: unknown encoding {block.encoding}; send RGB or JPEG")
    expected = width * height * 3
    if len(block.data) != expected:
        size = f"{len(block.data)} bytes instead of {expected}"
        raise ImageError(f"pixel block {block.id} ({width} x {height} RGB) has {size}")
    return np.frombuffer(block.data, np.uint8).reshape(height, width, 3)


def _decode_jpeg(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    try:
        # Only JPEG: Pillow would open many formats under this name, and the header is read before any pixel.
        with PillowImage.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if image.size == (width, height) and image.mode == "RGB":
                return np.asarray(image)
            found = f"{image.size[0]} x {image.size[1]} {image.mode}"
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError):
        found = "damaged"
    raise ImageError(f"a JPEG of {width} x {height} RGB pixels was asked for; the one that came is {found}")
