"""QuPath GeoJSON in: every dialect is read as QuPath means it."""

import gzip
import json
import logging
import zipfile
from pathlib import Path
from uuid import UUID

import pytest
import shapely

from tissuebridge.errors import GeoJSONError
from tissuebridge.geojson import read_objects
from tissuebridge.objects import ObjectType, PathClass, Plane

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}
UUID_TEXT = "6513270e-269e-4d37-b2a7-4de452e6b438"


def feature(geometry=SQUARE, **members):
    properties = {key: members.pop(key) for key in list(members) if key not in ("id", "nucleusGeometry")}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **members}


def read(folder: Path, document, name="a.geojson"):
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return read_objects(path)


def read_one(folder: Path, document):
    (obj,) = read(folder, document)
    return obj


@pytest.mark.parametrize(
    "document",
    [
        [feature()],
        {"type": "FeatureCollection", "features": [feature()]},
        [{"type": "FeatureCollection", "features": [feature()]}],
        feature(),
        SQUARE,
        [SQUARE],
        {"type": "Feature", "geometry": SQUARE, "properties": None},
    ],
    ids=[
        "list",
        "collection",
        "list of collections",
        "feature",
        "geometry",
        "list of geometries",
        "no properties",
    ],
)
def test_every_frame_round_a_feature_gives_the_same_annotation(tmp_path, document):
    obj = read_one(tmp_path, document)

    assert obj.object_type is ObjectType.ANNOTATION
    assert obj.path_class is None
    assert obj.geometry.equals(shapely.box(0, 0, 10, 10))


@pytest.mark.parametrize("document", [[], {"type": "FeatureCollection", "features": []}])
def test_an_image_without_objects_is_no_error(tmp_path, document):
    assert read(tmp_path, document) == []


def test_gzip_and_zip_are_known_by_content_and_all_files_of_a_zip_are_read(tmp_path):
    text = json.dumps([feature()])
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.geojson", text)
        archive.writestr("inner/y.json", text)
        archive.writestr("__MACOSX/x.geojson", "rubbish")
        archive.writestr("readme.txt", "rubbish")

    assert len(read_objects(tmp_path / "a.geojson.gz")) == 1
    assert len(read_objects(tmp_path / "b.zip")) == 2


def test_a_byte_order_mark_is_accepted(tmp_path):
    (tmp_path / "a.geojson").write_bytes(b"\xef\xbb\xbf" + json.dumps([feature()]).encode())

    assert len(read_objects(tmp_path / "a.geojson")) == 1


@pytest.mark.parametrize(
    ("classification", "expected"),
    [
        (None, None),
        ({}, None),
        ("Tumor", PathClass("Tumor")),
        ({"name": "Tumor"}, PathClass("Tumor")),
        ({"name": "Tumor", "color": [200, 0, 0]}, PathClass("Tumor", (200, 0, 0))),
        ({"name": "Tumor", "color": [200, 0, 0, 128]}, PathClass("Tumor", (200, 0, 0))),
        ({"name": "Tumor", "color": []}, PathClass("Tumor")),
        ({"name": "Tumor", "colorRGB": -3670016}, PathClass("Tumor", (200, 0, 0))),
        ({"names": ["Immune", "CD3"], "color": [1, 2, 3]}, PathClass("Immune: CD3", (1, 2, 3))),
        ({"name": "Immune:CD3", "color": [1, 2, 3]}, PathClass("Immune: CD3", (1, 2, 3))),
        (
            {"name": "CD3", "colorRGB": -1, "parentClass": {"name": "Immune", "colorRGB": -2}},
            PathClass("Immune: CD3", (255, 255, 255)),
        ),
        ({"name": "Ignore*", "color": [180, 180, 180]}, PathClass("Ignore*", (180, 180, 180))),
    ],
)
def test_every_spelling_of_a_classification_is_understood(tmp_path, classification, expected):
    assert read_one(tmp_path, feature(classification=classification)).path_class == expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"objectType": "detection"}, ObjectType.DETECTION),
        ({"objectType": "tmaCore"}, ObjectType.TMA_CORE),
        ({"objectType": "tile"}, ObjectType.TILE),
        ({"object_type": "cell"}, ObjectType.CELL),
        ({"type": "detection"}, ObjectType.DETECTION),
        ({"type": "something else"}, ObjectType.ANNOTATION),
        ({"id": "PathCellObject"}, ObjectType.CELL),
        ({}, ObjectType.ANNOTATION),
    ],
)
def test_the_object_type_is_found_where_each_version_of_qupath_wrote_it(tmp_path, members, expected):
    assert read_one(tmp_path, feature(**members)).object_type is expected


def test_id_name_lock_metadata_and_plane_arrive(tmp_path):
    square = {**SQUARE, "plane": {"c": -1, "z": 3, "t": 1}}
    obj = read_one(
        tmp_path,
        feature(square, id=UUID_TEXT, name="mine", isLocked=True, metadata={"a": "b", "n": 3, "f": True}),
    )

    assert obj.id == UUID(UUID_TEXT)
    assert obj.name == "mine"
    assert obj.is_locked
    assert obj.metadata == {"a": "b", "n": "3", "f": "true"}
    assert obj.plane == Plane(-1, 3, 1)


@pytest.mark.parametrize("odd", ["mine", 7, "{6513270e-269e-4d37-b2a7-4de452e6b438}", None])
def test_an_id_that_is_no_uuid_is_dropped_as_qupath_does(tmp_path, odd):
    assert read_one(tmp_path, feature(id=odd)).id is None


