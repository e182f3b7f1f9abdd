"""The page of proposals: which colour is which, what was taken for positive; also where nothing was found."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import skimage.data
from numpy.typing import NDArray

from drawn_tissue import ArrayImage
from tissuebridge.analysis import Analysis
from tissuebridge.proposals.propose import propose_cells, propose_regions
from tissuebridge.proposals.settings import CellSettings, ProposalSettings, RegionSettings
from tissuebridge.report import proposals
from tissuebridge.report.histograms import SHOWN_PX, threshold_picture
from tissuebridge.report.proposals import ProposalsPage
from tissuemodel.annotate.cell_classes import threshold_of

GIVEN = CellSettings(stains=("Hematoxylin", "DAB"), vectors=((0.65, 0.7, 0.29), (0.27, 0.57, 0.78)))
Regions = tuple[Analysis, RegionSettings]
Cells = tuple[Analysis, CellSettings]


def tissue() -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.immunohistochemistry()[:150, :170])


def regions_of(image: ArrayImage, folder: Path) -> Regions:
    found = propose_regions(image, RegionSettings(), journal_dir=folder / "regions")
    filled = ProposalSettings.of_text(found.parameters).regions
    assert filled is not None
    return found, filled


def cells_of(image: ArrayImage, folder: Path, settings: CellSettings = GIVEN) -> Cells:
    found = propose_cells(image, settings, journal_dir=folder / "cells")
    filled = ProposalSettings.of_text(found.parameters).cells
    assert filled is not None
    return found, filled


def page_of(folder: Path, *images: tuple[ArrayImage, Regions | None, Cells | None]) -> str:
    page = ProposalsPage()
    for image, regions, cells in images:
        page.add(image, [part[0] for part in (regions, cells) if part is not None])
    page.write(folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[ArrayImage, Regions, Cells]:
    folder, image = tmp_path_factory.mktemp("found"), ArrayImage(tissue(), name="<b>section 1")
    return image, regions_of(image, folder), cells_of(image, folder)


def test_the_page_shows_colours_nuclei_thresholds_and_stains(
    found: tuple[ArrayImage, Regions, Cells], tmp_path: Path
) -> None:
    html = page_of(tmp_path, found)

    _, (regions, filled), (_, cells) = found
    assert "&lt;b&gt;section 1" in html
    assert "<b>section 1" not in html
    for number in range(1, 1 + len(filled.palette)):
        assert f"colour {number}" in html
    assert filled.in_short in html
    assert cells.in_short in html
    assert f"Positive from {cells.thresholds['DAB']:.3g} on" in html
    assert f"{cells.reconstruction_error:.1%} of the tissue" in html
    assert "melanin" in html
    assert "tissuebridge accept" in html
    assert "nan" not in html.casefold().split("data:image")[0]
    assert len(regions.summary.area_um2) == len(filled.palette)


def test_regions_or_nuclei_alone_have_a_page(
    found: tuple[ArrayImage, Regions, Cells], tmp_path: Path
) -> None:
    image, regions, cells = found

    of_regions, of_cells = page_of(tmp_path, (image, regions, None)), page_of(tmp_path, (image, None, cells))

    assert ("Red green blue" in of_regions, "Red green blue" in of_cells) == (True, False)
    assert ("Positive from" in of_regions, "Positive from" in of_cells) == (False, True)


def test_an_image_without_a_nucleus_has_a_page_with_its_warning(tmp_path: Path) -> None:
    image = ArrayImage(np.full((60, 80, 3), 255, np.uint8), name="blank")

    html = page_of(tmp_path, (image, regions_of(image, tmp_path), cells_of(image, tmp_path)))

    assert "do not fall into two groups" in html
    assert "100.0%" in html
    assert "0.0% of the tissue" in html


def test_stains_that_do_not_explain_the_colours_are_told(
    found: tuple[ArrayImage, Regions, Cells], tmp_path: Path
) -> None:
    image, _, (cells, filled) = found

    def told(error: float) -> str:
        settings = replace(filled, reconstruction_error=error)
        found = replace(cells, parameters=ProposalSettings(cells=settings).as_text())
        return page_of(tmp_path, (image, None, (found, settings)))

    bad, good = told(0.31), told(0.02)

    assert "31.0% of the tissue" in bad
    assert "a stain may be missing" in bad
    assert "a stain may be missing" not in good


def test_all_images_are_listed_and_the_first_are_shown(
    found: tuple[ArrayImage, Regions, Cells], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "MOST_IMAGES", 2)
    image, regions, _ = found
    many = [(replace(image, name=f"section {number}"), regions, None) for number in range(3)]

    html = page_of(tmp_path, *many)

    assert html.count("section 2") == 1
    assert html.count("section 1") > 1
    assert "The first 2 images are shown" in html


def test_the_close_up_is_where_most_nuclei_are(
    found: tuple[ArrayImage, Regions, Cells], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "_CLOSE_UP_PX", 50)
    image, _, (cells, _) = found

    row, col = proposals._densest(cells, 150, 170)

    def inside(top: int, left: int) -> int:
        window = shapely.box(left, top, left + 50, top + 50)
        return int(shapely.contains_xy(window, cells.cells.pixels[:, ::-1] + 0.5).sum())

    assert inside(row, col) == max(inside(r, c) for r in range(0, 150, 50) for c in range(0, 150, 50)) > 3
    assert proposals._close_up(image, cells).shape[1] == 100


def test_the_overview_of_an_image_shows_its_outlines_and_leaves_the_rest(
    found: tuple[ArrayImage, Regions, Cells],
) -> None:
    image, (regions, _), _ = found

    picture = proposals._overview(image, regions)
    bare = proposals._overview(image, replace(regions, regions=()))

    height = min(len(picture), len(bare))
    changed = (picture[:height] != bare[:height]).any(axis=-1).mean()
    assert 0.01 < changed < 0.6


def test_a_histogram_has_its_size_and_the_threshold_its_line() -> None:
    two = threshold_of(np.array([0.1, 0.11, 0.12, 0.9, 0.92]))
    none = threshold_of(np.array([0.5, 0.5]))

    light, dark, without = (
        threshold_picture(two, "DAB"),
        threshold_picture(two, "DAB", dark=True),
        threshold_picture(none, "DAB"),
    )

    for picture in (light, dark, without, threshold_picture(threshold_of(np.zeros(0)), "DAB")):
        assert picture.shape == (2 * SHOWN_PX[1], 2 * SHOWN_PX[0], 3)
        assert picture.dtype == np.uint8
    assert light.mean() > 128 > dark.mean()
    assert not np.array_equal(light, threshold_picture(replace(two, value=math.inf), "DAB"))
