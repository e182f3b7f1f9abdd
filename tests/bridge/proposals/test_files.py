"""Proposals as files: proposing again touches nothing that a person said, and accepted ones are what trains."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import skimage.data
from shapely.geometry import box

from drawn_tissue import NullNetwork
from tissuebridge.analysis import Analysis
from tissuebridge.errors import Conflict, UsageError
from tissuebridge.evaluation import evaluate
from tissuebridge.geojson import read_objects, write_objects
from tissuebridge.geojson_write import about_of
from tissuebridge.objects import ObjectType, PathClass, PathObject, is_persons
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.project.folder import FolderProject, open_image
from tissuebridge.proposals.files import check_proposals_file, review, write_proposals
from tissuebridge.proposals.propose import propose_cells, propose_regions
from tissuebridge.proposals.review import Decision, decided, proposed_name, state_of
from tissuebridge.proposals.settings import CellSettings, ProposalSettings, RegionSettings
from tissuebridge.report.overlay import save_png
from tissuebridge.training_set import build_training_set

NONE: frozenset[str] = frozenset()
ACCEPT = Decision(
    {"Positive": PathClass("Epithelial nucleus"), "colour 1": PathClass("Stroma")}, NONE, NONE, "2026-01-31"
)
REJECT = Decision({}, frozenset(("Negative",)), NONE, "2026-01-31")


@pytest.fixture
def project(tmp_path: Path) -> FolderProject:
    save_png(tmp_path / "ihc.png", skimage.data.immunohistochemistry()[:260, :300])
    (tmp_path / "annotations").mkdir()
    return FolderProject(tmp_path, 0.5)


def place_of(project: FolderProject) -> Path:
    return project.path / "proposals" / "ihc.geojson"


def propose(project: FolderProject, *, regions: bool = True, cells: bool = True) -> list[PathObject]:
    """Proposes into the project's own place; returns what is new."""
    (image,) = FolderProject(project.path, 0.5).images
    found: list[Analysis] = []
    run, journal = AnalysisOptions(), project.path / "journal"
    if regions:
        found.append(propose_regions(image, RegionSettings(), journal_dir=journal / "r", options=run))
    if cells:
        settings = CellSettings(stains=("Hematoxylin", "DAB"))
        found.append(propose_cells(image, settings, journal_dir=journal / "c", options=run))
    return write_proposals(place_of(project), image, found)


def rewrite(project: FolderProject, objects: list[PathObject]) -> None:
    write_objects(place_of(project), objects, about=about_of(place_of(project)))


def kinds(objects: list[PathObject]) -> dict[str, int]:
    return dict(Counter(state_of(obj) for obj in objects if proposed_name(obj) is not None))


def test_a_proposal_is_read_with_the_image_and_teaches_nothing(project: FolderProject) -> None:
    new = propose(project)

    (image,) = FolderProject(project.path, 0.5).images
    objects = list(image.objects())

    assert [obj.id for obj in objects] == [obj.id for obj in new]
    assert not any(map(is_persons, objects))
    assert place_of(project) in image.files
    settings = ProposalSettings.read(place_of(project).with_suffix(".toml"))
    assert settings.regions is not None
    assert settings.cells is not None
    assert settings.cells.thresholds["DAB"] > 0


def test_an_image_alone_has_the_annotations_and_proposals_of_its_project(tmp_path: Path) -> None:
    save_png(tmp_path / "images" / "ihc.png", skimage.data.immunohistochemistry()[:60, :60])
    write_objects(tmp_path / "annotations" / "ihc.geojson", [])

    (alone,) = open_image(tmp_path / "images" / "ihc.png", 0.5).images
    (together,) = FolderProject(tmp_path, 0.5).images

    assert (alone.annotations, alone.proposals) == (together.annotations, together.proposals)
    assert alone.annotations is not None


def test_accepted_ones_train_and_rejected_ones_are_hard_negatives(project: FolderProject) -> None:
    propose(project)
    review(place_of(project).parent, ACCEPT)
    counts = review(place_of(project).parent, REJECT)

    built = build_training_set(FolderProject(project.path, 0.5))

    accepted = kinds(read_objects(place_of(project)))["accepted"]
    assert built.classes.labels.cells == ("Epithelial nucleus",)
    assert built.classes.labels.regions == ("Stroma",)
    cell = built.summary.cells["Epithelial nucleus"]
    assert 20 < cell.marked < accepted
    assert cell.hard_negatives == sum(counts["ihc"].values()) > 5


def test_proposing_again_changes_nothing_without_a_persons_word(project: FolderProject) -> None:
    first = propose(project)

    again = propose(project)

    assert [obj.id for obj in again] == [obj.id for obj in first]
    assert len(read_objects(place_of(project))) == len(first)


