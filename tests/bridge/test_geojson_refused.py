"""The corpus of bad GeoJSON: each file ends in one error that says what, where and the cure."""

import gzip
import io
import json
import zipfile

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tissuebridge.errors import GeoJSONError, ResourceLimit
from tissuebridge.geojson import read_objects

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
UUID_TEXT = "6513270e-269e-4d37-b2a7-4de452e6b438"


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry=None, **properties):
    return {"type": "Feature", "geometry": geometry or polygon(SQUARE), "properties": properties}


def one(geometry, **properties):
    return json.dumps([{"type": "Feature", "geometry": geometry, "properties": properties}])


def zipped(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def many(count):
    return [[index, index % 7] for index in range(count)]


NESTED = '{"type": "GeometryCollection", "geometries": [' * 500 + "]}" * 500
GOOD = json.dumps([feature()])

BAD_FILES = {
    "empty": (b"", "the file is empty"),
    "whitespace": (b" \n\t ", "the file is empty"),
    "byte order mark alone": (b"\xef\xbb\xbf", "the file is empty"),
    "UTF-16": (GOOD.encode("utf-16"), "UTF-16"),
    "UTF-16 without mark": (GOOD.encode("utf-16-le"), "UTF-16"),
    "Latin-1": (one(polygon(SQUARE), name="@").replace("@", "\u00b5").encode("latin-1"), "not JSON"),
    "truncated": (GOOD[:-20].encode(), "not JSON at line 1"),
    "trailing garbage": (GOOD.encode() + b"x", "not JSON"),
    "web page": (b"<html></html>", "not JSON"),
    "image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not JSON"),
    "depth 1,025": (b"[" * 1025 + b"]" * 1025, "not JSON"),
    "depth 100,000": (b"[" * 100_000, "not JSON"),
    "1e400": (one(polygon(SQUARE)).replace("[10, 0]", "[1e400, 0]").encode(), "not JSON"),
    "gzip cut off": (gzip.compress(GOOD.encode())[:-9], "gzip file is damaged"),
    "gzip rubbish": (b"\x1f\x8b rubbish", "gzip file is damaged"),
    "zip cut off": (zipped("a.geojson", GOOD)[:-9], "zip file is damaged"),
    "zip without GeoJSON": (zipped("a.txt", GOOD), "holds no .geojson"),
    "zip with a bad file": (zipped("a.geojson", "{"), "(a.geojson): this is not JSON"),
    "top level scalar": (b"3", "neither an object nor a list"),
    "top level text": (b'"x"', "neither an object nor a list"),
    "top level null": (b"null", "neither an object nor a list"),
    "list of scalars": (b"[1, 2]", "feature 1 of 2: it is no GeoJSON object"),
    "features no list": (b'{"type": "FeatureCollection", "features": {}}', '"features" is no list'),
    "features missing": (b'{"type": "FeatureCollection"}', '"features" is no list'),
    "type missing": (b'[{"geometry": {}}]', 'no "Feature" and no geometry'),
    "500 nested collections": (NESTED.encode(), "feature 1 of 1: a GeometryCollection cannot be one object"),
    "type an object": (b'[{"type": {}}]', 'no "Feature" and no geometry'),
    "unknown frame": (b'{"type": "Topology"}', 'no "Feature" and no geometry'),
}

