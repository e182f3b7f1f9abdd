import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import box

from drawn_tissue import CELL_COLORS, TISSUE_COLORS, ArrayImage, NullNetwork, colours_of, draw_tissue
from tissuebridge.analysis import Analysis
from tissuebridge.errors import AnnotationError, Cancelled, ImageError, ModelError, UsageError
from tissuebridge.objects import PathClass, PathObject, Provenance, with_provenance
from tissuebridge.pipeline import AnalysisOptions, analyse
from tissuebridge.predictor.base import Prediction
from tissuemodel.labels import IGNORE_LABEL

SMALL = AnalysisOptions(tile_size=96, batch_size=2)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return draw_tissue(250, 330, seed=4)


def same(first: Analysis, second: Analysis) -> bool:
    return (
        np.array_equal(first.labels, second.labels)
        and np.array_equal(first.cells.pixels, second.cells.pixels)
        and np.array_equal(first.cells.scores, second.cells.scores)
        and first.summary == second.summary
    )


def reader_is_gone() -> bool:
    return all(thread.name != "tissuebridge reader" for thread in threading.enumerate())


def test_a_drawn_cell_and_a_drawn_region_are_found_where_they_are(tmp_path: Path) -> None:
    canvas = np.full((200, 240, 3), TISSUE_COLORS[1], np.uint8)
    canvas[40:120, 60:200] = TISSUE_COLORS[0]
    rows, cols = np.mgrid[:200, :240]
    canvas[(rows + 0.5 - 81) ** 2 + (cols + 0.5 - 131) ** 2 <= 16] = CELL_COLORS[1]
    # Twice as fine as the model's grid.
    image = ArrayImage(canvas.repeat(2, axis=0).repeat(2, axis=1), pixel_size_um=0.25)

    found = analyse(image, NullNetwork(reach=16), journal_dir=tmp_path)

    assert found.labels.shape == (200, 240)
    assert found.downsample == 2.0
    assert found.summary.cells == {"Lymphocyte": 0, "Mast cell": 1}
    assert found.cells.xy[0] == pytest.approx((262, 162), abs=0.5)
    assert found.cells.region_index.tolist() == [0]
    tumor = next(region for region in found.regions if region.class_index == 0)
    drawn = box(120, 80, 400, 240)
    assert tumor.polygon.intersection(drawn).area / tumor.polygon.union(drawn).area > 0.9


