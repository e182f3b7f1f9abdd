"""A project's file, read without Java: names, places, pixel sizes, and what QuPath does to an image's pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from tissuebridge.errors import InputRefused, UsageError
from tissuebridge.project.qpproj import is_project, path_text_of_uri, project_file, read_entries


def builder(uri: str = "file:///slides/a.svs", *args: str, **metadata: Any) -> dict[str, Any]:
    return {
        "builderType": "uri",
        "providerClassName": "qupath.lib.images.servers.openslide.OpenslideServerBuilder",
        "uri": uri,
        "args": list(args),
        **({"metadata": metadata} if metadata else {}),
    }


def calibration(value: object, unit: str) -> dict[str, Any]:
    return {
        "pixelCalibration": {side: {"value": value, "unit": unit} for side in ("pixelWidth", "pixelHeight")}
    }


def entry(
    number: int = 1, name: str = "a.svs", server: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "serverBuilder": builder() if server is None else server,
        "entryID": number,
        "imageName": name,
        **more,
    }


def written(folder: Path, *entries: Mapping[str, Any]) -> Path:
    path = folder / "project.qpproj"
    path.write_bytes(orjson.dumps({"version": "0.6.0", "images": entries}))
    return path


def test_names_are_qupaths_without_the_extension_and_fit_for_files(tmp_path: Path) -> None:
    names = ["a.svs", "b.ome.tif", "x/y: scan?.ndpi", "slide - Series 2", "Pra\u0308parat.tiff", "..."]

    found = read_entries(written(tmp_path, *(entry(number, name) for number, name in enumerate(names))))

    assert [image.name for image in found] == [
        "a",
        "b",
        "x_y_ scan_",
        "slide - Series 2",
        "Präparat",
        "image",
    ]
    assert found[1].files.data == tmp_path / "data" / "1" / "data.qpdata"


def test_two_of_one_name_are_told_apart_also_where_only_case_differs(tmp_path: Path) -> None:
    found = read_entries(written(tmp_path, entry(1, "a.svs"), entry(2, "A.tif"), entry(3, "b.svs")))

    assert [image.name for image in found] == ["a (entry 1)", "A (entry 2)", "b"]


@pytest.mark.parametrize(
    ("uri", "posix", "windows"),
    [
        ("file:/data/a%20b.svs", "/data/a b.svs", "\\data\\a b.svs"),
        ("file:///C:/slides/a.svs", "/C:/slides/a.svs", "C:\\slides\\a.svs"),
        ("file:/D:/a.svs", "/D:/a.svs", "D:\\a.svs"),
        ("file://server/share/a.svs", "//server/share/a.svs", "\\\\server\\share\\a.svs"),
        ("file://localhost/a.svs", "/a.svs", "\\a.svs"),
        ("FILE:///a/%C3%A4%F0%9F%94%AC.svs", "/a/ä🔬.svs", "\\a\\ä🔬.svs"),
        ("https://omero.example/webclient/?show=image-1", None, None),
        ("file:///a%00b.svs", None, None),
        ("file://[", None, None),
    ],
)
def test_file_uris_of_every_kind(uri: str, posix: str | None, windows: str | None) -> None:
    assert path_text_of_uri(uri, windows=False) == posix
    assert path_text_of_uri(uri, windows=True) == windows


def test_the_series_is_bio_formats_argument(tmp_path: Path) -> None:
    servers = [
        builder("file:///a.lif", "--series", "3"),
        builder("file:///a.lif", "--series"),
        builder("file:///a.lif"),
    ]

    found = read_entries(written(tmp_path, *(entry(n, f"{n}", server) for n, server in enumerate(servers))))

    assert [image.series for image in found] == [3, 0, 0]


def test_a_transform_does_not_depend_on_where_the_file_lies_nor_on_metadata(tmp_path: Path) -> None:
    def rotated(uri: str, angle: str, **metadata: Any) -> dict[str, Any]:
        return {"builderType": "rotated", "builder": builder(uri, **metadata), "rotation": angle}

    servers = [
        builder("file:///a.svs", width=3),
        rotated("file:///a.svs", "ROTATE_90"),
        rotated("file:///elsewhere/a.svs", "ROTATE_90", width=3),
        rotated("file:///a.svs", "ROTATE_180"),
        {"builderType": "cropped", "region": {"x": 1}, "builder": rotated("file:///a.svs", "ROTATE_90")},
    ]

    found = read_entries(written(tmp_path, *(entry(n, f"{n}", server) for n, server in enumerate(servers))))

    transforms = [image.transform for image in found]
    assert transforms[0] == ""
    assert transforms[1] == transforms[2]
    assert len(set(transforms)) == 4
    assert found[4].uris == ("file:///a.svs",)


@pytest.mark.parametrize(
    ("value", "unit", "size"),
    [
        (0.25, "µm", 0.25),
        (0.25, "\u03bcm", 0.25),
        (1.0, "px", None),
        (None, "µm", None),
        ("NaN", "µm", None),
        (0.25, None, None),
    ],
)
def test_the_pixel_size_counts_only_in_um(
    tmp_path: Path, value: object, unit: str, size: float | None
) -> None:
    server = builder(
        **calibration(value, unit), levels=[{"downsample": 1.0, "width": 30, "height": 20}], isRGB=True
    )

    (found,) = read_entries(written(tmp_path, entry(1, "a", server)))

    assert found.pixel_size_um == (None if size is None else (size, size))
    assert (found.levels[0].width, found.is_rgb, found.planes) == (30, True, 1)


def test_what_the_project_does_not_tell_is_not_made_up(tmp_path: Path) -> None:
    (found,) = read_entries(written(tmp_path, entry(metadata={"Patient": "P1"})))

    assert (found.levels, found.pixel_size_um, found.is_rgb) == ((), None, None)
    assert found.metadata == {"Patient": "P1"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"images": 3}', b'{"images": [{}]}', b"\xff\xfe"]
)
def test_a_damaged_project_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "project.qpproj"
    path.write_bytes(content)

    with pytest.raises(InputRefused, match=r"project\.qpproj"):
        read_entries(path)


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    path = written(tmp_path, entry())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert len(read_entries(path)) == 1


def test_doubled_entry_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="entry ID 1"):
        read_entries(written(tmp_path, entry(1, "a"), entry(1, "b")))


def test_a_project_is_its_file_or_the_folder_with_it(tmp_path: Path) -> None:
    assert not is_project(tmp_path)
    path = written(tmp_path)

    assert is_project(tmp_path)
    assert is_project(path)
    assert project_file(tmp_path) == project_file(path) == path


def test_a_project_file_that_is_missing_is_told_apart_from_one_lost_in_a_save(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        project_file(tmp_path / "project.qpproj")
    (tmp_path / "project.qpproj.backup").write_text("{}")

    with pytest.raises(InputRefused, match="tissuebridge repair"):
        project_file(tmp_path)
