"""The training of a network: examples in, a trained network and what is to be said of its training out.

Comes in from the bridge's `training`, goes to `checkpoint`; thresholds of the cell classes are chosen in `calibration`
afterwards. The loop is PyTorch Lightning's, what is minimised is `objective`'s, what happens beside it `course`'s.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from tissuemodel.checkpoint import build_network
from tissuemodel.config import ModelConfig, NetworkConfig, TrainingConfig
from tissuemodel.course import Course, Length, Reports, StopRequest
from tissuemodel.dataset import CropDataset, class_counts, collate, pixel_statistics
from tissuemodel.inference import best_device
from tissuemodel.labels import Example
from tissuemodel.losses import inverse_frequency_weights
from tissuemodel.network import COMPACT_WIDTHS, PAPER_WIDTHS, MultitaskUNet
from tissuemodel.objective import MultitaskTraining
from tissuemodel.resume import Restoring, captured, digest_of, restore, resumable
from tissuemodel.state import TrainingState, load_state, save_state
from tissuemodel.team import Membership, Shares, working
from tissuemodel.validation import Validation

MANY_STEPS: Final = 10**8
"""More than anybody waits for: the length of the list of crops where time decides when to stop."""

MOST_SILENCE: Final = timedelta(minutes=10)
"""So long a process waits for another one, which may be validating or saving, before it takes it for dead."""

MAX_LOADERS: Final = 8
"""Processes that load crops beside a GPU. On a CPU there are none: its cores are busy with the network."""

PRESETS: dict[str, tuple[NetworkConfig, TrainingConfig]] = {
    "paper": (NetworkConfig(PAPER_WIDTHS), TrainingConfig()),
    "compact": (NetworkConfig(COMPACT_WIDTHS), TrainingConfig(learning_rate=2e-3, crop_px=256, epochs=100)),
}
"""`paper` is Fig. 4 with section IV-G's settings; `compact` trains on a CPU in minutes."""