def test_proposing_again_never_touches_what_a_person_said(project: FolderProject) -> None:
    objects = {obj.id: obj for obj in propose(project)}
    nuclei = [obj for obj in objects.values() if obj.object_type is ObjectType.DETECTION]
    said = [
        decided(nuclei[0], replace(ACCEPT, accept={"Positive": PathClass("T"), "Negative": PathClass("T")})),
        decided(nuclei[1], replace(REJECT, reject=frozenset(("Positive", "Negative")))),
        replace(nuclei[2], path_class=PathClass("Mast cell")),
        replace(nuclei[3], geometry=shapely.affinity.translate(nuclei[3].geometry, 40, 0)),
        replace(nuclei[4], is_locked=True),
    ]
    changed = {obj.id: obj for obj in said}
    rewrite(project, [changed.get(obj.id, obj) for obj in objects.values()])
    before = {obj.id: obj for obj in read_objects(place_of(project)) if obj.id in changed}

    propose(project, regions=False)

    after = read_objects(place_of(project))
    assert {obj.id: obj for obj in after if obj.id in changed} == before
    assert len({obj.id for obj in after}) == len(after)
    # Where something is settled, nothing is proposed once more.
    centre = nuclei[0].geometry.centroid
    assert sum(obj.geometry.contains(centre) and state_of(obj) == "proposed" for obj in after if
               obj.object_type is ObjectType.DETECTION) <= 1  # fmt: skip


def test_proposing_regions_alone_leaves_nuclei_alone(project: FolderProject) -> None:
    propose(project)
    before = [obj for obj in read_objects(place_of(project)) if obj.object_type is ObjectType.DETECTION]

    new = propose(project, cells=False)

    after = [obj for obj in read_objects(place_of(project)) if obj.object_type is ObjectType.DETECTION]
    assert after == before
    assert all(obj.object_type is ObjectType.ANNOTATION for obj in new)


def test_parameters_of_the_other_method_stay_with_its_proposals(project: FolderProject) -> None:
    propose(project, cells=False)
    regions = ProposalSettings.read(place_of(project).with_suffix(".toml")).regions

    propose(project, regions=False)

    both = ProposalSettings.read(place_of(project).with_suffix(".toml"))
    assert both.regions == regions is not None
    assert both.cells is not None
    assert (about_of(place_of(project)) or {})["parameters"] == both.as_text()


def test_a_network_is_measured_against_accepted_proposals_only(project: FolderProject) -> None:
    network = NullNetwork()
    tumor = PathObject(box(0, 0, 80, 60), path_class=PathClass("Tumor"))
    write_objects(project.path / "annotations" / "ihc.geojson", [tumor])
    before = evaluate(FolderProject(project.path, 0.5), network)

    propose(project, cells=False)
    proposed = evaluate(FolderProject(project.path, 0.5), network)
    review(place_of(project).parent, replace(ACCEPT, accept={"colour 1": PathClass("Stroma")}))
    accepted = evaluate(FolderProject(project.path, 0.5), network)

    assert (proposed["regions"], proposed["images"]) == (before["regions"], before["images"])
    assert accepted["images"] != before["images"]


def test_nothing_is_proposed_where_a_person_drew(project: FolderProject) -> None:
    tumor = PathObject(box(0, 0, 300, 130), path_class=PathClass("Tumor"))
    write_objects(project.path / "annotations" / "ihc.geojson", [tumor])

    new = propose(project, cells=False)

    assert new
    assert max(shapely.area(shapely.intersection(obj.geometry, tumor.geometry)) for obj in new) == 0


def test_reviewed_in_qupath_counts_instead_of_the_file(project: FolderProject) -> None:
    new = propose(project)
    kept = [
        replace(obj, path_class=PathClass("Stroma")) for obj in new if "colour 1" in (obj.class_name or "")
    ]
    write_objects(project.path / "annotations" / "ihc.geojson", kept)

    (image,) = FolderProject(project.path, 0.5).images

    assert [obj.class_name for obj in image.objects()] == ["Stroma"] * len(kept)


def test_a_file_that_went_through_qupath_or_is_a_persons_stays(project: FolderProject) -> None:
    propose(project)
    exported = json.loads(place_of(project).read_bytes())
    del exported["tissuebridge"]
    place_of(project).write_text(json.dumps(exported), encoding="utf-8")
    before = place_of(project).read_bytes()

    for do in (lambda: propose(project), lambda: review(place_of(project).parent, ACCEPT)):
        with pytest.raises(Conflict, match="Move it to the image's annotations"):
            do()

    assert place_of(project).read_bytes() == before


def test_an_analysis_of_that_name_is_no_proposal(tmp_path: Path) -> None:
    write_objects(tmp_path / "a.geojson", [], about={"method": "analyse"})

    with pytest.raises(Conflict, match="not as `propose` wrote it"):
        check_proposals_file(tmp_path / "a.geojson")


@pytest.mark.parametrize(
    ("decision", "images", "told"),
    [
        (replace(ACCEPT, accept={"colour 99": PathClass("X")}), "*", "nothing is proposed as 'colour 99'"),
        (ACCEPT, "other*", "no proposals of images 'other\\*'"),
    ],
)
def test_what_is_not_there_is_not_accepted(
    project: FolderProject, decision: Decision, images: str, told: str
) -> None:
    propose(project)
    before = place_of(project).read_bytes()

    with pytest.raises(UsageError, match=told):
        review(place_of(project).parent, decision, images)

    assert place_of(project).read_bytes() == before


def test_undo_brings_back_the_bytes_of_every_object(project: FolderProject) -> None:
    propose(project)
    before = read_objects(place_of(project))
    review(place_of(project).parent, ACCEPT)

    review(place_of(project).parent, Decision({}, NONE, frozenset(("Positive", "colour 1")), "2026-02-01"))

    after = read_objects(place_of(project))
    assert [obj.metadata for obj in after] == [obj.metadata for obj in before]
    assert [obj.class_name for obj in after] == [obj.class_name for obj in before]
    assert np.all([a.geometry.equals(b.geometry) for a, b in zip(after, before, strict=True)])
