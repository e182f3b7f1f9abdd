"""The service `Training`: a client's annotated images become a training set, a training, a model that is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from threading import BoundedSemaphore
from typing import Any, Final

from tissuebridge.errors import UsageError
from tissuebridge.rpc import convert
from tissuebridge.rpc.v1 import analysis_pb2, training_pb2_grpc
from tissuebridge.rpc.v1 import training_pb2 as wire
from tissuebridge.server.call import MAX_PIXELS, Busy, Call, objects_in, run
from tissuebridge.server.guard import without_paths
from tissuebridge.server.remote_pixels import RemoteImage
from tissuebridge.server.trainer import Job, Trainer
from tissuebridge.server.training_job import JobOrder
from tissuebridge.settings import settings_of
from tissuebridge.training import PRESET_NAMES

_SENDERS: Final = 2
_WATCHERS: Final = 2
"""Calls that last take a worker each; short ones must find some left."""


class TrainingService(training_pb2_grpc.TrainingServicer):
    """Takes examples and trains.

    Args:
        trainer: Where sets, trainings and models are.
        idle_timeout_s: A call ends when its client sends or takes nothing for so long while it is waited for.
    """

    def __init__(self, trainer: Trainer, idle_timeout_s: float) -> None:
        self._trainer, self._idle_timeout_s = trainer, idle_timeout_s
        self._senders, self._watchers = BoundedSemaphore(_SENDERS), BoundedSemaphore(_WATCHERS)

    def AddExamples(  # noqa: N802
        self, request_iterator: Iterator[wire.AddExamplesRequest], context: Any
    ) -> Iterator[wire.AddExamplesResponse]:
        """Takes one image's annotated parts."""
        if not self._senders.acquire(blocking=False):
            raise Busy(f"the server already takes examples from {_SENDERS} clients; come again in a moment")
        call = _Sending(self._trainer, self._idle_timeout_s, context.cancel)
        yield from run(call, request_iterator, context, self._senders)

    def Start(self, request: wire.StartTrainingRequest, context: Any) -> wire.StartTrainingResponse:  # noqa: N802
        """Starts a training."""
        convert.check_protocol(request.protocol, request.client_version)
        convert.check_name(request.training_set, "a training set's")
        convert.check_name(request.model, "a model's")
        job = self._trainer.start(request.model, request.training_set, _order_of(request))
        return wire.StartTrainingResponse(training=job.name)

    def Watch(  # noqa: N802
        self, request: wire.WatchTrainingRequest, context: Any
    ) -> Iterator[wire.WatchTrainingResponse]:
        """Tells how a training goes."""
        job = self._job(request.training)
        if not self._watchers.acquire(blocking=False):
            raise Busy(
                f"the server already tells {_WATCHERS} clients of its training; come again in a moment"
            )
        try:
            for update in job.updates(context.is_active):
                yield _message(job.name, update)
        finally:
            self._watchers.release()

    def Stop(self, request: wire.StopTrainingRequest, context: Any) -> wire.StopTrainingResponse:  # noqa: N802
        """Ends a training after its step."""
        self._job(request.training).stop()
        return wire.StopTrainingResponse()

    def List(self, request: wire.ListTrainingsRequest, context: Any) -> wire.ListTrainingsResponse:  # noqa: N802
        """What there is."""
        job = self._trainer.job
        return wire.ListTrainingsResponse(
            training_sets=self._trainer.training_sets,
            models=self._trainer.models,
            training=job.name if job is not None and not job.is_over else "",
        )

    def _job(self, name: str) -> Job:
        job = self._trainer.job
        if job is None or job.name != name:
            raise UsageError(f"no training {name[:80]!r} is under way here; start one")
        return job


class _Sending(Call[wire.AddExamplesRequest, wire.AddExamplesResponse]):
    """An image whose annotated parts are taken."""

    opens_with = "Example: which image, for which training set"

    def __init__(self, trainer: Trainer, idle_timeout_s: float, hang_up: Callable[[], object]) -> None:
        super().__init__(idle_timeout_s, hang_up)
        self._trainer = trainer

    def block_of(self, request: wire.AddExamplesRequest) -> analysis_pb2.PixelBlock | None:
        return request.block if request.WhichOneof("step") == "block" else None

    def is_opening(self, number: int, request: wire.AddExamplesRequest) -> bool:
        return request.WhichOneof("step") == ("example" if number == 0 else "objects")

    def asking(self, request: analysis_pb2.BlockRequest) -> wire.AddExamplesResponse:
        return wire.AddExamplesResponse(block=request)

    def answer(self) -> None:
        example = convert.example_of(self.opening().example)
        order = example.order
        if order.identity.width * order.identity.height > MAX_PIXELS:
            raise UsageError(f"{order.identity.name}: more than the {MAX_PIXELS} px this server takes")
        objects = objects_in(lambda: self.opening().objects)
        training_set = self._trainer.training_set(example.training_set)
        if example.first:
            training_set.clear()
        image = RemoteImage(order, self.pixels_of(order.identity, order.levels))
        added = training_set.add(image, objects, self._tell, self.is_over)
        told = wire.ExamplesAdded(objects=added.objects, parts=added.parts, pixels=added.pixels)
        self.outbox.put(wire.AddExamplesResponse(added=told))

    def _tell(self, done: int, total: int) -> None:
        progress = analysis_pb2.Progress(done=done, total=total)
        self.outbox.put(wire.AddExamplesResponse(progress=progress))


def _order_of(request: wire.StartTrainingRequest) -> JobOrder:
    """What a client wants trained, checked; folders are the trainer's."""
    preset = request.preset or "compact"
    if preset not in PRESET_NAMES:
        raise UsageError(f"preset {preset[:40]!r}: there is {' and '.join(PRESET_NAMES)}")
    minutes = request.minutes if request.HasField("minutes") else None
    epochs = request.epochs if request.HasField("epochs") else None
    if minutes is not None and epochs is not None:
        raise UsageError("a training lasts some minutes or some passes (epochs): give one")
    if minutes is not None and not 0 < minutes < 1e5:
        raise UsageError(f"{minutes:g} minutes: must be more than 0")
    if epochs == 0:
        raise UsageError("0 passes (epochs): must be at least 1")
    return JobOrder(
        training_set="",
        output="",
        preset=preset,
        minutes=minutes,
        epochs=epochs,
        seed=request.seed if request.HasField("seed") else None,
        settings=settings_of(request.settings.encode(), "the settings"),
        restart=request.restart,
    )


def _message(name: str, update: Mapping[str, Any]) -> wire.WatchTrainingResponse:
    if "told" in update:
        return wire.WatchTrainingResponse(told=without_paths(update["told"]))
    if "ended" in update:
        end = update["ended"]
        ended = wire.TrainingEnded(
            model=name, digest=end["digest"], interrupted=end["interrupted"], thresholds=end["thresholds"]
        )
        return wire.WatchTrainingResponse(ended=ended)
    step = wire.TrainingStep(done=update["done"], total=update["total"], numbers=update["numbers"])
    return wire.WatchTrainingResponse(progress=step)
