"""A model's card says what the model says of itself, and nothing that it does not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tissuebridge.model_card import model_card
from tissuemodel.config import InferenceConfig, ModelConfig, TargetConfig

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("Immune|CD3*",),
    colors={"Tumor": (200, 0, 10)},
    pixel_size_um=0.25,
    targets=TargetConfig((5.0,)),
    inference=InferenceConfig(min_distance_um=(2.5,), thresholds=(0.31,)),
)
RECORD: dict[str, Any] = {
    "description": "T cells of the lung",
    "project": "lung",
    "licence": "CC BY 4.0",
    "preset": "compact",
    "version": "0.1.0",
    "versions": {"torch": "2.10.0"},
    "parameters": 1_094_560,
    "duration_s": 930,
    "images": {"train": ["case1", "case2"], "validation": ["case3"]},
    "sources": [{"image": "case2", "sha256": "01" * 32}],
    "found": {
        "pieces": 2,
        "regions": {"Tumor": {"area_um2": 1.25e6, "pieces": 1}},
        "cells": {
            "Immune|CD3*": {"marked": 1040, "complete_um2": 2e5, "hard_negatives": 3, "pieces": 2},
        },
    },
    "thresholds_from": "validation",
    "validation": {"images": ["case3"], "cells": {"Immune|CD3*": {"f1": 0.95, "ap": None}}, "regions": {}},
    "measured": {
        "images": ["case4", "case5"],
        "tolerance_px": 8.0,
        "regions": {"Tumor": {"f1": 0.75}, "Stroma": {"f1": None}},
        "cells": {"Immune|CD3*": {"f1": 0.9012, "f1_interval": [0.88, 0.92], "precision": 0.85}},
    },
}
ABOUT = {"name": "lung-t-cells", "digest": "ab" * 32, "config": CONFIG.to_dict(), "record": RECORD}


def test_the_card_says_what_the_model_finds_and_learnt_from() -> None:
    card = model_card(ABOUT)

    assert card.startswith("# lung-t-cells\n\nA tissuebridge model: T cells of the lung\n")
    assert "ab" * 32 in card
    assert "| Tumor | region | \\#c8000a | - | - | - |" in card
    assert "| Immune\\|CD3\\* | cell | - | 5 | 2.5 | 0.31 |" in card
    assert "**0.25 µm per pixel**" in card
    assert "- Project: lung" in card
    assert "- Licence of the data: CC BY 4.0" in card
    assert "| Tumor | 1.25 mm² | - | - |" in card
    assert "| Immune\\|CD3\\* | 0.2 mm² | 1,040 | 3 |" in card
    assert "| case1 | to learn from | - |" in card
    assert f"| case2 | to learn from | `{'01' * 32}` |" in card
    assert "| case3 | to choose thresholds | - |" in card


def test_the_card_says_how_it_was_trained_and_measured() -> None:
    card = model_card(ABOUT)

    assert "- Preset: compact" in card
    assert "- Parameters: 1,094,560" in card
    assert "- Time: 15.5 minutes" in card
    assert "interrupted" not in card
    assert "elastic um 1.0" in card
    assert "**On validation images.** 1 image. Thresholds were chosen on them" in card
    assert "2 images. A cell within 8 px of a marked one found it." in card
    assert "| Tumor | 0.750 | - |" in card
    assert "| Immune\\|CD3\\* | 0.901 (0.880 to 0.920) | 0.850 |" in card
    assert "- torch: 2.10.0" in card
    assert "not a medical device" in card


def test_an_interrupted_training_says_so() -> None:
    card = model_card({**ABOUT, "record": {**RECORD, "interrupted": True}})

    assert "**The training was interrupted before its planned end.**" in card


def test_every_table_has_rows_of_one_length() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", model_card(ABOUT), re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


@pytest.mark.parametrize("key", ["name", "digest", "config", "record", *(f"record.{key}" for key in RECORD)])
def test_what_is_not_known_is_left_out(key: str) -> None:
    about = json.loads(json.dumps(ABOUT))
    part = about["record"] if key.startswith("record.") else about
    del part[key.removeprefix("record.")]

    card = model_card(about)

    assert "not a medical device" in card
    assert len(card) < len(model_card(ABOUT))
    assert "None" not in card


def test_a_model_that_says_nothing_of_itself_has_a_card_without_claims() -> None:
    titles = re.findall(r"^#.*", model_card({}), re.MULTILINE)

    assert titles == ["# A model", "## What it is not for"]


def test_what_a_person_wrote_stays_text() -> None:
    card = model_card({"name": "a\n# b", "record": {"project": "<script>[x](y)|*"}})

    assert card.startswith("# a \\# b\n")
    assert "- Project: \\<script\\>\\[x\\](y)\\|\\*" in card
