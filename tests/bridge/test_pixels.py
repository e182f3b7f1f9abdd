"""Files become exact 8-bit RGB, or an error that names the file; nothing is filled in."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tissuebridge.errors import CalibrationError, ImageError, ResourceLimit, TissuebridgeError
from tissuebridge.project.base import PixelSource
from tissuebridge.project.pixels import open_pixels, pyramid

RGB = NDArray[np.uint8]
TILED = {"tile": (64, 48), "photometric": "rgb"}


def drawn(height: int, width: int, channels: int = 3) -> RGB:
    """Structured and noisy pixels, all different from 0 so that a black fill shows."""
    rows, cols = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(height * width)
    planes = [(rows * (k + 1) + cols * 2 + 40 * k) % 200 + 20 for k in range(channels)]
    return (np.stack(planes, axis=-1) + rng.integers(0, 30, (height, width, channels))).astype(np.uint8)


IMAGE = drawn(201, 307)
HALF = drawn(100, 153)
QUARTER = drawn(50, 76)


def read_all(source: PixelSource, level: int = 0) -> RGB:
    size = source.levels[level]
    return source.read_block(level, 0, 0, size.width, size.height)


def write_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as tif:
        tif.write(IMAGE, compression="lzw", metadata=None, **TILED)
        for level in (HALF, QUARTER):
            tif.write(level, compression="lzw", subfiletype=1, metadata=None, **TILED)


def write_subifds(path: Path, **options: Any) -> None:
    with tifffile.TiffWriter(path, **options) as tif:
        tif.write(IMAGE, compression="zlib", predictor=True, subifds=2, **TILED)
        for level in (HALF, QUARTER):
            tif.write(level, compression="zlib", predictor=True, subfiletype=1, **TILED)


WRITERS: dict[str, Callable[[Path], None]] = {
    "plain.png": lambda path: Image.fromarray(IMAGE).save(path),
    "one uncompressed strip.tif": lambda path: tifffile.imwrite(path, IMAGE, photometric="rgb"),
    "strips.tif": lambda path: tifffile.imwrite(
        path, IMAGE, photometric="rgb", rowsperstrip=7, compression="zlib", metadata=None
    ),
    "big endian.tif": lambda path: tifffile.imwrite(path, IMAGE, byteorder=">", bigtiff=True, **TILED),
    "uncompressed tiles.tif": lambda path: tifffile.imwrite(path, IMAGE, **TILED),
    "separate planes.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(IMAGE, 2, 0), planarconfig="separate", compression="zlib", **TILED
    ),
    "pages.tif": write_pages,
    "subifds.tif": write_subifds,
    "subifds.ome.tif": write_subifds,
    "planes.ome.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(IMAGE, 2, 0), photometric="minisblack", metadata={"axes": "CYX"}
    ),
    "stack of one.ome.tif": lambda path: tifffile.imwrite(
        path, IMAGE[None, None], photometric="rgb", metadata={"axes": "TZYXS"}
    ),
    "imagej.tif": lambda path: tifffile.imwrite(path, IMAGE, photometric="rgb", imagej=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_block_of_every_kind_of_file_holds_the_pixels_that_were_written(
    name: str, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path / name)
    with open_pixels(tmp_path / name) as source:
        assert source.name == name
        whole = read_all(source)
        blocks = [(0, 0, 1, 1), (306, 200, 1, 1), (47, 63, 2, 2), (10, 20, 200, 150)]
        parts = [source.read_block(0, *block) for block in blocks]
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, IMAGE)
    for (x, y, width, height), part in zip(blocks, parts, strict=True):
        np.testing.assert_array_equal(part, IMAGE[y : y + height, x : x + width])


@pytest.mark.parametrize("name", ["pages.tif", "subifds.tif", "subifds.ome.tif"])
def test_levels_of_odd_sizes_are_exact_and_have_whole_downsamples(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    with open_pixels(tmp_path / name) as source:
        assert [level.downsample for level in source.levels] == [1.0, 2.0, 4.0]
        np.testing.assert_array_equal(read_all(source, 1), HALF)
        np.testing.assert_array_equal(read_all(source, 2), QUARTER)


def test_a_jpeg_file_and_jpeg_tiles_decode_to_about_what_was_written(tmp_path: Path) -> None:
    rows, cols = np.mgrid[0:192, 0:256]  # whole tiles: what pads the last ones rings into them
    smooth = np.stack([rows, cols // 2, 255 - rows], axis=-1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    tifffile.imwrite(tmp_path / "a.tif", smooth, tile=(64, 64), photometric="rgb", compression="jpeg")
    for name in ("a.jpg", "a.tif"):
        with open_pixels(tmp_path / name) as source:
            assert np.abs(read_all(source).astype(int) - smooth).max() < 12


@pytest.mark.parametrize("library", ["tiffslide", "openslide"])
def test_level_0_has_the_same_pixels_as_in_other_libraries(library: str, tmp_path: Path) -> None:
    module = pytest.importorskip(library)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, IMAGE, tile=(64, 64), photometric="rgb", compression="jpeg", metadata=None)
    with open_pixels(path) as source:
        ours = read_all(source)
    slide = (module.TiffSlide if library == "tiffslide" else module.OpenSlide)(path)
    theirs = np.array(slide.read_region((0, 0), 0, (307, 201)))[..., :3]
    slide.close()
    np.testing.assert_array_equal(ours, theirs)


def test_openslide_reads_what_only_it_can(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    from tissuebridge.project.pixels import open_with_openslide

    with tifffile.TiffWriter(tmp_path / "slide.tif") as tif:
        tif.write(IMAGE[:200, :306], metadata=None, **TILED)
        for level in (HALF, QUARTER):  # exactly half; a quarter but for the rounding
            tif.write(level, subfiletype=1, metadata=None, **TILED)
    with open_with_openslide(tmp_path / "slide.tif", "such slides") as source:
        assert [level.downsample for level in source.levels] == [1.0, 2.0]
        np.testing.assert_array_equal(read_all(source), IMAGE[:200, :306])
        np.testing.assert_array_equal(source.read_block(1, 61, 31, 50, 40), HALF[31:71, 61:111])


def test_a_slide_for_openslide_without_it_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0 a thumbnail")
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ImageError, match=r"a\.mrxs.*pip install 'tissuebridge\[openslide\]'"):
        open_pixels(tmp_path / "a.mrxs")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_is_composited_on_white(suffix: str, tmp_path: Path) -> None:
    rgba = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 255, np.uint8)])
    rgba[:100, :, 3] = 0
    rgba[100:150, :, 3] = 128
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        Image.fromarray(rgba).save(path)
    else:
        tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"])
    with open_pixels(path) as source:
        found = read_all(source)
    assert (found[:100] == 255).all()
    assert np.abs(found[100:150] - (IMAGE[100:150] * (128 / 255) + 127)).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(found[150:], IMAGE[150:])


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    indices = IMAGE[..., 0].copy()
    image = Image.fromarray(indices, mode=None)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "a.png")
    tifffile.imwrite(
        tmp_path / "a.tif", indices, photometric="palette", colormap=colours.T.astype(np.uint16) * 257
    )
    for name in ("a.png", "a.tif"):
        with open_pixels(tmp_path / name) as source:
            np.testing.assert_array_equal(read_all(source), colours[indices])


def png16(path: Path) -> None:
    """A 16-bit colour PNG, which Pillow can read but not write."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(12) for _ in range(2)))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


