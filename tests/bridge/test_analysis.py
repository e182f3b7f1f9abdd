from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from shapely.geometry import Point

from drawn_tissue import ArrayImage, NullNetwork, draw_tissue
from tissuebridge.analysis import Analysis, Cells, write_label_map
from tissuebridge.errors import Conflict
from tissuebridge.objects import ObjectType, is_persons, provenance
from tissuebridge.pipeline import AnalysisOptions, analyse
from tissuemodel.detection import Candidates


def analysed(folder: Path, **options: object) -> Analysis:
    image = ArrayImage(draw_tissue(200, 260, seed=8))
    chosen = AnalysisOptions(run_id="run-1", min_region_area_um2=100, **options)  # type: ignore[arg-type]
    return analyse(image, NullNetwork(), journal_dir=folder, options=chosen)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analysed(tmp_path_factory.mktemp("journal"))


def test_regions_become_annotations_with_class_colour_and_area(found: Analysis) -> None:
    regions = list(found.region_objects())

    assert len(regions) == len(found.regions) > 3
    assert all(obj.object_type is ObjectType.ANNOTATION and obj.name is None for obj in regions)
    assert {obj.class_name for obj in regions} <= {"Tumor", "Stroma", "Empty", "Vessel"}
    assert all(obj.measurements == {"Area µm^2": obj.geometry.area * 0.25} for obj in regions)
    assert min(obj.measurements["Area µm^2"] for obj in regions) >= 100
    tumor = next(obj for obj in regions if obj.class_name == "Tumor")
    assert tumor.path_class is not None
    assert tumor.path_class.color == (200, 0, 0)


def test_cells_become_detections_with_a_score_per_class_and_their_region(found: Analysis) -> None:
    cells = list(found.cell_objects())

    assert len(cells) == len(found.cells) > 50
    for place, obj in enumerate(cells):
        assert obj.object_type is ObjectType.DETECTION
        assert list(obj.measurements) == ["tissuebridge: score Lymphocyte", "tissuebridge: score Mast cell"]
        assert obj.measurements[f"tissuebridge: score {obj.class_name}"] == found.cells.score[place]
        row, col = found.cells.pixels[place]
        region = found.model.region_classes[found.labels[row, col]]
        assert obj.metadata["tissuebridge:region"] == region
        assert obj.geometry.centroid.distance(Point(found.cells.xy[place])) < 1e-6
    widths = {obj.class_name: round(obj.geometry.bounds[2] - obj.geometry.bounds[0], 6) for obj in cells}
    assert widths == {"Lymphocyte": 10.0, "Mast cell": 12.0}


def test_cells_are_points_on_request(tmp_path: Path) -> None:
    cells = list(analysed(tmp_path, cells_as_points=True).cell_objects())

    assert {obj.geometry.geom_type for obj in cells} == {"Point"}


def test_cells_are_the_same_however_many_are_made_at_once(
    found: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = list(found.cell_objects())
    monkeypatch.setattr("tissuebridge.analysis._CHUNK", 7)

    assert list(found.cell_objects()) == at_once


def test_objects_say_who_wrote_them_and_are_no_persons(found: Analysis) -> None:
    for obj in found.objects():
        origin = provenance(obj)
        assert origin is not None
        assert (origin.run, origin.method, origin.model) == ("run-1", "analyse", "null")
        assert not is_persons(obj)


def test_ids_are_unique(found: Analysis) -> None:
    ids = [obj.id for obj in found.objects()]

    assert None not in ids
    assert len(set(ids)) == len(ids)


def test_objects_do_not_depend_on_tile_size_batch_size_or_run(found: Analysis, tmp_path: Path) -> None:
    other = replace(analysed(tmp_path, tile_size=64, batch_size=3), run_id="run-2")

    pairs = list(zip(other.objects(), found.objects(), strict=True))

    for mine, theirs in pairs:
        assert (mine.id, mine.path_class, mine.object_type) == (
            theirs.id,
            theirs.path_class,
            theirs.object_type,
        )
        assert mine.geometry.equals_exact(theirs.geometry, 1e-4)  # scores and places agree to rounding
        assert mine.measurements == pytest.approx(theirs.measurements, abs=1e-4)
    assert {obj.metadata["tissuebridge:run"] for obj, _ in pairs} == {"run-2"}


def test_the_same_analysis_gives_identical_objects(found: Analysis, tmp_path: Path) -> None:
    assert list(analysed(tmp_path).objects()) == list(found.objects())


@pytest.mark.parametrize(
    "change",
    [
        lambda found: replace(found, image=replace(found.image, name="other.tif")),
        lambda found: replace(found, model=replace(found.model, digest="another")),
        lambda found: replace(found, model=replace(found.model, thresholds=(0.4, 0.4))),
    ],
)
def test_image_model_and_parameters_decide_the_ids(found: Analysis, change: object) -> None:
    changed = change(found)  # type: ignore[operator]

    assert {obj.id for obj in found.objects()}.isdisjoint(obj.id for obj in changed.objects())


def test_ids_stay_what_they_were_in_the_first_release(found: Analysis) -> None:
    # A person's project holds objects with these ids: a change would duplicate them.
    cell = Candidates(
        np.array([[3, 4]], np.int32), np.ones((1, 2)), np.zeros(1, np.uint8), np.ones((1, 2), np.float32)
    )
    one = Cells(cell.xy, cell.class_index, cell.score, cell.scores, cell.class_index, cell.pixels)

    [obj] = replace(found, cells=one).cell_objects()

    assert str(obj.id) == "7153cf4b-d311-563d-942f-b85fd1046341"
    assert found.image.key() == "drawn.tif|0||260|200|0.5000"


def test_the_label_map_is_read_back_with_its_pixel_size_and_the_same_bytes(
    found: Analysis, tmp_path: Path
) -> None:
    write_label_map(tmp_path / "a.tif", found)
    write_label_map(tmp_path / "b.tif", found)

    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert np.array_equal(page.asarray(), found.labels)
        assert page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] == pytest.approx(20_000)
        assert page.is_tiled
        assert '"Tumor"' in page.description
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize("content", [b"notes", b"II*\x00", None])
def test_a_persons_file_of_the_label_maps_name_stays(
    found: Analysis, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "a.labels.tif"
    if content is None:
        tifffile.imwrite(path, np.zeros((4, 4), np.uint8))
    else:
        path.write_bytes(content)
    before = path.read_bytes()

    with pytest.raises(Conflict, match="not written by tissuebridge"):
        write_label_map(path, found)

    assert path.read_bytes() == before


def test_our_own_label_map_is_replaced(found: Analysis, tmp_path: Path) -> None:
    for _again in range(2):
        write_label_map(tmp_path / "a.labels.tif", found)

    assert tifffile.imread(tmp_path / "a.labels.tif").shape == found.labels.shape
