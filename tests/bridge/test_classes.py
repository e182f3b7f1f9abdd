"""Classes are regions or cells by where they stand, unless a class map says it."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import shapely

from tissuebridge.classes import ClassCount, ClassMap, renamed, resolve_classes, summarise
from tissuebridge.errors import AnnotationError, UsageError
from tissuebridge.geojson import read_objects, write_objects
from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, is_persons, with_provenance

RUN = Provenance("run 1", "analyse", "model", "digest", "0.1")


def drawn(name, geometry=None, kind=ObjectType.ANNOTATION, color=None):
    geometry = geometry or shapely.box(0, 0, 10, 10)
    return PathObject(geometry, kind, path_class=PathClass(name, color) if name else None)


def dotted(name, count=1):
    return drawn(name, shapely.MultiPoint([(i, 1) for i in range(count)]))


def class_map(folder: Path, text: str) -> ClassMap:
    (folder / "classes.toml").write_text(text, encoding="utf-8")
    return ClassMap.load(folder / "classes.toml")


def test_a_class_is_a_region_on_areas_and_a_cell_on_points_detections_and_cells():
    objects = [
        drawn("Tumor"),
        drawn("Stroma", color=(1, 2, 3)),
        dotted("CD3", 5),
        drawn("NK", kind=ObjectType.DETECTION),
        drawn("Immune: Mast", kind=ObjectType.CELL),
    ]

    classes = resolve_classes({"a": objects})

    assert classes.regions == ("Stroma", "Tumor")
    assert classes.cells == ("CD3", "Immune: Mast", "NK")
    assert classes.colors["Stroma"] == (1, 2, 3)
    assert set(classes.colors) == {*classes.regions, *classes.cells}
    assert not classes.explicit_priority
    assert classes.labels.regions == classes.regions


def test_reserved_classes_lines_and_tiles_are_no_classes():
    objects = [drawn(name) for name in ("Ignore*", "Cells marked*", "Not a cell*", "Region*")]
    objects += [drawn("Line", shapely.LineString([(0, 0), (1, 1)])), drawn("Tile", kind=ObjectType.TILE)]

    classes = resolve_classes({"a": [*objects, dotted("Not a cell*")]})

    assert classes.regions == classes.cells == ()


def test_a_class_on_both_is_refused_with_counts_images_and_the_cure():
    objects = {"one": [drawn("CD3"), drawn("Tumor")], "two": [dotted("CD3", 7)]}

    with pytest.raises(AnnotationError) as caught:
        resolve_classes(objects)

    assert "'CD3' on 1 areas and 7 points or cells (one, two)" in str(caught.value)
    assert "--classes" in str(caught.value)
    assert "Tumor" not in str(caught.value)


@pytest.mark.parametrize(
    ("role", "regions", "cells"),
    [("region", ("CD3",), ()), ("cell", (), ("CD3",)), ("both", ("CD3",), ("CD3",)), ("none", (), ())],
)
def test_a_role_decides(tmp_path, role, regions, cells):
    told = class_map(tmp_path, f'[roles]\n"CD3" = "{role}"')

    classes = resolve_classes({"a": [drawn("CD3"), dotted("CD3")]}, told)

    assert (classes.regions, classes.cells) == (regions, cells)


def test_priorities_come_first_and_the_rest_by_name(tmp_path):
    told = class_map(tmp_path, 'priority = ["Tumor", "Necrosis"]')

    classes = resolve_classes({"a": [drawn(name) for name in ("Vessel", "Necrosis", "Air", "Tumor")]}, told)

    assert classes.regions == ("Tumor", "Necrosis", "Air", "Vessel")
    assert classes.explicit_priority


def test_aliases_are_one_class(tmp_path):
    told = class_map(tmp_path, '[aliases]\n"tumour" = "Tumor"\n"Artefact" = "Ignore*"')

    classes = resolve_classes({"a": [drawn("tumour"), drawn("Tumor"), drawn("Artefact")]}, told)

    assert classes.regions == ("Tumor",)


def test_a_class_of_the_map_that_nobody_drew_is_said(tmp_path, caplog):
    told = class_map(tmp_path, '[roles]\n"Tumour" = "region"')

    with caplog.at_level(logging.WARNING):
        resolve_classes({"a": [drawn("Tumor")]}, told)

    assert "'Tumour', which nothing is annotated with" in caplog.text


def test_objects_without_a_class_are_counted_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        classes = resolve_classes({"a": [drawn(None), drawn("Tumor")], "b": [drawn("Tumor")]})

    assert classes.regions == ("Tumor",)
    assert "1 objects without a class are left out, in a" in caplog.text


def test_what_a_run_wrote_makes_no_class_until_accepted_through_geojson(tmp_path):
    ours = with_provenance(drawn("Necrosis"), RUN)
    accepted = with_provenance(drawn("Vessel"), replace(RUN, accepted="2026-11-23"))
    write_objects(tmp_path / "a.geojson", [ours, accepted, drawn("Tumor")], about={})

    classes = resolve_classes({"a": read_objects(tmp_path / "a.geojson")})

    assert classes.regions == ("Tumor", "Vessel")


def test_renaming_does_not_make_ours_or_a_proposal_look_like_a_persons(tmp_path):
    told = ClassMap(aliases={"tumour": "Tumor", "Proposed: colour 1": "Tumor"})
    ours = with_provenance(drawn("tumour"), RUN)

    objects = renamed([ours, drawn("Proposed: colour 1"), drawn("tumour"), drawn(None)], told)

    assert [is_persons(obj) for obj in objects] == [False, False, True, True]
    assert objects[2].class_name == "Tumor"


def test_counts_tell_whose_objects_they_are():
    objects = [
        drawn("Tumor"),
        dotted("CD3", 4),
        drawn("CD3", kind=ObjectType.DETECTION),
        with_provenance(drawn("CD3", kind=ObjectType.DETECTION), RUN),
        drawn("Proposed: colour 1"),
        drawn(None),
        drawn("Tumor", shapely.LineString([(0, 0), (1, 1)])),
    ]

    counts = summarise(objects)

    assert counts.classes == {"CD3": ClassCount(cells=5, ours=1), "Tumor": ClassCount(areas=1, others=1)}
    assert counts.unclassified == counts.proposals == 1
    assert "1 proposed and not accepted" in counts.table()


def test_no_objects_are_no_classes_and_no_error():
    assert resolve_classes({}).regions == ()
    assert resolve_classes({"a": []}).labels.cells == ()


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("priority = ", "not TOML"),
        ("tumour = Tumor", "not TOML"),
        ('"a" = "b"', "unknown key 'a'"),
        ('priority = "Tumor"', "no list"),
        ("priority = [1]", "no list"),
        ('priority = ["A", "A"]', "names 'A' twice"),
        ('roles = "x"', "[roles] is no table"),
        ('[roles]\n"A" = 1', "[roles] is no table"),
        ('[roles]\n"A" = "area"', "the role of 'A' is 'area'"),
        ('[roles]\n"A" = "cell"\n"A" = "region"', "not TOML"),
        ('[aliases]\n"a" = "A"\n[roles]\n"a" = "cell"', "'a' is an alias of 'A'"),
        ('[aliases]\n"a" = "b"\n"b" = "c"', "'b' is an alias of 'c'"),
        ('[aliases]\n"Ignore*" = "A"', "'Ignore*' has a fixed meaning"),
        ('[roles]\n"Proposed: x" = "region"', "has a fixed meaning"),
    ],
)
def test_a_bad_class_map_is_refused_with_file_and_cure(tmp_path, text, fragment):
    with pytest.raises(UsageError, match=r"classes\.toml: ") as caught:
        class_map(tmp_path, text)

    assert fragment in str(caught.value)


def test_a_class_map_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "classes.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(UsageError, match="not TOML"):
        ClassMap.load(tmp_path / "classes.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        ClassMap.load(tmp_path / "absent.toml")