GREY = IMAGE[..., 0].copy()
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "grey.png": (lambda path: Image.fromarray(GREY).save(path), "greyscale.*RGB"),
    "grey.jpg": (lambda path: Image.fromarray(GREY).save(path), "greyscale.*RGB"),
    "grey 16.png": (lambda path: Image.fromarray(GREY.astype(np.uint16)).save(path), "16-bit.*convert"),
    "colour 16.png": (png16, "16-bit.*convert"),
    "bilevel.png": (lambda path: Image.fromarray(GREY > 90).save(path), "bilevel.*convert"),
    "cmyk.jpg": (lambda path: Image.fromarray(IMAGE).convert("CMYK").save(path), "CMYK.*convert"),
    "grey.tif": (lambda path: tifffile.imwrite(path, GREY), "greyscale.*RGB"),
    "16.tif": (lambda path: tifffile.imwrite(path, IMAGE.astype(np.uint16), **TILED), "16-bit.*convert"),
    "float.tif": (
        lambda path: tifffile.imwrite(path, np.full((64, 64, 3), np.nan, np.float32), photometric="rgb"),
        "32-bit floating-point.*convert",
    ),
    "cmyk.tif": (
        lambda path: tifffile.imwrite(path, drawn(64, 64, 4), photometric="separated"),
        "CMYK.*convert",
    ),
    "two.tif": (
        lambda path: tifffile.imwrite(
            path, drawn(64, 64, 2), photometric="minisblack", planarconfig="contig"
        ),
        "greyscale",
    ),
    "seven.tif": (
        lambda path: tifffile.imwrite(
            path, drawn(64, 64, 7), photometric="minisblack", planarconfig="contig"
        ),
        "7 channels.*export",
    ),
    "stack.ome.tif": (
        lambda path: tifffile.imwrite(
            path, np.stack([IMAGE] * 3), photometric="rgb", metadata={"axes": "ZYXS"}
        ),
        "stack.*one plane",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_8_bit_colour_is_refused_with_its_name_and_the_cure(name: str, tmp_path: Path) -> None:
    write, message = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(ImageError, match=f"^{name}: .*{message}"):
        open_pixels(tmp_path / name)


def overwrite(path: Path, tag: str, value: Any, page: int = 0) -> None:
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[page].tags[tag].overwrite(value)


def small_tiff(path: Path, **options: Any) -> None:
    tifffile.imwrite(path, IMAGE, metadata=None, **{**TILED, "compression": "zlib", **options})


ABSURD: dict[str, tuple[str, Any]] = {
    "width of 2^31": ("ImageWidth", 2**31),
    "tile of 2^20": ("TileWidth", 2**20),
    "tile of nothing": ("TileWidth", 0),
    "60,000 samples": ("SamplesPerPixel", 60_000),
    "unknown compression": ("Compression", 54_321),
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_tiff_headers_are_refused_naming_the_file(case: str, tmp_path: Path) -> None:
    path = tmp_path / "absurd.tif"
    small_tiff(path)
    overwrite(path, *ABSURD[case])
    with pytest.raises(ImageError, match=r"^absurd\.tif: "), open_pixels(path) as source:
        read_all(source)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.tif", b""),
        ("text.tif", b"this is a text, not a slide"),
        ("postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("signature.png", b"\x89PNG\r\n\x1a\n"),
        ("signature.jpg", b"\xff\xd8\xff\xe0"),
        ("header.tif", b"II*\0\x08\0\0\0"),
        ("loop.tif", b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0"),
    ],
)
def test_files_that_are_no_images_are_refused_naming_the_file(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=f"^{name}: "):
        open_pixels(tmp_path / name)


def test_a_missing_file_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^nowhere\.tif: "):
        open_pixels(tmp_path / "nowhere.tif")


def test_a_loop_of_directories_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    small_tiff(path)
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)  # the next directory is the first
    path.write_bytes(data)
    with open_pixels(path) as source:
        np.testing.assert_array_equal(read_all(source), IMAGE)


@pytest.mark.parametrize(
    "options", [{}, {"compression": None}, {"compression": "jpeg"}, {"compression": "lzw"}]
)
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_tiff_is_an_error_and_never_black(
    options: dict[str, Any], keep: float, tmp_path: Path
) -> None:
    path = tmp_path / "cut.tif"
    small_tiff(path, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ImageError, match=r"^cut\.tif: "), open_pixels(path) as source:
        read_all(source)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_png_or_jpeg_is_an_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(IMAGE).save(path)
    path.write_bytes(path.read_bytes()[:-4000])
    with (
        open_pixels(path) as source,
        pytest.raises(ImageError, match=rf"^cut\.{suffix}: .*level 0, block x=0"),
    ):
        read_all(source)


def damage_tile(path: Path, index: int, change: Callable[[bytes], bytes]) -> None:
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[index], tif.pages[0].databytecounts[index]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = change(bytes(data[offset : offset + count]))
    path.write_bytes(data)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg", "jpeg2000"])
def test_a_corrupt_tile_is_an_error_naming_level_and_block_and_its_neighbours_still_read(
    compression: str, tmp_path: Path
) -> None:
    path = tmp_path / "torn.tif"
    small_tiff(path, compression=compression)
    # Tile 8 is in the second row of seven; the second half of its data is lost.
    damage_tile(path, 8, lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with open_pixels(path) as source:
        with pytest.raises(ImageError, match=r"^torn\.tif: cannot decode level 0, block x=48, y=64, 10 x 10"):
            source.read_block(0, 48, 64, 10, 10)
        assert source.read_block(0, 0, 64, 48, 64).min() > 0


def test_a_tile_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "hole.tif"
    small_tiff(path)
    with tifffile.TiffFile(path) as tif:
        counts = list(tif.pages[0].databytecounts)
    overwrite(path, "TileByteCounts", [0 if k == 3 else count for k, count in enumerate(counts)])
    with open_pixels(path) as source, pytest.raises(ImageError, match=r"^hole\.tif: .*tile 3 is missing"):
        read_all(source)


def test_a_tile_the_scanner_left_out_is_white_in_an_aperio_slide(tmp_path: Path) -> None:
    path = tmp_path / "sparse.svs"
    small_tiff(path, description="Aperio Image Library v1\r\n307x201 |AppMag = 20|MPP = 0.4990")
    with tifffile.TiffFile(path) as tif:
        counts = list(tif.pages[0].databytecounts)
    overwrite(path, "TileByteCounts", [0 if k == 0 else count for k, count in enumerate(counts)])
    with open_pixels(path) as source:
        assert (source.read_block(0, 0, 0, 48, 64) == 255).all()
        np.testing.assert_array_equal(source.read_block(0, 48, 0, 48, 64), IMAGE[:64, 48:96])


def test_a_jpeg_tile_that_claims_to_be_huge_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    small_tiff(path, compression="jpeg")

    def enlarge(data: bytes) -> bytes:
        start = data.index(b"\xff\xc0") + 5
        return data[:start] + struct.pack(">HH", 65_000, 65_000) + data[start + 4 :]

    damage_tile(path, 0, enlarge)
    with open_pixels(path) as source, pytest.raises(ImageError, match="claim 65000 x 65000 px"):
        source.read_block(0, 0, 0, 4, 4)


def test_a_png_of_400_megapixels_is_refused_by_its_header(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(IMAGE[:4, :4]).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    struct.pack_into(">II", data, 16, 20_000, 20_000)
    import zlib

    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(ResourceLimit, match=r"^bomb\.png: 20000 x 20000 px .* tiled, pyramidal TIFF"):
        open_pixels(tmp_path / "bomb.png")


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind in ("PNG", "JPEG"):
        Image.fromarray(IMAGE[:40, :50]).save(buffer, kind)
    else:
        options: dict[str, Any] = {"description": "Aperio |MPP = 0.5"} if kind == "svs" else {}
        options |= {"ome": True} if kind == "ome" else {"metadata": None}
        tifffile.imwrite(
            buffer, IMAGE[:40, :50], tile=(16, 16), photometric="rgb", compression="zlib", **options
        )
    return buffer.getvalue()


FUZZED = {kind: encoded(kind) for kind in ("PNG", "JPEG", "tif", "svs", "ome")}


@pytest.mark.parametrize("kind", FUZZED)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_no_damage_to_a_file_raises_anything_but_our_errors(
    kind: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(FUZZED[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        # Half of the changes hit the head, where the structure is.
        end = data.draw(st.sampled_from([min(500, len(content)), len(content)]))
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "fuzzed.bin"
    path.write_bytes(content)
    try:
        with open_pixels(path) as source:
            for index, level in enumerate(source.levels):
                block = source.read_block(index, 0, 0, min(level.width, 64), min(level.height, 64))
                assert block.dtype == np.uint8
                assert block.ndim == 3
                assert block.shape[2] == 3
    except TissuebridgeError as error:
        assert "fuzzed.bin" in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    "block",
    [
        (0, -1, 0, 5, 5),
        (0, 0, -1, 5, 5),
        (0, 0, 0, 0, 5),
        (0, 0, 0, 5, -5),
        (0, 300, 0, 8, 5),
        (1, 0, 0, 5, 5),
        (-1, 0, 0, 5, 5),
    ],
)
def test_a_block_outside_the_level_is_a_value_error(
    block: tuple[int, int, int, int, int], tmp_path: Path
) -> None:
    small_tiff(tmp_path / "a.tif")
    with open_pixels(tmp_path / "a.tif") as source, pytest.raises(ValueError, match=r"a\.tif"):
        source.read_block(*block)


def aperio(mpp: str) -> dict[str, Any]:
    return {"description": f"Aperio Image Library v11.2.1\r\n307x201 |AppMag = 20|MPP = {mpp}|Left = 1.0"}


def ome(**sizes: Any) -> dict[str, Any]:
    return {"ome": True, "metadata": {"axes": "YXS", **sizes}}


CALIBRATIONS: dict[str, tuple[dict[str, Any], float | None]] = {
    "nothing": ({}, None),
    "aperio": (aperio("0.4990"), 0.499),
    "aperio without": ({"description": "Aperio Image Library\r\n307x201 |AppMag = 20"}, None),
    "ome": (ome(PhysicalSizeX=0.25, PhysicalSizeY=0.2501), 0.25005),
    "ome in nm": (
        ome(PhysicalSizeX=250.0, PhysicalSizeXUnit="nm", PhysicalSizeY=250.0, PhysicalSizeYUnit="nm"),
        0.25,
    ),
    "centimetre": ({"resolution": (40_000, 40_000), "resolutionunit": "centimeter"}, 0.25),
    "inch": ({"resolution": (101_600, 101_600), "resolutionunit": "inch"}, 0.25),
    "printer": ({"resolution": (300, 300), "resolutionunit": "inch"}, None),
    "screen in cm": ({"resolution": (28.35, 28.35), "resolutionunit": "centimeter"}, None),
    "no unit": ({"resolution": (4, 4), "resolutionunit": "none"}, None),
    "zero": ({"resolution": ((0, 1), (0, 1)), "resolutionunit": "centimeter"}, None),
    "imagej": ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}, "tile": None}, 0.25),
    "imagej in pixels": ({"imagej": True, "resolution": (4, 4), "metadata": {}, "tile": None}, None),
}


def write_calibrated(path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(path, IMAGE, **{"metadata": None, **TILED, **options})


@pytest.mark.parametrize("case", CALIBRATIONS)
def test_the_pixel_size_comes_from_microscopy_metadata_only(case: str, tmp_path: Path) -> None:
    options, expected = CALIBRATIONS[case]
    write_calibrated(tmp_path / "a.tif", options)
    with open_pixels(tmp_path / "a.tif") as source:
        assert source.pixel_size_um == (None if expected is None else pytest.approx(expected, rel=1e-6))


def test_the_dpi_of_a_png_is_no_calibration(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png", dpi=(101_600, 101_600))
    with open_pixels(tmp_path / "a.png") as source:
        assert source.pixel_size_um is None


@pytest.mark.parametrize("mpp", ["0", "-0.5", "NaN", "inf", "1e-9", "1e6"])
def test_an_impossible_pixel_size_is_an_error_only_for_who_asks_for_it(mpp: str, tmp_path: Path) -> None:
    write_calibrated(tmp_path / "a.svs", aperio(mpp))
    with open_pixels(tmp_path / "a.svs") as source:
        assert read_all(source).shape == IMAGE.shape
        with pytest.raises(CalibrationError, match=r"^a\.svs: .*--pixel-size"):
            _ = source.pixel_size_um


def test_pixels_that_are_not_square_are_an_error_naming_both_sizes(tmp_path: Path) -> None:
    write_calibrated(tmp_path / "a.tif", ome(PhysicalSizeX=0.25, PhysicalSizeY=0.26))
    with (
        open_pixels(tmp_path / "a.tif") as source,
        pytest.raises(CalibrationError, match=r"x 0\.25 um and y 0\.26 um.*--pixel-size"),
    ):
        _ = source.pixel_size_um


@given(
    width=st.integers(300, 200_000),
    height=st.integers(300, 200_000),
    n=st.sampled_from([2, 3, 4, 8, 16]),
    up=st.booleans(),
)
def test_sizes_rounded_up_or_down_give_the_whole_downsample(
    width: int, height: int, n: int, up: bool
) -> None:
    sizes = [(width, height), (-(-width // n), -(-height // n)) if up else (width // n, height // n)]
    assert pyramid(sizes)[1].downsample == n


def test_labels_and_repeated_sizes_are_no_levels() -> None:
    assert list(pyramid([(2220, 2967), (2220, 2967), (574, 768), (387, 463), (1280, 431)])) == [0, 2]
    assert list(pyramid([(1, 1)])) == [0]
