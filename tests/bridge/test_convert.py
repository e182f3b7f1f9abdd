from __future__ import annotations

import importlib.util
import io
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

import tissuebridge.rpc
from drawn import DESCRIPTION
from tissuebridge.errors import ImageError, TissuebridgeError, UsageError
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.project.base import ImageIdentity, Level
from tissuebridge.rpc import convert, results
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.rpc.v1 import models_pb2

ORDER = convert.Order(
    identity=ImageIdentity("slide 1.svs", 2, "crop", 4001, 3001, 0.2431),
    pixel_size_um=0.243117,
    levels=(Level(4001, 3001, 1.0), Level(2000, 1500, 2.0)),
    model="paper",
    options=AnalysisOptions(),
)


def start(order: convert.Order = ORDER) -> wire.Start:
    message = wire.Start()
    message.CopyFrom(convert.start_message(order).start)
    return message


# Models and orders


@pytest.mark.parametrize("radius", [None, 2.5])
def test_a_model_survives_the_way(radius: float | None) -> None:
    model = replace(
        DESCRIPTION, cross_class_radius_um=radius, usual_colours="ff00", normalises_each_image=True
    )

    message = models_pb2.Model.FromString(convert.model_message("short", model).SerializeToString())

    assert message.name == "short"
    assert convert.model_of(message) == model


def test_an_order_survives_the_way_with_every_option() -> None:
    skipped = np.arange(33).reshape(3, 11) % 3 == 0
    area = shapely.Polygon([(0, 0), (9, 0), (9.0625, 7)], [[(1, 0.5), (2, 0.5), (2, 1)]])
    options = AnalysisOptions(512, 3, area, skipped, False, 40.5, 1.5, True, "run-1")

    order = convert.order_of(start(replace(ORDER, options=options, details=True)))

    assert replace(order, options=options) == replace(ORDER, options=options, details=True)
    assert order.options.region_of_interest == area
    np.testing.assert_array_equal(order.options.skipped_blocks, skipped)
    plain = (
        "tile_size",
        "batch_size",
        "skip_glass",
        "min_region_area_um2",
        "simplify_um",
        "cells_as_points",
        "run_id",
    )
    assert [getattr(order.options, name) for name in plain] == [512, 3, False, 40.5, 1.5, True, "run-1"]


def test_options_that_were_left_out_take_the_defaults() -> None:
    message = start()
    message.ClearField("options")

    options = convert.order_of(message).options

    defaults = AnalysisOptions()
    assert options.tile_size == defaults.tile_size
    assert options.min_region_area_um2 == defaults.min_region_area_um2
    assert len(options.run_id) == 32


def changed(path: str, value: object) -> Callable[[wire.Start], None]:
    def change(message: wire.Start) -> None:
        *parents, name = path.split(".")
        target: object = message
        for parent in parents:
            target = target.levels[int(parent[-1])] if parent.startswith("level") else getattr(target, parent)  # type: ignore[attr-defined]
        setattr(target, name, value)

    return change


BAD_STARTS = {
    "an empty message": (lambda message: message.Clear(), "protocol"),
    "another protocol": (changed("protocol", 2), "speaks protocol 1"),
    "no image": (lambda message: message.ClearField("image"), "width is 0"),
    "width 0": (changed("image.width", 0), "width is 0"),
    "height 2^31": (changed("image.height", 2**31), "height is 2147483648"),
    "no name": (changed("image.name", ""), "name"),
    "a name of 10 kB": (changed("image.name", "n" * 10_000), "name"),
    "a transform of 10 kB": (changed("image.transform", "n" * 10_000), "transform"),
    "identity's pixel size NaN": (changed("image.pixel_size_um", math.nan), "pixel size"),
    "pixel size NaN": (changed("pixel_size_um", math.nan), "pixel size in um is nan"),
    "pixel size infinite": (changed("pixel_size_um", math.inf), "pixel size in um is inf"),
    "pixel size 0": (changed("pixel_size_um", 0.0), "pixel size in um is 0"),
    "pixel size negative": (changed("pixel_size_um", -0.5), "pixel size in um is -0.5"),
    "no level": (lambda message: message.ClearField("levels"), "0 levels"),
    "40 levels": (lambda message: message.levels.extend([wire.Level()] * 38), "40 levels"),
    "level 0 another size": (changed("level0.width", 4000), "level 0 must be"),
    "level of width 0": (changed("level1.width", 0), "level 1"),
    "level too large": (changed("level1.height", 2000), "level 1 is 2000 x 2000"),
    "downsample NaN": (changed("level1.downsample", math.nan), "downsample of level 1 is nan"),
    "downsample 0": (changed("level1.downsample", 0.0), "downsample of level 1 is 0"),
    "downsample that does not fit": (changed("level1.downsample", 4.0), "does not fit"),
    "minimum area NaN": (changed("options.min_region_area_um2", math.nan), "minimum area"),
    "minimum area negative": (changed("options.min_region_area_um2", -1.0), "minimum area"),
    "a simplification below nothing": (changed("options.simplify_um", -1.0), "simplification"),
    "a run id with a line break": (changed("options.run_id", "a\nb"), "run's id"),
    "a region that is no WKB": (changed("options.region_of_interest", b"\x01\x02"), "region of interest"),
    "a region that is a point": (
        changed("options.region_of_interest", shapely.to_wkb(shapely.Point(1, 2))),
        "region of interest",
    ),
    "a region of NaN": (
        changed(
            "options.region_of_interest",
            shapely.to_wkb(shapely.box(0, 0, 7, 5)).replace(
                struct.pack("<d", 7), struct.pack("<d", math.nan)
            ),
        ),
        "region of interest",
    ),
    "an empty region": (
        changed("options.region_of_interest", shapely.to_wkb(shapely.Polygon())),
        "region of interest",
    ),
    "skipped blocks that claim much": (
        lambda message: message.options.skipped_blocks.MergeFrom(
            wire.SkippedBlocks(rows=2**31, cols=2**31, bits=b"1")
        ),
        "skipped blocks",
    ),
}