_PRECISIONS: Final = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a training ends with.

    Attributes:
        network: In evaluation mode, on the CPU.
        config: With the number of steps and the precision that it came to.
        seconds: Time that its steps took, also before an interruption.
        is_interrupted: Whether somebody stopped it before its end; it can be resumed where it kept its state.
        resumed_from: Step at which it went on; 0 for a training from scratch.
        validation_loss: The lowest, or None where there was nothing to look at.
    """

    network: MultitaskUNet
    config: ModelConfig
    seconds: float
    is_interrupted: bool
    resumed_from: int
    validation_loss: float | None


def prepare(config: ModelConfig, examples: Sequence[Example]) -> ModelConfig:
    """Fills in what follows from the training set: normalisation and class weights."""
    mean, std = pixel_statistics(examples)
    regions, cells = class_counts(examples, config)
    cap = config.loss.weight_cap
    loss = replace(
        config.loss,
        region_weights=config.loss.region_weights or inverse_frequency_weights(regions, cap),
        cell_weights=config.loss.cell_weights or inverse_frequency_weights(cells, cap),
    )
    return replace(config, mean=mean, std=std, loss=loss)


def train_network(
    examples: Sequence[Example],
    config: ModelConfig,
    reports: Reports | None = None,
    validation: Sequence[Example] = (),
) -> Trained:
    """Trains a network, from scratch or from where an interrupted training of the same kind left its state.

    Args:
        examples: Annotated pieces, at the model's pixel size.
        config: From `prepare`.
        reports: Whom to tell, and where to keep the state.
        validation: Annotated pieces of other images, for the validation loss and early stop.

    Raises:
        ValueError: There are no examples, or early stop has nothing to look at.
        ArithmeticError: The loss became NaN or infinite.
        CheckpointError: The state on the disk is damaged.
        ResumeError: The state on the disk is of another training.
        OSError: The state or the log cannot be written.
    """
    reports = reports or Reports()
    if not examples:
        raise ValueError("there is nothing to train on")
    if config.training.early_stop is not None and not validation:
        raise ValueError("early stop looks at the validation loss, and there are no validation images")
    plan = config.training
    if plan.devices > 1 and best_device().type != "cpu" and plan.devices > torch.cuda.device_count():
        raise ValueError(
            f"{plan.devices} devices are asked for, and there are {torch.cuda.device_count()} GPUs"
        )
    digest = digest_of([*examples, *validation])
    state = resumable(reports.state, config, digest) if reports.state else None
    port = find_free_network_port() if plan.devices > 1 else 0
    resumed_from = reports.state if state else None
    with working(_help_training, plan.devices, port, (list(examples), config, resumed_from)):
        member = Membership(0, plan.devices, port)
        return _Leading(examples, config, member, state).run(reports, validation, digest)


def steps_per_epoch(examples: Sequence[Example], config: TrainingConfig) -> int:
    """How many batches of crops, over all devices, have the area of all examples."""
    crops: int = sum(
        max(1, math.ceil(e.image.shape[0] * e.image.shape[1] / config.crop_px**2)) for e in examples
    )
    return math.ceil(crops / (config.batch_size * config.devices))


def precision_used(config: TrainingConfig) -> Literal["fp32", "bf16", "fp16"]:
    """What "auto" comes to here: mixed precision where the hardware computes it faster, and what is asked otherwise."""
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = torch.cpu.get_capabilities() if best_device().type == "cpu" else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


# ---- Each process of a training --------------------------------------------------------------------------


class _Process:
    """One process of a training: its network, its share of the crops, its place in the team.

    Args:
        examples: Annotated pieces.
        config: From `prepare`.
        member: Which process this is.
        state: Where an interrupted training left off.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        config: ModelConfig,
        member: Membership,
        state: TrainingState | None,
    ) -> None:
        self.examples, self.config, self.member, self.state = examples, config, member, state
        plan = config.training
        self.precision = precision_used(plan)
        done, spent = (int(state.about["step"]), float(state.about["seconds"])) if state else (0, 0.0)
        by_time = plan.steps is None and plan.minutes is not None
        steps = None if by_time else (plan.steps or plan.epochs * steps_per_epoch(examples, plan))
        self.length = Length(
            steps, 60 * (plan.minutes or 0.0), done=done, spent=spent, agreed=self._what_the_leader_says
        )
        self._trainer: Any = None

    def _what_the_leader_says(self, value: float) -> float:
        return value if self.member.world_size() == 1 else float(self._trainer.strategy.broadcast(value))

    def module(self, validation: Validation | None = None) -> MultitaskTraining:
        """The network with its losses, as new or as it was when the training was interrupted."""
        network = build_network(self.config).to(memory_format=torch.channels_last)
        module = MultitaskTraining(network, self.config, self.length.part_done)
        module.begin_average()
        if self.state is not None:
            restore(self.state, module, validation)
        return module

    def fit(self, module: MultitaskTraining, course: Course) -> None:
        """Takes the steps."""
        callbacks: list[Any] = [course]
        if self.state is not None:
            callbacks.insert(0, Restoring(self.state))
        with warnings.catch_warnings(), _sharing_cores(self.member.world_size()):
            _silence()
            plan = self.config.training
            self._trainer = _trainer(plan, self.precision, self.length.left, self.member, callbacks)
            try:
                self._trainer.fit(module, self._loader())
            except SystemExit as ended:  # what Lightning makes of a Ctrl-C
                raise KeyboardInterrupt from ended

    def _loader(self) -> DataLoader[Any]:
        plan, steps = self.config.training, self.length.left if self.length.left >= 0 else MANY_STEPS
        size, rank = self.member.world_size(), self.member.global_rank()
        first = self.length.done * plan.batch_size * size
        crops = CropDataset(self.examples, self.config, steps * plan.batch_size * size, first)
        loaders = 0 if best_device().type == "cpu" else min(MAX_LOADERS, torch.get_num_threads())
        return DataLoader(
            crops,
            batch_sampler=Shares(steps, plan.batch_size, rank, size),
            collate_fn=collate,
            num_workers=loaders,
            multiprocessing_context="spawn" if loaders else None,
            pin_memory=best_device().type == "cuda",
        )


