"""What belongs to the whole image: found once, filled in as it is written, and found again by nobody."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from drawn_tissue import ArrayImage
from tissuebridge.errors import CalibrationError, Cancelled, InputRefused, UsageError
from tissuebridge.project.resample import Grid
from tissuebridge.proposals.measure import (
    nuclear_density,
    region_pixel_size,
    spot_options,
    stains_in,
    with_palette,
    with_stains,
)
from tissuebridge.proposals.settings import CellSettings, ProposalSettings, RegionSettings

H_DAB = CellSettings(stains=("Hematoxylin", "DAB"))
VECTORS = ((0.65, 0.7, 0.29), (0.27, 0.57, 0.78))
GIVEN = replace(H_DAB, vectors=VECTORS)


def never() -> bool:
    return False


def tissue() -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.immunohistochemistry()[:230, :270])


def stained(settings: CellSettings, pixels: NDArray[np.uint8] | None = None, um: float = 0.5) -> CellSettings:
    with ArrayImage(tissue() if pixels is None else pixels, um).open_pixels() as source:
        return with_stains(settings, source, um, never)


def coloured(
    settings: RegionSettings, pixels: NDArray[np.uint8] | None = None, um: float = 0.5
) -> RegionSettings:
    with ArrayImage(tissue() if pixels is None else pixels, um).open_pixels() as source:
        return with_palette(settings, source, um, never)


@pytest.mark.parametrize(
    ("side_px", "um", "asked", "expected"),
    [
        (512, 0.5, 0.0, 2.0),
        (4096, 0.5, 0.0, 4.0),
        (90_000, 0.25, 0.0, 8.0),
        (512, 12.0, 0.0, 12.0),
        (512, 0.5, 3.0, 3.0),
        (512, 0.5, 0.2, 0.5),
    ],
    ids=["small", "between", "slide", "coarse image", "asked for", "finer than the image"],
)
def test_the_map_of_regions_is_as_fine_as_the_image_allows(
    side_px: int, um: float, asked: float, expected: float
) -> None:
    image = ArrayImage(np.broadcast_to(np.uint8(200), (100, side_px, 3)), um)

    assert region_pixel_size(RegionSettings(pixel_size_um=asked), image, um) == expected


def test_a_palette_is_what_the_file_says_and_stays() -> None:
    full = coloured(RegionSettings())

    assert len(full.palette) > 2
    assert ProposalSettings.of_text(ProposalSettings(regions=full).as_text()).regions == full
    assert coloured(full, tissue()[:200, :200]) == full


def test_stains_and_noise_are_what_the_file_says_and_stay() -> None:
    full = stained(H_DAB)

    assert len(full.noise) == 3
    assert ProposalSettings.of_text(ProposalSettings(cells=full).as_text()).cells == full
    elsewhere = stained(full, tissue()[:100])
    assert replace(elsewhere, reconstruction_error=full.reconstruction_error) == full


def test_a_palette_of_a_large_map_comes_from_a_coarser_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = coloured(RegionSettings(pixel_size_um=0.5))

    monkeypatch.setattr("tissuebridge.proposals.measure._THUMBNAIL_PX", 4000)
    coarse = coloured(RegionSettings(pixel_size_um=0.5))

    assert coarse.pixel_size_um == 0.5
    assert coarse.palette
    assert coarse.palette != fine.palette


def test_learnt_stains_are_named_and_mark_nuclei_and_positive() -> None:
    full = stained(H_DAB)

    hematoxylin, dab = np.array(full.vectors)
    assert full.names == full.nuclear == ("Hematoxylin", "DAB")
    assert full.positive == ("DAB",)
    assert dab.argmax() == 2
    assert hematoxylin[0] > dab[0]
    assert 0 < (full.reconstruction_error or 0) < 0.2
    assert np.isfinite(full.noise).all()
    assert min(full.noise) > 0


def test_a_chromogen_that_was_only_guessed_makes_nothing_positive() -> None:
    full = stained(CellSettings())

    assert "DAB?" in full.names
    assert full.positive == ()
    assert "DAB?" not in full.nuclear


def test_a_stain_that_marks_nothing_known_still_marks_nuclei() -> None:
    full = stained(CellSettings(stains=("Violet", "Green"), vectors=VECTORS))

    assert (full.nuclear, full.positive) == (("Violet",), ())


def test_noise_is_measured_on_tissue_and_not_on_glass() -> None:
    alone = np.tile(tissue(), (3, 2, 1))[:512, :512]
    glass = np.full_like(alone, 255)

    # Two squares of 512 px, of which one is glass; together with it the median would be that of half the tissue.
    assert stained(GIVEN, np.hstack([alone, glass])).noise == stained(GIVEN, alone).noise
    assert max(stained(GIVEN, glass).noise) == 0 < max(stained(GIVEN, alone).noise)


def test_noise_of_another_diameter_is_measured_anew() -> None:
    small = stained(replace(GIVEN, diameter_um=2.0))
    assert len(small.noise) == 2

    edited = stained(replace(small, diameter_um=8.0))

    assert edited.noise == stained(GIVEN).noise


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("settings", [GIVEN, CellSettings(stains=("Hematoxylin",))])
def test_without_tissue_given_stains_are_filled_in_with_numbers(settings: CellSettings, value: int) -> None:
    full = stained(settings, np.full((80, 90, 3), value, np.uint8))

    assert full.reconstruction_error == 0
    assert full.noise == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("settings", "um", "kind", "told"),
    [
        (replace(GIVEN, diameter_um=300), 0.5, InputRefused, "larger than the image"),
        (replace(GIVEN, diameter_um=1), 0.5, UsageError, "use another pixel size"),
        (CellSettings(nuclear=("Eosine",)), 0.5, InputRefused, r"'Eosine' is none of the stains \("),
        (CellSettings(thresholds={"CD3": 1.0}), 0.5, InputRefused, "'CD3' is none of the stains"),
        (GIVEN, 12.0, CalibrationError, "the image has 12 µm a pixel.*--pixel-size"),
        (replace(GIVEN, vectors=((0, 0, 0), (1, 0, 0))), 0.5, InputRefused, "not all 0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    settings: CellSettings, um: float, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        stained(settings, um=um)


def test_a_map_of_regions_of_an_impossible_pixel_size_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"the image has 150 µm a pixel.*--pixel-size"):
        coloured(RegionSettings(), um=150.0)


def test_measuring_stops_when_asked() -> None:
    with ArrayImage(tissue()).open_pixels() as source:
        for measure in (
            lambda: with_palette(RegionSettings(), source, 0.5, lambda: True),
            lambda: with_stains(H_DAB, source, 0.5, lambda: True),
        ):
            with pytest.raises(Cancelled, match="stopped while its colours were measured"):
                measure()


def test_nuclei_are_marked_by_the_sum_of_their_stains() -> None:
    densities = np.stack([np.full((2, 3), value, np.float32) for value in (1.0, 2.0)])

    assert nuclear_density(densities, replace(GIVEN, nuclear=("DAB",))).tolist() == [[2.0] * 3] * 2
    assert nuclear_density(densities, replace(GIVEN, nuclear=GIVEN.names)).tolist() == [[3.0] * 3] * 2


def test_sizes_in_um_are_those_of_the_pixels() -> None:
    half, quarter = (
        spot_options(GIVEN, Grid(500, 500, 1.0)),
        spot_options(replace(GIVEN, pixel_size_um=0.25), Grid(500, 500, 1.0)),
    )

    assert np.array(quarter.levels).tolist() == [level + 1 for level in half.levels]
    assert stains_in(GIVEN).names == GIVEN.names
