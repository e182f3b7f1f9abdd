"""QuPath GeoJSON out, and back in: nothing changes but to the nearest 1/16 px, and no person's file is touched."""

import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import hypothesis.strategies as st
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings

from tissuebridge.errors import Conflict, GeoJSONError, StorageError
from tissuebridge.geojson import about_of, read_objects, write_objects
from tissuebridge.objects import (
    ObjectType,
    PathClass,
    PathObject,
    Plane,
    Provenance,
    is_persons,
    object_digest,
    with_provenance,
)

RUN = Provenance("run 1", "analyse", "model", "digest", "0.1")
DISC = shapely.Point(100.3, 200.7).buffer(7.3)
with np.errstate(invalid="ignore"):
    NAN_LINE = shapely.LineString([(0, 0), (float("nan"), 1)])


def written(folder: Path, objects, about=None):
    path = folder / "a.geojson"
    write_objects(path, objects, about=about)
    return json.loads(path.read_text(encoding="utf-8"))


def round_trip(folder: Path, objects):
    write_objects(folder / "a.geojson", objects, about={})
    return read_objects(folder / "a.geojson")


grid = st.integers(-16_000, 1_600_000).map(lambda n: n / 16)
text = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)
points = st.tuples(grid, grid).map(shapely.Point)
boxes = st.tuples(grid, grid, st.integers(1, 99), st.integers(1, 99)).map(
    lambda b: shapely.box(b[0], b[1], b[0] + b[2], b[1] + b[3])
)
outlines = st.one_of(
    points,
    st.lists(points, min_size=2, max_size=5).map(shapely.MultiPoint),
    st.lists(st.tuples(grid, grid), min_size=2, max_size=5).map(shapely.LineString),
    boxes,
    st.tuples(boxes, boxes).map(lambda pair: shapely.union(*pair)),
    boxes.map(lambda b: b.difference(b.centroid.buffer(0.3, quad_segs=1))).map(
        lambda g: shapely.set_precision(g, 1 / 16)
    ),
)
objects = st.builds(
    PathObject,
    geometry=outlines,
    object_type=st.sampled_from(ObjectType),
    id=st.uuids(),
    path_class=st.none()
    | st.builds(
        PathClass,
        st.lists(text.map(lambda t: t.replace(":", "-").strip() or "x"), min_size=1, max_size=3).map(
            ": ".join
        ),
        st.tuples(*[st.integers(0, 255)] * 3),
    ),
    name=st.none() | text,
    nucleus=st.none() | boxes,
    measurements=st.dictionaries(text, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    metadata=st.dictionaries(text, text, max_size=3),
    is_locked=st.booleans(),
    plane=st.builds(Plane, st.just(-1), st.integers(0, 9), st.integers(0, 9)),
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(given_objects=st.lists(objects, max_size=6, unique_by=lambda obj: obj.id))
def test_objects_on_the_grid_come_back_as_they_were(tmp_path_factory, given_objects):
    back = round_trip(tmp_path_factory.mktemp("trip"), given_objects)

    assert back == [replace(obj, geometry=new.geometry) for obj, new in zip(given_objects, back, strict=True)]
    assert all(new.geometry.equals_exact(obj.geometry) for obj, new in zip(given_objects, back, strict=True))


def test_coordinates_are_multiples_of_a_sixteenth_and_rings_are_closed(tmp_path):
    ring = np.array(written(tmp_path, [PathObject(DISC)])["features"][0]["geometry"]["coordinates"][0])

    assert np.array_equal(ring * 16, np.round(ring * 16))
    assert np.array_equal(ring[0], ring[-1])
    assert np.abs(ring - DISC.exterior.coords).max() <= 1 / 32


def test_writing_what_was_read_gives_the_same_bytes(tmp_path):
    first, second = tmp_path / "a.geojson", tmp_path / "b.geojson"
    write_objects(first, [PathObject(DISC, path_class=PathClass("Tumor"), name="µ")], about={"run": "1"})

    write_objects(second, read_objects(first), about=about_of(first))

    assert first.read_bytes() == second.read_bytes()


def test_each_class_has_a_colour_and_a_derived_one_its_names(tmp_path):
    plain, derived = (
        PathObject(DISC, path_class=PathClass("Tumor", (1, 2, 3))),
        PathObject(DISC, path_class=PathClass("Immune: CD3")),
    )

    first, second = (
        f["properties"]["classification"] for f in written(tmp_path, [plain, derived])["features"]
    )

    assert first == {"name": "Tumor", "color": [1, 2, 3]}
    assert second["names"] == ["Immune", "CD3"]
    assert len(second["color"]) == 3


def test_what_is_as_usual_is_not_written(tmp_path):
    (feature,) = written(tmp_path, [PathObject(DISC)])["features"]

    assert feature["properties"] == {"objectType": "annotation"}
    assert feature["geometry"].keys() == {"type", "coordinates"}


def test_plane_ellipse_lock_and_nucleus_are_written_where_qupath_reads_them(tmp_path):
    cell = PathObject(
        DISC, ObjectType.CELL, nucleus=DISC.buffer(-3), is_locked=True, is_ellipse=True, plane=Plane(-1, 2, 0)
    )

    (feature,) = written(tmp_path, [cell])["features"]

    assert feature["geometry"]["plane"] == feature["nucleusGeometry"]["plane"] == {"c": -1, "z": 2, "t": 0}
    assert feature["geometry"]["isEllipse"] is True
    assert feature["properties"]["isLocked"] is True


def test_an_object_without_an_id_gets_the_same_new_one_each_time(tmp_path):
    one, other = [PathObject(DISC), PathObject(DISC)], [PathObject(DISC), PathObject(DISC)]

    ids = [obj.id for obj in round_trip(tmp_path, one)]

    assert len(set(ids)) == 2
    assert [obj.id for obj in round_trip(tmp_path, other)] == ids


def test_an_outline_that_rounding_would_break_is_snapped_and_stays_ours(tmp_path):
    # Two lobes joined by a neck narrower than the grid: plain rounding makes its sides cross or touch.
    neck = shapely.Polygon(
        [
            (0, 0),
            (10, 0),
            (10, 4.97),
            (20, 5.0),
            (20, 0),
            (30, 0),
            (30, 10),
            (20, 10),
            (20, 5.02),
            (10, 5.01),
            (10, 10),
            (0, 10),
        ]
    )
    ours = with_provenance(PathObject(neck), RUN)

    (back,) = round_trip(tmp_path, [ours])

    assert not shapely.transform(neck, lambda xy: np.round(xy * 16) / 16).is_valid
    assert back.geometry.is_valid
    assert back.geometry.symmetric_difference(neck).area < 1
    assert not is_persons(back)
    assert back.metadata["tissuebridge:digest"] != ours.metadata["tissuebridge:digest"]


def test_an_outline_too_small_for_the_grid_is_kept_as_it_is(tmp_path):
    tiny = shapely.box(0.01, 0.01, 0.02, 0.02)

    (back,) = round_trip(tmp_path, [PathObject(tiny)])

    assert back.geometry.equals(tiny)


@pytest.mark.parametrize(
    ("broken", "fragment"),
    [
        (PathObject(DISC, measurements={"a": float("nan")}), "a measurement is NaN"),
        (PathObject(DISC, measurements={"a": float("inf")}), "a measurement is NaN or infinite"),
        (PathObject(shapely.Point(float("nan"), 1)), "coordinate is NaN"),
        (PathObject(NAN_LINE), "coordinate is NaN"),
        (PathObject(shapely.Point(1e8, 1)), "beyond 10000000"),
        (PathObject(shapely.Polygon()), "QuPath has no object for"),
        (PathObject(shapely.GeometryCollection([DISC])), "QuPath has no object for"),
        (PathObject(DISC.exterior), "QuPath has no object for"),
        (PathObject(shapely.Polygon([(0, 0), (9, 0), (5, 0)])), "encloses no area"),
        (PathObject(DISC, id=UUID(int=2), name="\ud800"), "not JSON"),
        (PathObject(DISC, id=UUID(int=1)), "is written twice"),
    ],
)
def test_what_qupath_could_not_import_is_refused_and_nothing_is_left(tmp_path, broken, fragment):
    with pytest.raises(GeoJSONError, match=r"a\.geojson: object 2: ") as caught:
        written(tmp_path, [PathObject(DISC, id=UUID(int=1)), broken])

    assert fragment in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.geojson"
    write_objects(path, [PathObject(DISC)], about={"run": "old"})
    before = path.read_bytes()

    def failing():
        yield from (PathObject(DISC) for _ in range(10_000))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_objects(path, failing(), about={"run": "new"})

    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.geojson"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(StorageError, match="cannot be written"):
        write_objects(tmp_path / "file" / "a.geojson", [])


@pytest.mark.parametrize("content", ["", "{}", '{"type":"FeatureCollection","features":[\n\n]}', "[1,2"])
def test_a_persons_file_is_never_overwritten(tmp_path, content):
    path = tmp_path / "a.geojson"
    path.write_text(content)

    with pytest.raises(Conflict, match=r"a\.geojson: not written by tissuebridge"):
        write_objects(path, [PathObject(DISC)], about={})

    assert path.read_text() == content


def test_our_own_file_is_replaced_and_says_which_run_wrote_it(tmp_path):
    path = tmp_path / "a.geojson"
    write_objects(path, [PathObject(DISC)], about={"run": "1"})
    write_objects(path, [], about={"run": "2", "model": "µ"})

    assert about_of(path) == {"run": "2", "model": "µ"}
    assert read_objects(path) == []


@pytest.mark.parametrize("about", [{"a": {1, 2}}, {"a": "x" * 2**20}])
def test_what_cannot_be_said_of_a_run_is_refused(tmp_path, about):
    with pytest.raises(GeoJSONError, match=r"a\.geojson: what to say of the run"):
        written(tmp_path, [], about)


def test_a_missing_file_says_nothing(tmp_path):
    assert about_of(tmp_path / "a.geojson") is None


def as_qupath_exports(document):
    """What import to and export from QuPath does: float32, two decimals, another start, no mark on the file."""
    del document["tissuebridge"]
    for feature in document["features"]:
        ring = np.array(feature["geometry"]["coordinates"][0], dtype=np.float32)[:-1]
        ring = np.roll(ring, 3, axis=0)[::-1]
        feature["geometry"]["coordinates"] = [np.round([*ring, ring[0]], 2).astype(float).tolist()]
    return document


def test_what_a_run_wrote_is_no_training_data_until_a_person_accepts_or_edits_it(tmp_path):
    centres = np.random.default_rng(0).uniform(0, 200_000, (50, 2))
    ours = [
        with_provenance(
            PathObject(shapely.Point(c).buffer(7.3), ObjectType.DETECTION, uuid4(), PathClass("CD3")), RUN
        )
        for c in centres
    ]
    document = as_qupath_exports(written(tmp_path, ours, {"run": "run 1"}))
    document["features"][1]["properties"]["metadata"]["tissuebridge:accepted"] = "2026-11-23"
    document["features"][2]["properties"]["classification"]["name"] = "NK"
    document["features"][3]["properties"]["name"] = "looked at"
    document["features"][4]["geometry"]["coordinates"][0][1][0] += 0.5
    document["features"][5]["properties"]["isLocked"] = True
    document["features"].append({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}})
    path = tmp_path / "exported.geojson"
    path.write_text(json.dumps(document))

    objects = read_objects(path)

    assert [index for index, obj in enumerate(objects) if is_persons(obj)] == [1, 2, 3, 4, 50]


def test_an_object_is_not_edited_by_what_qupath_does_to_outlines_in_passing(tmp_path):
    straight = shapely.box(0, 0, 40, 40).segmentize(4)
    ellipse = PathObject(DISC, is_ellipse=True)

    assert object_digest(PathObject(straight)) == object_digest(PathObject(shapely.box(0, 0, 40, 40)))
    assert object_digest(ellipse) == object_digest(replace(ellipse, geometry=shapely.box(*DISC.bounds)))
    assert object_digest(ellipse) == object_digest(round_trip(tmp_path, [ellipse])[0])