def test_progress_counts_tiles_up_to_all(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    analyse(
        ArrayImage(pixels),
        NullNetwork(),
        journal_dir=tmp_path,
        options=SMALL,
        progress=lambda done, total: steps.append((done, total)),
    )

    assert steps[0] == (0, 12)
    assert steps[-1] == (12, 12)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_cancelled_analysis_stops_before_the_next_call_and_goes_on_later(
    pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    image, first, second = ArrayImage(pixels), NullNetwork(), NullNetwork()
    whole = analyse(image, NullNetwork(), journal_dir=tmp_path / "whole", options=SMALL)

    with pytest.raises(Cancelled, match="drawn: stopped after 6 of 12 tiles; run again"):
        analyse(
            image,
            first,
            journal_dir=tmp_path / "a",
            options=SMALL,
            cancelled=lambda: sum_of_tiles(first) >= 6,
        )
    resumed = analyse(image, second, journal_dir=tmp_path / "a", options=SMALL)

    assert image.is_closed
    assert reader_is_gone()
    assert sum_of_tiles(second) == 8  # the strip of four that was finished is not computed again
    assert same(resumed, whole)


def sum_of_tiles(network: NullNetwork) -> int:
    return sum(shape[0] for shape in network.shapes)


def test_a_finished_journal_needs_no_network_even_for_other_thresholds(
    pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    image, again = ArrayImage(pixels), NullNetwork()
    before = analyse(image, NullNetwork(), journal_dir=tmp_path, options=SMALL)
    again.description = replace(again.description, thresholds=(0.7, 0.7))

    after = analyse(image, again, journal_dir=tmp_path, options=SMALL)

    assert again.calls == 0
    assert 0 < len(after.cells) < len(before.cells)
    assert after.cells.score.min() >= np.float32(0.7)


class BadNetwork(NullNetwork):
    """Gives one number that is none, in the second tile of its second batch."""

    def __init__(self, value: float, task: str) -> None:
        super().__init__()
        self.value, self.task = value, task

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        prediction = super().predict(tiles)
        if self.calls == 2:
            getattr(prediction, self.task)[1, 0, 20, 20] = self.value
        return prediction


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", ["heat", "logits"])
def test_numbers_that_are_none_name_image_and_tile_and_are_not_kept(
    tmp_path: Path, value: float, task: str
) -> None:
    image, network = ArrayImage(draw_tissue(100, 500, seed=2)), BadNetwork(value, task)
    message = "drawn, tile at row 0, column 192 of the model's grid: model null gave NaN or infinity"

    with pytest.raises(ModelError, match=message):
        analyse(image, network, journal_dir=tmp_path, options=SMALL)

    assert list(tmp_path.glob("*.strip")) == []
    assert reader_is_gone()


def test_a_predictors_own_refusal_names_image_and_tiles(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    class Refusing(NullNetwork):
        def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
            raise ModelError("NaN in tile 0 of the batch")

    with pytest.raises(ModelError, match=r"drawn, tile at row 0, column 0 .*: NaN in tile 0"):
        analyse(ArrayImage(pixels), Refusing(), journal_dir=tmp_path, options=SMALL)


@dataclass
class TornImage(ArrayImage):
    """Its lower half cannot be read."""

    error: Exception = field(default_factory=lambda: ImageError("block 3 is damaged"))

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        if y >= 1024:
            raise self.error
        return super().read_block(level, x, y, width, height)


@pytest.mark.parametrize("error", [ImageError("block 3 is damaged"), OSError("block 3 is damaged")])
def test_an_error_in_the_reader_is_raised_with_image_and_tile(error: Exception, tmp_path: Path) -> None:
    image = TornImage(draw_tissue(1300, 100, seed=1), error=error)

    with pytest.raises(ImageError, match=r"drawn, tile at row 672, column 0 of .*block 3 is damaged"):
        analyse(image, NullNetwork(), journal_dir=tmp_path, options=AnalysisOptions(tile_size=336))

    assert image.is_closed
    assert reader_is_gone()
    assert len(list(tmp_path.glob("*.strip"))) == 2


def test_tiles_outside_the_region_of_interest_are_not_computed(
    pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    network = NullNetwork()
    options = replace(SMALL, region_of_interest=box(0, 0, 90, 90))

    found = analyse(ArrayImage(pixels), network, journal_dir=tmp_path, options=options)

    assert sum_of_tiles(network) == 1
    assert (found.summary.tiles, found.summary.skipped_tiles) == (12, 11)
    assert found.summary.analysed_um2 == 90 * 90 * 0.25
    assert (found.labels[:90, :90] != IGNORE_LABEL).all()
    assert (found.labels == IGNORE_LABEL).sum() == found.labels.size - 90 * 90


def test_without_an_option_the_areas_that_a_person_drew_are_analysed(
    pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    area = PathClass("Region*")
    ours = with_provenance(
        PathObject(box(0, 0, 300, 200), path_class=area), Provenance("r", "m", "n", "d", "v")
    )
    drawn = [
        PathObject(box(10, 10, 60, 50), path_class=area),
        PathObject(box(50, 20, 90, 50), path_class=area),
    ]
    image = ArrayImage(
        pixels, drawn=[*drawn, ours, PathObject(box(0, 0, 9, 9), path_class=PathClass("Tumor"))]
    )

    found = analyse(image, NullNetwork(), journal_dir=tmp_path, options=SMALL)

    assert (found.labels != IGNORE_LABEL).sum() == 50 * 40 + 30 * 30


def test_a_region_of_interest_beside_the_image_is_refused(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="drawn: the region to analyse covers no pixel"):
        analyse(
            ArrayImage(pixels),
            NullNetwork(),
            journal_dir=tmp_path,
            options=AnalysisOptions(region_of_interest=box(5000, 0, 6000, 10)),
        )


@pytest.mark.parametrize(
    "options",
    [
        AnalysisOptions(batch_size=0),
        AnalysisOptions(batch_size=10**6),
        AnalysisOptions(tile_size=0),
        AnalysisOptions(tile_size=10**9),
        AnalysisOptions(min_region_area_um2=-1),
        AnalysisOptions(min_region_area_um2=float("nan")),
    ],
)
def test_impossible_options_are_refused(
    pixels: NDArray[np.uint8], tmp_path: Path, options: AnalysisOptions
) -> None:
    with pytest.raises(UsageError, match="must be"):
        analyse(ArrayImage(pixels), NullNetwork(), journal_dir=tmp_path, options=options)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 3)])
def test_the_smallest_images_are_analysed(size: tuple[int, int], tmp_path: Path) -> None:
    found = analyse(ArrayImage(draw_tissue(*size, seed=0)), NullNetwork(), journal_dir=tmp_path)

    assert found.labels.shape == size
    assert (found.labels != IGNORE_LABEL).all()


def test_a_model_without_regions_gives_cells_alone(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    class CellsOnly(NullNetwork):
        def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
            prediction = super().predict(tiles)
            return Prediction(prediction.logits[:, :0], prediction.heat)

    network = CellsOnly()
    network.description = replace(network.description, region_classes=())

    found = analyse(ArrayImage(pixels), network, journal_dir=tmp_path)

    assert len(found.cells) > 50
    assert set(found.cells.region_index.tolist()) == {IGNORE_LABEL}
    assert found.regions == ()


def test_a_model_without_cells_gives_regions_alone(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    found = analyse(ArrayImage(pixels), NullNetwork(cell_classes=0), journal_dir=tmp_path)

    assert len(found.cells) == 0
    assert found.cells.scores.shape == (0, 0)
    assert len(found.regions) > 5


def test_cells_of_two_classes_at_one_place_become_one_and_are_counted(
    pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    both = NullNetwork()
    both.description = replace(both.description, cross_class_radius_um=None)

    one = analyse(ArrayImage(pixels), NullNetwork(), journal_dir=tmp_path / "one")
    two = analyse(ArrayImage(pixels), both, journal_dir=tmp_path / "two")

    assert one.summary.suppressed_across_classes == len(two.cells) - len(one.cells) > 0
    assert two.summary.suppressed_across_classes == 0


def test_an_image_unlike_those_learnt_from_is_warned_about(
    pixels: NDArray[np.uint8], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = NullNetwork()
    network.description = replace(network.description, usual_colours=colours_of(pixels[..., ::-1]))
    image = ArrayImage(pixels, pixel_size_um=0.8, name="odd")

    found = analyse(image, network, journal_dir=tmp_path)

    coarse, colours = found.summary.warnings
    assert "0.8 um a pixel" in coarse
    assert "colours that the model did not learn from" in colours
    assert f"odd: {colours}" in caplog.messages
    assert coarse in caplog.text


def test_an_image_like_those_learnt_from_is_not(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    network = NullNetwork()
    network.description = replace(network.description, usual_colours=colours_of(pixels))

    assert analyse(ArrayImage(pixels), network, journal_dir=tmp_path).summary.warnings == ()


def test_the_summary_counts_what_is_there(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    found = analyse(ArrayImage(pixels), NullNetwork(), journal_dir=tmp_path)

    assert sum(found.summary.cells.values()) == len(found.cells)
    assert sum(found.summary.regions.values()) == len(found.regions)
    assert found.summary.area_um2["Stroma"] == (found.labels == 1).sum() * 0.25
    assert sum(found.summary.area_um2.values()) == found.summary.analysed_um2 == 250 * 330 * 0.25