@pytest.mark.parametrize(
    "measurements", [{"a": 1, "b": 2.5}, [{"name": "a", "value": 1}, {"name": "b", "value": 2.5}]]
)
def test_measurements_are_read_as_a_dictionary_and_as_a_list(tmp_path, measurements):
    assert read_one(tmp_path, feature(measurements=measurements)).measurements == {"a": 1.0, "b": 2.5}


def test_a_measurement_that_qupath_wrote_as_nan_is_left_out_and_logged(tmp_path, caplog):
    text = json.dumps(
        [feature(name='say "NaN"', measurements={"a": 1, "b": float("nan"), "c": float("-inf")})]
    )

    with caplog.at_level(logging.WARNING):
        obj = read_one(tmp_path, text)

    assert obj.measurements == {"a": 1.0}
    assert obj.name == 'say "NaN"'
    assert "2 measurements without a value" in caplog.text


def test_a_cell_brings_its_nucleus(tmp_path):
    nucleus = {"type": "Polygon", "coordinates": [[[2, 2], [4, 2], [4, 4], [2, 2]]]}
    obj = read_one(tmp_path, feature(objectType="cell", nucleusGeometry=nucleus))

    assert obj.nucleus.area == 2


@pytest.mark.parametrize(
    ("kind", "coordinates", "expected"),
    [
        ("Point", [1, 2], "POINT (1 2)"),
        ("Point", [1, 2, 7], "POINT (1 2)"),
        ("MultiPoint", [[1, 2], [3, 4]], "MULTIPOINT ((1 2), (3 4))"),
        ("LineString", [[1, 2], [3, 4]], "LINESTRING (1 2, 3 4)"),
        ("MultiLineString", [[[1, 2], [3, 4]]], "MULTILINESTRING ((1 2, 3 4))"),
        (
            "Polygon",
            [[[0, 0], [9, 0], [9, 9], [0, 0]], [[5, 1], [6, 1], [6, 2], [5, 1]]],
            "POLYGON ((0 0, 9 0, 9 9, 0 0), (5 1, 6 1, 6 2, 5 1))",
        ),
        ("MultiPolygon", [SQUARE["coordinates"]], "MULTIPOLYGON (((0 0, 10 0, 10 10, 0 10, 0 0)))"),
    ],
)
def test_every_kind_of_geometry_is_read(tmp_path, kind, coordinates, expected):
    obj = read_one(tmp_path, feature({"type": kind, "coordinates": coordinates}))

    assert obj.geometry.equals_exact(shapely.from_wkt(expected))


def test_an_ellipse_is_the_ellipse_in_the_bounds_of_whatever_was_written(tmp_path):
    obj = read_one(tmp_path, feature({**SQUARE, "isEllipse": True}))

    assert obj.is_ellipse
    assert obj.geometry.bounds == (0, 0, 10, 10)
    assert obj.geometry.area == pytest.approx(25 * 3.14159, rel=0.01)


@pytest.mark.parametrize("key", ["childObjects", "children"])
def test_objects_inside_objects_are_not_lost(tmp_path, key):
    root = {
        "type": "Feature",
        "properties": {"objectType": "root", key: [feature(name="a", **{key: [feature(name="b")]})]},
    }

    assert [obj.name for obj in read(tmp_path, [root, feature(name="c")])] == ["a", "b", "c"]


def test_deep_hierarchies_do_not_overflow_the_stack(tmp_path):
    document = feature()
    for _ in range(250):
        document = feature(childObjects=[document])

    assert len(read(tmp_path, document)) == 251


def test_an_empty_points_annotation_is_left_out_and_logged(tmp_path, caplog):
    empty = feature({"type": "MultiPoint", "coordinates": []})

    with caplog.at_level(logging.WARNING):
        objects = read(tmp_path, [empty, feature()])

    assert len(objects) == 1
    assert "1 points annotations without points" in caplog.text


def test_of_duplicate_keys_the_last_counts_as_in_qupath(tmp_path):
    text = json.dumps(feature(name="last")).replace('"properties": {', '"properties": {"name": "first", ')

    assert read_one(tmp_path, text).name == "last"


def test_a_figure_of_eight_keeps_both_halves_and_is_logged(tmp_path, caplog):
    bowtie = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}

    with caplog.at_level(logging.WARNING):
        obj = read_one(tmp_path, [feature(bowtie, name="eight")])

    assert obj.geometry.is_valid
    assert obj.geometry.area == 50
    assert "a.geojson: feature 1 of 1 ('eight')" in caplog.text


def test_an_outline_that_crosses_itself_by_qupaths_rounding_is_repaired(tmp_path):
    ring = [[0, 0], [100, 0], [100, 50], [50, 50.01], [50, 49.99], [100, 50.02], [100, 100], [0, 100], [0, 0]]

    obj = read_one(tmp_path, feature({"type": "Polygon", "coordinates": [ring]}))

    assert obj.geometry.is_valid
    assert obj.geometry.area == pytest.approx(10_000, abs=2)


def test_a_hole_that_touches_its_outline_along_an_edge_is_cut_out(tmp_path):
    hole = [[0, 2], [4, 2], [4, 4], [0, 4], [0, 2]]

    obj = read_one(tmp_path, feature({"type": "Polygon", "coordinates": [SQUARE["coordinates"][0], hole]}))

    assert obj.geometry.is_valid
    assert obj.geometry.area == 92


def test_overlapping_parts_of_a_multipolygon_are_united(tmp_path):
    other = [[[5, 0], [15, 0], [15, 10], [5, 10], [5, 0]]]

    obj = read_one(tmp_path, feature({"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"], other]}))

    assert obj.geometry.area == 150


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(GeoJSONError, match=r"absent\.geojson: cannot be read"):
        read_objects(tmp_path / "absent.geojson")