BAD_GEOMETRIES = {
    "null": (None, "no geometry"),
    "text": ("POINT (1 2)", "no geometry"),
    "type missing": ({"coordinates": [1, 2]}, "unknown geometry type None"),
    "type a list": ({"type": [], "coordinates": [1, 2]}, "unknown geometry type"),
    "Circle": ({"type": "Circle", "coordinates": [1, 2], "radius": 3}, "unknown geometry type 'Circle'"),
    "collection": ({"type": "GeometryCollection", "geometries": [polygon(SQUARE)]}, "GeometryCollection"),
    "coordinates missing": ({"type": "Point"}, "coordinates of the Point are missing"),
    "coordinates null": ({"type": "Polygon", "coordinates": None}, "coordinates of the Polygon are missing"),
    "coordinates a number": ({"type": "Point", "coordinates": 3}, "coordinates of the Point are missing"),
    "coordinates []": ({"type": "Polygon", "coordinates": []}, "empty"),
    "ring []": (polygon([]), "no list of positions"),
    "point []": ({"type": "Point", "coordinates": []}, "0 numbers instead of x and y"),
    "multipolygon []": ({"type": "MultiPolygon", "coordinates": []}, "empty"),
    "one-point line": ({"type": "LineString", "coordinates": [[1, 2]]}, "a line needs two positions"),
    "2-point ring": (polygon([[0, 0], [1, 1]]), "a ring of 2 positions"),
    "closed 2-point ring": (polygon([[0, 0], [1, 1], [0, 0]]), "a ring of 3 positions"),
    "unclosed ring": (polygon(SQUARE[:-1]), "a ring is not closed"),
    "zero area": (polygon([[0, 0], [10, 0], [5, 0], [0, 0]]), "encloses no area"),
    "all the same vertex": (polygon([[3, 3]] * 1000), "encloses no area"),
    "1e5 times the same vertex": (polygon([[3, 3]] * 100_001), "100,001 vertices"),
    "hole outside shell": (
        polygon(SQUARE, [[20, 20], [22, 20], [22, 22], [20, 20]]),
        "a hole of the polygon is not inside",
    ),
    "hole crossing shell": (
        polygon(SQUARE, [[8, 2], [12, 2], [12, 4], [8, 2]]),
        "a hole of the polygon is not inside",
    ),
    "overlapping itself": (
        polygon([[0, 0], [10, 0], [10, 10], [0, 10], [0, 5], [5, 5], [5, 12], [-3, 12], [-3, 0], [0, 0]]),
        "ambiguous",
    ),
    "1e9": (polygon([[0, 0], [1e9, 0], [1e9, 1], [0, 0]]), "beyond 10000000"),
    "1e308": ({"type": "Point", "coordinates": [1e308, -1e308]}, "beyond 10000000"),
    "huge integer": ({"type": "Point", "coordinates": [10**30, 0]}, "beyond 10000000"),
    "NaN": ({"type": "Point", "coordinates": [float("nan"), 0]}, "not a number"),
    "Infinity": ({"type": "Point", "coordinates": [float("inf"), 0]}, "not a number"),
    "null as number": ({"type": "Point", "coordinates": [None, 0]}, "not a number"),
    "text as number": ({"type": "Point", "coordinates": ["1", "2"]}, "not a number"),
    "boolean as number": ({"type": "Point", "coordinates": [True, 2]}, "not a number"),
    "boolean in a ring": (polygon([[0, 0], [1.5, False], [1, 1], [0, 0]]), "not a number"),
    "4 numbers": (polygon([[*p, 0, 0] for p in SQUARE]), "4 numbers instead of x and y"),
    "1 number": ({"type": "MultiPoint", "coordinates": [[1], [2]]}, "1 numbers instead of x and y"),
    "ragged": (polygon([[0, 0], [10, 0, 1], [10, 10], [0, 0]]), "3 numbers instead of x and y"),
    "too shallow": ({"type": "Polygon", "coordinates": SQUARE}, "no list of positions"),
    "too deep": ({"type": "Polygon", "coordinates": [[SQUARE]]}, "instead of x and y"),
    "position an object": ({"type": "MultiPoint", "coordinates": [{"x": 1, "y": 2}]}, "no list of positions"),
    "plane no object": ({**polygon(SQUARE), "plane": 3}, '"plane" is 3'),
    "z no integer": ({**polygon(SQUARE), "plane": {"z": "1"}}, "\"z\" is '1'"),
    "ellipse no boolean": ({**polygon(SQUARE), "isEllipse": "yes"}, "\"isEllipse\" is 'yes'"),
    "flat ellipse": ({**polygon([[0, 0], [9, 0], [4, 0], [0, 0]]), "isEllipse": True}, "encloses no area"),
}

NOT_OF_A_NUCLEUS = ("plane no object", "z no integer", "ellipse no boolean")

BAD_PROPERTIES = {
    "class name of 1 MB": ({"classification": {"name": "x" * 2**20}}, "1,048,576 characters"),
    "control characters": ({"classification": {"name": "Tu\nmor"}}, "control characters"),
    "class without name": ({"classification": {"color": [1, 2, 3]}}, "has no name"),
    "class name a number": ({"classification": {"name": 3, "color": [1, 2, 3]}}, "has no name"),
    "parent without name": ({"classification": {"name": "a", "parentClass": {}}}, "has no name"),
    "class a number": ({"classification": 3}, "classification is 3"),
    "colour a text": ({"classification": {"name": "a", "color": "red"}}, "color is 'red'"),
    "colour 300": ({"classification": {"name": "a", "color": [300, 0, 0]}}, "each 0 to 255"),
    "colour of two": ({"classification": {"name": "a", "color": [1, 2]}}, "each 0 to 255"),
    "colour of booleans": ({"classification": {"name": "a", "color": [True, 0, 0]}}, "each 0 to 255"),
    "unknown objectType": ({"objectType": "blob"}, "unknown objectType 'blob'"),
    "objectType a number": ({"objectType": 1}, "unknown objectType 1"),
    "name a number": ({"name": 3}, '"name" is 3'),
    "lock a text": ({"isLocked": "true"}, "\"isLocked\" is 'true'"),
    "measurement a text": ({"measurements": {"a": "1"}}, "measurement 'a' is '1'"),
    "measurement a boolean": ({"measurements": {"a": True}}, "measurement 'a' is True"),
    "measurements a number": ({"measurements": 3}, '"measurements" are 3'),
    "measurements without names": ({"measurements": [{"value": 3}]}, '"measurements" are'),
    "metadata a list": ({"metadata": ["a"]}, '"metadata" is'),
}