@pytest.mark.parametrize(("change", "told"), BAD_STARTS.values(), ids=BAD_STARTS.keys())
def test_a_bad_opening_is_refused_saying_why(change: Callable[[wire.Start], None], told: str) -> None:
    message = start()
    change(message)

    with pytest.raises(UsageError, match=told):
        convert.order_of(message)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", r"\\host\share", "%2e%2e", "a\0b", "a\nb", "A", ".a", "n" * 65]
)
def test_a_name_that_could_be_a_path_is_no_model(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        convert.order_of(start(replace(ORDER, model=name)))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_order_or_refused(data: bytes) -> None:
    try:
        message = wire.Start.FromString(data)
    except Exception:  # protobuf's own refusal; what it lets through is ours to check
        return
    with pytest.raises(UsageError):
        convert.order_of(message)


@pytest.mark.parametrize("options", [AnalysisOptions(tile_size=0), AnalysisOptions(batch_size=-1)])
def test_the_client_refuses_what_cannot_be_written_down(options: AnalysisOptions) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        convert.start_message(replace(ORDER, options=options))


# Pixels


def request(width: int = 40, height: int = 30) -> wire.BlockRequest:
    return wire.BlockRequest(id=7, width=width, height=height)


def noise(width: int = 40, height: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_raw_pixels_arrive_as_they_left() -> None:
    wide = noise(width=100)[:, 20:60]  # not contiguous

    block = convert.block_message(request(), wide, jpeg=False).block

    assert block.id == 7
    np.testing.assert_array_equal(convert.pixels_of(block, 40, 30), wide)


def test_jpeg_pixels_arrive_nearly_as_they_left_and_smaller() -> None:
    smooth = np.full((64, 64, 3), (200, 120, 150), np.uint8)

    block = convert.block_message(request(64, 64), smooth, jpeg=True).block

    assert len(block.data) < smooth.nbytes / 9
    found = convert.pixels_of(block, 64, 64).astype(int)
    assert np.abs(found - smooth).max() <= 3


def saved(mode: str, kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    PillowImage.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        (wire.PixelBlock.ENCODING_RGB, b""),
        (wire.PixelBlock.ENCODING_RGB, bytes(40 * 30 * 3 - 1)),
        (wire.PixelBlock.ENCODING_RGB, bytes(40 * 30 * 3 + 1)),
        (wire.PixelBlock.ENCODING_UNSPECIFIED, bytes(40 * 30 * 3)),
        (9, bytes(40 * 30 * 3)),
        (wire.PixelBlock.ENCODING_JPEG, b""),
        (wire.PixelBlock.ENCODING_JPEG, bytes(40 * 30 * 3)),
        (wire.PixelBlock.ENCODING_JPEG, saved("RGB", "JPEG")[:400]),
        (wire.PixelBlock.ENCODING_JPEG, saved("RGB", "JPEG", (41, 30))),
        (wire.PixelBlock.ENCODING_JPEG, saved("CMYK", "JPEG")),
        (wire.PixelBlock.ENCODING_JPEG, saved("L", "JPEG")),
        (wire.PixelBlock.ENCODING_JPEG, saved("RGB", "PNG")),
        (wire.PixelBlock.ENCODING_JPEG, saved("RGB", "EPS")),
    ],
)
def test_pixels_that_are_not_what_was_asked_for_are_refused(encoding: int, data: bytes) -> None:
    block = wire.PixelBlock(id=7, encoding=encoding, data=data)  # type: ignore[arg-type]

    with pytest.raises(ImageError, match=r"block 7|JPEG of 40 x 30"):
        convert.pixels_of(block, 40, 30)


# Results (their whole way is in the congruence tests)


@pytest.mark.parametrize(
    "response",
    [
        wire.AnalyzeResponse(cells=wire.Cells(xy=bytes(16), class_index=b"\0\0")),
        wire.AnalyzeResponse(labels=wire.LabelStrip(rows=4, cols=4, labels=b"x\x9c\x03\x00\x00\x00\x00\x01")),
        wire.AnalyzeResponse(candidates=wire.Candidates(xy=bytes(8), class_index=b"\0")),
        wire.AnalyzeResponse(
            regions=wire.Regions(regions=[wire.Region(wkb=shapely.to_wkb(shapely.Point(0, 0)))])
        ),
    ],
)
def test_results_that_do_not_fit_are_refused(response: wire.AnalyzeResponse) -> None:
    accepted = results.accepted_message("m", DESCRIPTION, AnalysisOptions()).accepted

    with pytest.raises(TissuebridgeError, match="the server sent"):
        results.Results(ORDER.identity, accepted).add(response)


# The generated code


def test_the_committed_code_is_what_the_contract_generates(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "protos" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    module.generate(tmp_path)

    committed = Path(tissuebridge.rpc.__path__[0]) / "v1"
    generated = sorted((tmp_path / "tissuebridge" / "rpc" / "v1").iterdir())
    assert [path.name for path in generated] == sorted(path.name for path in committed.glob("*_pb2*"))
    for path in generated:
        assert path.read_text() == (committed / path.name).read_text(), "run python protos/generate.py"
