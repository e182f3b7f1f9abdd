"""OME-Zarr read as other programs write it: every pixel, or a refusal that says why."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from drawn_tissue import draw_tissue
from tissuebridge.cli import main
from tissuebridge.errors import ImageError
from tissuebridge.project.folder import FolderProject, open_image
from tissuebridge.project.pixels import open_pixels
from tissuebridge.project.source import open_source


def pixels_of(height: int = 300, width: int = 420) -> NDArray[np.uint8]:
    return draw_tissue(height, width, seed=3)


def write(
    path: Path, pixels: NDArray[np.uint8], *, version: int = 3, axes: str = "tczyx", **more: Any
) -> Path:
    """An image of two levels as OME-Zarr 0.5 (`version` 3) or 0.4 (2); `more` overrides its metadata."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for number, step in enumerate((1, 2)):
        level = pixels[::step, ::step]
        shape = {"t": 1, "z": 1, "c": level.shape[2], "y": level.shape[0], "x": level.shape[1]}
        chunks = {"t": 1, "z": 1, "c": 1, "y": 128, "x": 128}
        array = group.create_array(
            str(number),
            shape=[shape[axis] for axis in axes],
            chunks=[min(chunks[axis], shape[axis]) for axis in axes],
            dtype=pixels.dtype,
            config={"write_empty_chunks": True},
        )
        order = [axis for axis in axes if axis in "yxc"]
        array[:] = level.transpose(["yxc".index(axis) for axis in order]).reshape(array.shape)
    unit = {"x": "micrometer", "y": "micrometer"}
    image = {
        "axes": [{"name": axis} | ({"unit": unit[axis]} if axis in unit else {}) for axis in axes],
        "datasets": [
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [0.25 * 2**number if axis in unit else 1.0 for axis in axes]}
                ],
            }
            for number in (0, 1)
        ],
    } | more.pop("image", {})
    told = {"multiscales": [image]} | more
    group.attrs.update(told if version == 2 else {"ome": told | {"version": "0.5"}})
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["tczyx", "cyx", "yxc"])
def test_every_pixel_of_every_level_is_read(tmp_path: Path, version: int, axes: str) -> None:
    drawn = pixels_of()

    with open_pixels(write(tmp_path / "a.ome.zarr", drawn, version=version, axes=axes)) as pixels:
        assert pixels.pixel_size_um == 0.25
        assert [(level.width, level.height, level.downsample) for level in pixels.levels] == [
            (420, 300, 1.0),
            (210, 150, 2.0),
        ]
        np.testing.assert_array_equal(pixels.read_block(0, 100, 90, 150, 200), drawn[90:290, 100:250])
        np.testing.assert_array_equal(pixels.read_block(1, 0, 0, 210, 150), drawn[::2, ::2])


def test_several_images_in_one_file_give_the_first(tmp_path: Path) -> None:
    drawn = pixels_of()
    zarr.open_group(tmp_path / "a.zarr", mode="w").attrs["ome"] = {"bioformats2raw.layout": 3}
    write(tmp_path / "a.zarr" / "0", drawn)

    with open_pixels(tmp_path / "a.zarr") as pixels:
        np.testing.assert_array_equal(pixels.read_block(0, 0, 0, 420, 300), drawn)


def test_a_chunk_that_is_not_there_is_refused_not_filled_in(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.zarr", pixels_of(), axes="cyx")
    (path / "0" / "c" / "1" / "1" / "2").unlink()

    with open_pixels(path) as pixels:
        pixels.read_block(0, 0, 0, 256, 256)
        with pytest.raises(ImageError, match=r"chunk 0/c/1/1/2 is not there.*copy it again"):
            pixels.read_block(0, 200, 100, 100, 100)


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "16 bits": ({"pixels": pixels_of().astype(np.uint16)}, "not 8-bit"),
    "two channels": ({"pixels": pixels_of()[..., :2]}, "three channels"),
    "fluorescence": (
        {"omero": {"channels": [{"color": "0000FF"}, {"color": "00FF00"}, {"color": "FF0000"}]}},
        "fluorescence",
    ),
    "no metadata": ({"multiscales": []}, "no image of OME-Zarr"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_brightfield_rgb_is_refused(tmp_path: Path, case: str) -> None:
    more, told = CASES[case]

    path = write(tmp_path / "a.ome.zarr", **({"pixels": pixels_of()} | more))

    with pytest.raises(ImageError, match=told):
        open_pixels(path)


def test_without_a_unit_of_length_there_is_no_pixel_size(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.ome.zarr", pixels_of(), axes="cyx", image={"axes": [{"name": a} for a in "cyx"]}
    )

    with open_pixels(path) as pixels:
        assert pixels.pixel_size_um is None


def test_a_folder_is_a_project_of_its_zarrs_and_each_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    path = write(tmp_path / "images" / "a.ome.zarr", pixels_of())

    [image] = FolderProject(tmp_path).images
    [alone] = open_source(path, None).images

    assert (image.name, alone.name) == ("a", "a")
    assert image.identity == alone.identity == open_image(path).images[0].identity
    assert (image.identity.width, image.identity.height, image.identity.pixel_size_um) == (420, 300, 0.25)


def test_it_is_analysed_like_the_same_pixels_in_a_png(tmp_path: Path) -> None:
    import orjson
    from PIL import Image

    drawn = pixels_of()
    write(tmp_path / "zarr" / "a.ome.zarr", drawn)
    (tmp_path / "png").mkdir()
    Image.fromarray(drawn).save(tmp_path / "png" / "a.png")

    cells = {}
    for name, more in (("zarr", []), ("png", ["--pixel-size", "0.25"])):
        assert main(["analyse", str(tmp_path / name), *more]) == 0
        features = orjson.loads((tmp_path / name / "results" / "a.geojson").read_bytes())["features"]
        cells[name] = sorted(str(feature["geometry"]["coordinates"]) for feature in features)
    assert len(cells["zarr"]) > 5
    assert cells["zarr"] == cells["png"]
    shutil.rmtree(tmp_path / "zarr")