def refused(folder, content, error=GeoJSONError, **limits):
    path = folder / "bad.geojson"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error) as caught:
        read_objects(path, **limits)
    message = str(caught.value)
    assert type(caught.value) is error
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert len(message) < 500 + len(str(path)), "no value from outside at full length"
    assert "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_its_reason(tmp_path, case):
    content, fragment = BAD_FILES[case]

    assert fragment in refused(tmp_path, content)


@pytest.mark.parametrize("case", BAD_GEOMETRIES)
def test_a_bad_geometry_is_refused_with_feature_id_name_and_reason(tmp_path, case):
    geometry, fragment = BAD_GEOMETRIES[case]
    bad = {"type": "Feature", "id": UUID_TEXT, "geometry": geometry, "properties": {"name": "my area"}}
    error = ResourceLimit if "vertices" in fragment else GeoJSONError

    message = refused(tmp_path, json.dumps([feature(), bad]), error)

    assert fragment in message
    assert "feature 2 of 2" in message
    assert UUID_TEXT in message
    assert "'my area'" in message


# A nucleus may be absent, and its plane and shape are its cell's.
@pytest.mark.parametrize("case", sorted(BAD_GEOMETRIES.keys() - {"null", *NOT_OF_A_NUCLEUS}))
def test_a_bad_nucleus_is_refused_too(tmp_path, case):
    geometry, fragment = BAD_GEOMETRIES[case]
    cell = {**feature(objectType="cell"), "nucleusGeometry": geometry}
    error = ResourceLimit if "vertices" in fragment else GeoJSONError

    assert fragment in refused(tmp_path, json.dumps([cell]), error)


@pytest.mark.parametrize("case", BAD_PROPERTIES)
def test_bad_properties_are_refused_with_their_reason(tmp_path, case):
    properties, fragment = BAD_PROPERTIES[case]

    message = refused(tmp_path, json.dumps([feature(), feature(**properties)]))

    assert "feature 2 of 2" in message
    assert fragment in message


def test_properties_that_are_no_object_are_refused(tmp_path):
    assert '"properties" is 3' in refused(tmp_path, json.dumps([{**feature(), "properties": 3}]))


def test_a_bad_child_is_refused_with_its_place(tmp_path):
    document = [feature(childObjects=[feature(), feature(name=3)])]

    assert "feature 1 of 1, child 2 of 2" in refused(tmp_path, json.dumps(document))


def test_two_objects_of_one_id_are_refused_and_both_are_named(tmp_path):
    twice = [{**feature(), "id": UUID_TEXT}, {**feature(), "id": UUID_TEXT.upper()}]

    message = refused(tmp_path, json.dumps(twice))

    assert "feature 2 of 2" in message
    assert "feature 1 of 2" in message


def test_a_file_beyond_the_limit_is_refused_before_parsing(tmp_path):
    assert "more than 1,000 bytes" in refused(tmp_path, b"[" * 1001, ResourceLimit, max_bytes=1000)


@pytest.mark.parametrize("pack", [gzip.compress, lambda raw: zipped("a.geojson", raw)], ids=["gzip", "zip"])
def test_a_bomb_is_not_unpacked_beyond_the_limit(tmp_path, pack):
    bomb = pack(b" " * 50_000_000)

    assert "more than 100,000 bytes" in refused(tmp_path, bomb, ResourceLimit, max_bytes=100_000)


def test_an_object_of_a_million_vertices_is_refused(tmp_path):
    geometry = {"type": "MultiPoint", "coordinates": many(1_000_000)}

    assert "1,000,000 vertices, more than 100,000" in refused(tmp_path, one(geometry), ResourceLimit)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**8), 10**8)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
coordinates = st.recursive(
    st.integers(0, 9) | st.floats(-20, 20) | st.booleans(),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=30,
)
rings = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=9).map(
    lambda r: [*r, r[0]]
)
geometries = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"]
        ),
        "coordinates": coordinates | st.lists(rings, max_size=3) | json_values,
    }
)
features = st.fixed_dictionaries(
    {"type": st.just("Feature"), "geometry": geometries | json_values},
    optional={
        "id": json_values,
        "nucleusGeometry": geometries,
        "properties": st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "classification",
                    "objectType",
                    "measurements",
                    "metadata",
                    "isLocked",
                    "childObjects",
                ]
            ),
            json_values,
        ),
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(document=features | st.lists(features, max_size=3) | json_values)
def test_whatever_json_comes_it_is_read_as_valid_objects_or_refused(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("fuzz") / "a.geojson"
    path.write_text(json.dumps(document), encoding="utf-8")

    try:
        objects = read_objects(path)
    except (GeoJSONError, ResourceLimit):
        return

    assert all(obj.geometry.is_valid and not obj.geometry.is_empty for obj in objects)
