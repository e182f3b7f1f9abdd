"""The parameter file: what it says comes back, and what is wrong with it is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tissuebridge.errors import UsageError
from tissuebridge.proposals.settings import CellSettings, ProposalSettings, RegionSettings, stains_of

FILLED = ProposalSettings(
    RegionSettings(2.0, palette=((80.25, 0.5, -3.0), (40.0, 9.0, 20.0))),
    CellSettings(
        stains=("Hematoxylin", 'Dr. "X"'),
        vectors=((0.65, 0.7, 0.29), (0.27, 0.57, 0.78)),
        nuclear=("Hematoxylin",),
        positive=('Dr. "X"',),
        thresholds={'Dr. "X"': 0.25},
        noise=(0.0742769, 1e-7, 0.0),
        reconstruction_error=0.03,
    ),
)


def test_what_is_written_is_read_again() -> None:
    assert ProposalSettings.of_text(FILLED.as_text()) == FILLED


def test_thresholds_change_no_digest_and_all_else_does() -> None:
    from dataclasses import replace

    assert FILLED.cells is not None
    other = replace(FILLED, cells=replace(FILLED.cells, thresholds={}))
    moved = replace(FILLED, cells=replace(FILLED.cells, min_contrast=0.2))

    assert other.digest() == FILLED.digest()
    assert moved.digest() != FILLED.digest()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"a table \[regions\] or \[cells\] is needed"),
        ("[cells", "this is not TOML"),
        ("[cels]", "cels: there is no such setting"),
        ("[regions]\nsplit = 3", "regions.split: there is no such setting"),
        ('[cells]\ndiameter_um = "8"', "cells.diameter_um"),
        ("[cells]\ndiameter_um = true", "cells.diameter_um"),
        ("[cells]\ndiameter_um = nan", "not TOML|diameter_um"),
        ("[cells]\ndiameter_um = -1", "diameter_um is 0.5 to 500"),
        ("[cells]\nstains = 7", "2 to 4 stains can be learnt"),
        ('[cells]\nstains = ["DAB", "DAB"]', "1 to 4 different names"),
        ('[cells]\nstains = ["Giemsa", "DAB"]', "'Giemsa' is not known"),
        ('[cells]\nstains = ["DAB", "Eosin"]\npositive = ["Eosine"]', "'Eosine' is none of the stains"),
        ("[cells]\nvectors = [[1, 0, 0]]", "vectors need the stains' names"),
        ("[cells]\nwhite = [0, 255, 255]", "white is red, green, blue"),
        ("[regions]\nmax_colours = 0", "max_colours"),
        ("[regions]\npalette = [[200, 0, 0]]", "palette has CIELAB colours"),
        ("[regions]\npixel_size_um = 0.01", "pixel_size_um is 0.1 to 100"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        ProposalSettings.of_text(text)

    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes("[cells]  # µm".encode("latin-1"))
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * 70_000)

    for path, told in ((tmp_path / "none.toml", "cannot be read"), (latin, "UTF-8"), (huge, "more than")):
        with pytest.raises(UsageError, match=told) as refused:
            ProposalSettings.read(path)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "0", "9", "Hematoxylin,Giemsa", "{", "{}", '{"Stain 1": "X"}', '{"Stain 1": 3}']
)
def test_stains_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Give names"):
        stains_of(text)


def test_qupaths_residual_is_no_stain() -> None:
    found = stains_of(
        '{"Stain 1": "Hematoxylin", "Values 1": "0.65 0.70 0.29", "Stain 2": "Eosin", "Values 2": "0.07 0.99 0.11", '
        '"Stain 3": "Residual", "Values 3": "0.1 0.2 0.3"}'
    )

    assert found.names == ("Hematoxylin", "Eosin")
