"""How much loading costs beside a training step: run by hand, never in CI.

    PYTHONPATH=tests python tests/benchmarks/loader_over_step.py [--preset compact paper] [--rounds 15] [--prefetch]

Draws completely annotated tissue with the cells' usual density (80 in 256 x 256 px of 0.25 um), and alternates in one
process A: a training step (forward, losses, backward, Adam; bfloat16 where the processor has it) on a batch made
before, and B: the same with a fresh batch from the loader. Prints both medians and their ratio, and
milliseconds a crop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch.utils.data import DataLoader

from drawn_tissue import draw_example
from tissuemodel.checkpoint import build_network
from tissuemodel.config import ModelConfig, TargetConfig
from tissuemodel.dataset import Batch, CropDataset, collate
from tissuemodel.labels import Example
from tissuemodel.losses import deep_supervision_loss
from tissuemodel.objective import MultitaskTraining
from tissuemodel.training import PRESETS, prepare

SIDES = {"compact": 256, "paper": 512}
CELLS_PER_MPX = 80 / 256**2 * 1e6


def examples() -> list[Example]:
    return [draw_example(1024, 1024, seed, cells_per_mpx=CELLS_PER_MPX) for seed in range(4)]


def configuration(preset: str, drawn: list[Example]) -> ModelConfig:
    network, training = PRESETS[preset]
    config = ModelConfig(
        region_classes=("Tumor", "Stroma", "Empty", "Vessel"),
        cell_classes=("Lymphocyte", "Mast cell"),
        colors={},
        pixel_size_um=0.25,
        network=network,
        targets=TargetConfig((5.0, 5.0)),
        training=replace(training, crop_px=SIDES[preset]),
    )
    return prepare(config, drawn)


def stepper(config: ModelConfig) -> Callable[[Batch], None]:
    """A training step as `training` takes it, without Lightning around it."""
    network = build_network(config).to(memory_format=torch.channels_last)
    module = MultitaskTraining(network, config, float)
    optimizer = torch.optim.Adam(module.parameters(), config.training.learning_rate)
    has_bf16 = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))

    def step(batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16):
            losses = module.losses(batch)
        loss = deep_supervision_loss(losses, module.log_variances)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each made by a thread during the step on the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches)
        while True:
            batch = coming.result()
            coming = pool.submit(next, batches)
            yield batch


def measure(preset: str, rounds: int, prefetch: bool) -> str:
    drawn = examples()
    config = configuration(preset, drawn)
    size = config.training.batch_size
    crops = CropDataset(drawn, config, (rounds + 4) * size)
    batches: Iterator[Batch] = iter(DataLoader(crops, size, collate_fn=collate))
    batches = prefetched(batches) if prefetch else batches
    step = stepper(config)
    cached = next(batches)
    seconds: dict[str, list[float]] = {"cached": [], "loaded": [], "loading": []}
    for turn in range(rounds + 2):
        before = time.perf_counter()
        step(cached)
        between = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        step(batch)
        after = time.perf_counter()
        if turn >= 2:  # the first steps prepare memory and kernels
            seconds["cached"].append(between - before)
            seconds["loading"].append(loaded - between)
            seconds["loaded"].append(after - between)
    cached_ms, loaded_ms, loading_ms = (
        1e3 * statistics.median(seconds[way]) for way in ("cached", "loaded", "loading")
    )
    return (
        f"{preset:8} {config.training.crop_px:4} {cached_ms:12.1f} {loaded_ms:12.1f} "
        f"{loaded_ms / cached_ms:7.3f} {loading_ms / size:12.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefetch", action="store_true", help="load in a thread beside the step")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print("preset   crop  cached batch   with loader   ratio  loading/crop   (median ms)")
    for preset in asked.preset:
        print(measure(preset, asked.rounds, asked.prefetch), flush=True)


if __name__ == "__main__":
    main()
