"""The paper's comparison on data of one's own: single task, multitask, multitask + MF. Run by hand, never in CI.

    PYTHONPATH=tests python tests/benchmarks/papers_comparison.py FOLDER --pixel-size 0.25 --steps 300 --seeds 0 1 2

Trains, for each seed, a network for the regions alone, one for the cells alone and one for both: same images, same
number of steps, same seed, and measures each on the test split. Prints the paper's Tables III (F1 of regions) and IV
(average precision of cells; F1 besides) with the mean over seeds and the range, and parameters, GMAC of a 1024 x 1024
forward and the time the training took. `--settings FILE` switches what is ablated: gamma = 0 is the cross-entropy,
weighting = "fixed", deep_supervision = false (all in [loss]), heat_pooling = "sum" ([targets]).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tissuebridge.evaluation import EvaluationOptions, measure
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.project.base import Project
from tissuebridge.project.folder import FolderProject
from tissuebridge.settings import read_settings
from tissuebridge.training import TrainingOptions, model_config
from tissuebridge.training_set import TrainingSet, build_training_set
from tissuemodel.calibration import choose_detection
from tissuemodel.checkpoint import build_network, make_checkpoint
from tissuemodel.config import ModelConfig
from tissuemodel.labels import IGNORE_LABEL, Example
from tissuemodel.training import Trained, prepare, train_network

COLUMNS = ("single task", "multitask", "multitask + MF")
Scores = dict[str, dict[str, dict[str, float | None]]]


@dataclass(frozen=True)
class Result:
    """One network of one seed."""

    scores: Scores
    parameters: int
    gmac: float
    seconds: float


def only_regions(config: ModelConfig, examples: Sequence[Example]) -> tuple[ModelConfig, list[Example]]:
    inference = replace(config.inference, min_distance_um=(), thresholds=())
    config = replace(
        config, cell_classes=(), inference=inference, targets=replace(config.targets, diameters_um=())
    )
    none = np.zeros((0, 2), np.float32)
    bare = [
        replace(e, points=none, point_classes=np.zeros(0, np.uint8), negatives=none, complete=0 * e.complete)
        for e in examples
    ]
    return config, [e for e in bare if (e.regions != IGNORE_LABEL).any()]


def only_cells(config: ModelConfig, examples: Sequence[Example]) -> tuple[ModelConfig, list[Example]]:
    bare = [replace(e, regions=np.full_like(e.regions, IGNORE_LABEL)) for e in examples]
    return replace(config, region_classes=()), [
        e for e in bare if len(e.points) or len(e.negatives) or e.complete.any()
    ]


def both(config: ModelConfig, examples: Sequence[Example]) -> tuple[ModelConfig, list[Example]]:
    return config, list(examples)


def trained(found: TrainingSet, config: ModelConfig, choose: Any) -> Trained:
    bare, examples = choose(config, found.train)
    _, held_out = choose(config, found.validation)
    done = train_network(examples, prepare(bare, examples))
    if done.is_interrupted:
        raise KeyboardInterrupt  # half a training compares with nothing
    chosen = choose_detection(done.network, done.config, held_out or examples)
    return replace(done, config=chosen)


def measured(project: Project, done: Trained, *, fusion: bool) -> Scores:
    config = replace(done.config, inference=replace(done.config.inference, fusion=fusion))
    checkpoint = make_checkpoint("compared", config, done.network, {})
    scores = measure(project, LocalPredictor(checkpoint), EvaluationOptions(split="test")).scores
    return {"regions": scores["regions"], "cells": scores["cells"]}


def gmac(config: ModelConfig, side: int = 1024) -> float:
    """Multiply-adds of a forward, in 1e9, counted on tensors without memory."""
    with torch.device("meta"):
        network = build_network(config)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, side, side))
    return counter.get_total_flops() / 2e9


def result(project: Project, done: Trained, *, fusion: bool = False) -> Result:
    return Result(
        measured(project, done, fusion=fusion),
        sum(parameter.numel() for parameter in done.network.parameters()),
        gmac(done.config),
        done.seconds,
    )


def compare(project: Project, found: TrainingSet, config: ModelConfig, seed: int) -> dict[str, list[Result]]:
    """The columns of one seed; "single task" is two networks."""
    config = replace(config, training=replace(config.training, seed=seed))
    singles = []
    for name, choose in (("regions", only_regions), ("cells", only_cells)):
        if getattr(config, f"{name[:-1]}_classes"):
            print(f"seed {seed}: single task, {name}", file=sys.stderr, flush=True)
            singles.append(result(project, trained(found, config, choose)))
    print(f"seed {seed}: multitask", file=sys.stderr, flush=True)
    done = trained(found, config, both)
    return {
        COLUMNS[0]: singles,
        COLUMNS[1]: [result(project, done)],
        COLUMNS[2]: [result(project, done, fusion=True)],
    }


# ---- Tables ----------------------------------------------------------------------------------------------


def told(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = statistics.mean(known)
    return f"{mean:.3f} ({min(known):.3f}-{max(known):.3f})"


def row(runs: Sequence[Mapping[str, list[Result]]], kind: str, name: str, key: str) -> list[str]:
    return [
        told(
            [
                one.scores[kind][name].get(key)
                for run in runs
                for one in run[column]
                if name in one.scores[kind]
            ]
        )
        for column in COLUMNS
    ]


def table(title: str, rows: Sequence[tuple[str, list[str]]]) -> str:
    lines = [
        f"\n{title}",
        f"| class | {' | '.join(COLUMNS)} |",
        "|---|" + "---|" * len(COLUMNS),
        *(f"| {name} | {' | '.join(values)} |" for name, values in rows),
    ]
    return "\n".join(lines)


def costs(runs: Sequence[Mapping[str, list[Result]]]) -> str:
    def total(column: str, of: Any) -> float:
        return statistics.mean(sum(of(one) for one in run[column]) for run in runs)

    rows = [
        ("parameters, M", [f"{total(c, lambda r: r.parameters) / 1e6:.2f}" for c in COLUMNS]),
        ("GMAC, 1024 x 1024", [f"{total(c, lambda r: r.gmac):.1f}" for c in COLUMNS]),
        ("training, minutes", [f"{total(c, lambda r: r.seconds) / 60:.1f}" for c in COLUMNS]),
    ]
    return table("What it costs (single task: both networks together)", rows)


def tables(config: ModelConfig, runs: Sequence[Mapping[str, list[Result]]]) -> str:
    return "\n".join(
        [
            table(
                "Table III: regions, F1 of pixels, mean (range over seeds)",
                [(name, row(runs, "regions", name, "f1")) for name in config.region_classes],
            ),
            table(
                "Table IV: cells, average precision",
                [(name, row(runs, "cells", name, "ap")) for name in config.cell_classes],
            ),
            table(
                "Cells, F1 at the thresholds chosen on validation images",
                [(name, row(runs, "cells", name, "f1")) for name in config.cell_classes],
            ),
            costs(runs),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("--pixel-size", type=float)
    parser.add_argument("--preset", choices=["compact", "paper"], default="compact")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", type=Path)
    parser.add_argument("--json", type=Path, help="file for every single score")
    asked = parser.parse_args()
    project = FolderProject(asked.source, asked.pixel_size)
    found = build_training_set(project)
    options = TrainingOptions(asked.preset, settings=read_settings(asked.settings) if asked.settings else {})
    config = model_config(found, options)
    config = replace(config, training=replace(config.training, steps=asked.steps))
    runs = []
    for seed in asked.seeds:
        runs.append(compare(project, found, config, seed))
        print(tables(config, runs), flush=True)
    if asked.json:
        plain = [{column: [vars(one) for one in results] for column, results in run.items()} for run in runs]
        asked.json.write_text(json.dumps(plain, indent=1))


if __name__ == "__main__":
    main()
