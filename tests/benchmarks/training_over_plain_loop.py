"""What our training costs beside the loop that a user would write: run by hand, never in CI.

    PYTHONPATH=tests python tests/benchmarks/training_over_plain_loop.py [--preset compact paper] [--steps 12]

Same network, same crops, same number of steps, alternating in one process: A is `train_network` (Lightning, progress,
log, state on the disk), B a plain loop over the same loader (network, losses, backward, clip, Adam, cosine). Prints the
median seconds a step of both and the ratio A / B, pair by pair.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from loader_over_step import SIDES, configuration, examples
from torch.utils.data import DataLoader

from tissuemodel.checkpoint import build_network
from tissuemodel.config import ModelConfig
from tissuemodel.course import Reports
from tissuemodel.dataset import CropDataset, collate
from tissuemodel.labels import Example
from tissuemodel.losses import deep_supervision_loss
from tissuemodel.objective import MultitaskTraining
from tissuemodel.training import train_network
from tissuemodel.training_log import TrainingLog


def ours(config: ModelConfig, drawn: list[Example]) -> float:
    moments: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        reports = Reports(
            lambda _done, _steps, _row: moments.append(time.perf_counter()),
            lambda after: [TrainingLog(Path(folder, "training.csv"), append_after=after)],
            Path(folder, "state"),
        )
        train_network(drawn, config, reports)
    return statistics.median(b - a for a, b in pairwise(moments[1:]))


def plain(config: ModelConfig, drawn: list[Example]) -> float:
    plan, steps = config.training, config.training.steps or 0
    module = MultitaskTraining(build_network(config).to(memory_format=torch.channels_last), config, float)
    optimizer = torch.optim.Adam(module.parameters(), plan.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
    )
    loader = DataLoader(
        CropDataset(drawn, config, steps * plan.batch_size), plan.batch_size, collate_fn=collate
    )
    moments = []
    for batch in loader:
        loss = deep_supervision_loss(module.losses(batch), module.log_variances)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), plan.gradient_clip or math.inf)
        optimizer.step()
        schedule.step()
        moments.append(time.perf_counter())
    return statistics.median(b - a for a, b in pairwise(moments[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", nargs="+", choices=list(SIDES), default=["compact"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    drawn = examples()
    for preset in asked.preset:
        config = configuration(preset, drawn)
        config = replace(config, training=replace(config.training, steps=asked.steps, precision="fp32"))
        pairs = [(ours(config, drawn), plain(config, drawn)) for _ in range(asked.rounds)]
        a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{preset}: ours {a:.3f} s a step, plain loop {b:.3f} s, ratio {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