class _Leading(_Process):
    """The process that tells, logs, saves and gives the result; the only one there is without a team."""

    def run(self, reports: Reports, validation: Sequence[Example], digest: str) -> Trained:
        """Trains."""
        watched = Validation(validation, self.config) if validation else None
        stop = StopRequest()
        with ExitStack() as open_now, torch.random.fork_rng(devices=[]), stop.on_signals():
            logs = reports.open_logs(self.length.done if self.state else None)
            for log in logs:
                open_now.callback(log.close)
            torch.manual_seed(self.config.training.seed)
            module = self.module(watched)
            per_epoch = steps_per_epoch(self.examples, self.config.training)
            saving = self._saving(reports.state, module, watched, digest) if reports.state else None
            course = Course(self.length, per_epoch, reports, logs, watched, stop, saving)
            if self.length.left:
                self.fit(module, course)
            return self._trained(module, course, watched)

    def _saving(
        self, path: Path, module: MultitaskTraining, watched: Validation | None, digest: str
    ) -> Callable[[int, float], None]:
        """What writes the state, given (steps done, seconds)."""
        fixed = {"config": self.config.to_dict(), "examples": digest}

        def save(steps: int, seconds: float) -> None:
            about = {"step": steps, "seconds": seconds, **fixed}
            save_state(captured(module, self._trainer, watched, about), path)

        return save

    def _trained(self, module: MultitaskTraining, course: Course, watched: Validation | None) -> Trained:
        network = build_network(self.config)
        kept = watched.best_weights if watched and watched.best_weights else module.kept.state_dict()
        network.load_state_dict(kept)
        plan = replace(self.config.training, steps=course.steps, precision=self.precision)
        return Trained(
            network.cpu().eval(),
            replace(self.config, training=plan),
            self.length.elapsed(),
            course.is_interrupted,
            self.length.done,
            watched.best if watched else None,
        )


def _help_training(
    rank: int,
    size: int,
    port: int,
    examples: Sequence[Example],
    config: ModelConfig,
    resumed_from: Path | None,
) -> None:
    """What a process that only helps does; see `team.working`."""
    torch.manual_seed(config.training.seed)
    state = load_state(resumed_from) if resumed_from else None
    process = _Process(examples, config, Membership(rank, size, port), state)
    module = process.module()
    course = Course(process.length, steps_per_epoch(examples, config.training), Reports())
    if process.length.left:
        process.fit(module, course)


def _trainer(
    plan: TrainingConfig, precision: str, steps: int, member: Membership, callbacks: list[Any]
) -> lightning.Trainer:
    size = plan.devices
    backend = "nccl" if best_device().type == "cuda" else "gloo"
    together = DDPStrategy(cluster_environment=member, process_group_backend=backend, timeout=MOST_SILENCE)
    return lightning.Trainer(
        max_epochs=1,
        max_steps=steps,
        accelerator=best_device().type,
        devices=size,
        strategy=together if size > 1 else "auto",
        sync_batchnorm=size > 1 and backend == "nccl",
        use_distributed_sampler=False,
        precision=_PRECISIONS[precision],
        gradient_clip_val=plan.gradient_clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )


@contextmanager
def _sharing_cores(size: int) -> Iterator[None]:
    """Each process of a team computes with its share of the cores; afterwards the team is dissolved."""
    threads = torch.get_num_threads()
    if size > 1:
        torch.set_num_threads(max(1, threads // size))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _silence() -> None:
    """What Lightning says of things that are as they are on purpose."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # On a CPU one process loads the crops: they cost little, and the cores are busy with the network.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Lightning 2.6 asks torch 2.15 for a type it is about to rename.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
