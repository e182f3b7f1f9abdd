"""`Training` over gRPC: annotated images sent part by part, a training in its own process, its model served."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest

from drawn import HeldNetwork
from drawn_project import write_project
from tissuebridge.project.base import Image
from tissuebridge.project.folder import FolderProject
from tissuebridge.rpc.transport import CLIENT_OPTIONS, ERROR_KEY, PROTOCOL, with_token
from tissuebridge.rpc.v1 import analysis_pb2, models_pb2, models_pb2_grpc, training_pb2_grpc
from tissuebridge.rpc.v1 import training_pb2 as wire
from tissuebridge.server.serve import Server, ServerOptions
from tissuebridge.server.training_sets import CASE_PATTERN
from tissuebridge.training_set import build_training_set

TOKEN = "a token for tests"
SMALL = "[network]\nwidths = [4, 8, 8]\n[training]\ncrop_px = 32\nbatch_size = 2\n"
PIXEL_UM = 0.5


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> FolderProject:
    return FolderProject(write_project(tmp_path_factory.mktemp("drawn")), PIXEL_UM)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    options = ServerOptions(
        port=0, token=TOKEN, discovery=tmp_path / "server.json", training=tmp_path / "training"
    )
    with Server({"filters": HeldNetwork()}, options) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address, options=CLIENT_OPTIONS) as opened:
        yield opened


class Stub:
    """The service with the token shown."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = training_pb2_grpc.TrainingStub(channel)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda request: getattr(self._stub, name)(request, metadata=with_token(TOKEN), timeout=120)


def example(image: Image, *, training_set: str = "drawn", first: bool = False) -> wire.Example:
    identity = image.identity
    with image.open_pixels() as pixels:
        levels = [
            analysis_pb2.Level(width=level.width, height=level.height, downsample=level.downsample)
            for level in pixels.levels
        ]
    return wire.Example(
        protocol=PROTOCOL,
        training_set=training_set,
        first=first,
        image=analysis_pb2.ImageIdentity(
            name=image.name,
            width=identity.width,
            height=identity.height,
            pixel_size_um=identity.pixel_size_um,
        ),
        pixel_size_um=image.pixel_size_um,
        levels=levels,
    )


def sent(stub: Stub, image: Image, **options: Any) -> wire.ExamplesAdded:
    """Sends an image as a script does: the opening, the objects in two pieces, then what is asked for."""
    annotations = next(path for path in image.files if path.suffix == ".geojson").read_bytes()
    requests: SimpleQueue[wire.AddExamplesRequest | None] = SimpleQueue()
    requests.put(wire.AddExamplesRequest(example=example(image, **options)))
    requests.put(wire.AddExamplesRequest(objects=wire.ObjectsPiece(geojson=annotations[:99])))
    requests.put(wire.AddExamplesRequest(objects=wire.ObjectsPiece(geojson=annotations[99:], last=True)))
    added = None
    with image.open_pixels() as pixels:
        for response in stub.AddExamples(iter(requests.get, None)):
            if response.WhichOneof("step") == "block":
                asked = response.block
                block = pixels.read_block(asked.level, asked.x, asked.y, asked.width, asked.height)
                data = np.ascontiguousarray(block).tobytes()
                answer = analysis_pb2.PixelBlock(id=asked.id, encoding=1, data=data)
                requests.put(wire.AddExamplesRequest(block=answer))
            elif response.WhichOneof("step") == "added":
                added = response.added
    requests.put(None)
    assert added is not None
    return added


def start(**given: Any) -> wire.StartTrainingRequest:
    given = {"protocol": PROTOCOL, "training_set": "drawn", "model": "mine", "settings": SMALL, **given}
    return wire.StartTrainingRequest(**given)


def refused(call: Callable[[], Any]) -> tuple[str, str | None]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    kind = {item.key: str(item.value) for item in error.trailing_metadata()}.get(ERROR_KEY)
    return error.details(), kind


def models(channel: grpc.Channel) -> list[str]:
    request = models_pb2.ListModelsRequest()
    found = models_pb2_grpc.ModelsStub(channel).List(request, metadata=with_token(TOKEN), timeout=10)
    return [model.name for model in found.models]


def test_what_is_sent_is_learnt_from_as_the_images_themselves(
    drawn: FolderProject, channel: grpc.Channel, tmp_path: Path
) -> None:
    stub = Stub(channel)

    added = [sent(stub, image, first=place == 0) for place, image in enumerate(drawn.images)]

    assert [part.parts for part in added] == [1, 1, 1]
    assert [part.objects for part in added] == [len(image.objects()) for image in drawn.images]
    project = FolderProject(tmp_path / "training" / "sets" / "drawn")
    assert [image.pixel_size_um for image in project.images] == pytest.approx([PIXEL_UM] * 3)
    by_sending = build_training_set(project)
    by_folder = build_training_set(FolderProject(drawn.path, PIXEL_UM))
    assert by_sending.classes.labels.regions == by_folder.classes.labels.regions
    sent_images = {example.name.split("_x0")[0]: example for example in by_sending.train}
    for straight in by_folder.train:
        same = sent_images[straight.name.split(",")[0]]
        np.testing.assert_array_equal(same.image, straight.image)
        np.testing.assert_array_equal(same.regions, straight.regions)
        np.testing.assert_allclose(same.points, straight.points)
        np.testing.assert_array_equal(same.complete, straight.complete)


def test_sent_anew_a_set_has_only_what_was_sent_now(
    drawn: FolderProject, channel: grpc.Channel, tmp_path: Path
) -> None:
    stub, place = Stub(channel), tmp_path / "training" / "sets" / "drawn"
    for image in drawn.images:
        sent(stub, image)
    sent(stub, drawn.images[0])
    assert len(list((place / "images").iterdir())) == 3

    sent(stub, drawn.images[1], first=True)

    assert [path.name for path in (place / "images").iterdir()] == ["drawn-1_x0_y0.tif"]


@pytest.mark.slow
def test_a_training_is_followed_stopped_and_finished_and_its_model_is_served(
    drawn: FolderProject, server: Server, channel: grpc.Channel, tmp_path: Path
) -> None:
    stub = Stub(channel)
    for place, image in enumerate(drawn.images):
        sent(stub, image, first=place == 0)
    stub.Start(start(epochs=400))
    details, kind = refused(lambda: stub.Start(start(model="other")))
    assert kind == "Busy"
    assert "mine" in details

    updates = stub.Watch(wire.WatchTrainingRequest(training="mine"))
    step = next(update.progress for update in updates if update.WhichOneof("step") == "progress")
    assert step.total > step.done > 0
    assert step.numbers["loss"] > 0
    stub.Stop(wire.StopTrainingRequest(training="mine"))
    last = list(updates)[-1].ended
    assert last.interrupted
    assert models(channel) == ["filters", "mine"]
    assert stub.List(wire.ListTrainingsRequest()).training == ""

    stub.Start(start(epochs=401, restart=True))
    again = []
    for update in stub.Watch(wire.WatchTrainingRequest(training="mine")):
        again.append(update)
        if update.WhichOneof("step") == "progress":
            stub.Stop(wire.StopTrainingRequest(training="mine"))
    assert again[-1].ended.digest != last.digest
    # The first one is put aside, not overwritten.
    assert len(list((tmp_path / "training" / "older").iterdir())) == 1

    stub.Start(start(epochs=1, restart=True))
    told = list(stub.Watch(wire.WatchTrainingRequest(training="mine")))
    assert not told[-1].ended.interrupted
    assert set(told[-1].ended.thresholds) == {"Lymphocyte", "Mast cell"}
    assert "Lymphocyte" in told[0].told
    assert not (tmp_path / "training" / "unfinished" / "mine").exists()


@pytest.mark.slow
def test_when_the_server_ends_its_training_ends_in_order(drawn: FolderProject, tmp_path: Path) -> None:
    place = tmp_path / "training"
    options = ServerOptions(port=0, token=TOKEN, discovery=tmp_path / "server.json", training=place)
    with (
        Server({"filters": HeldNetwork()}, options) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub = Stub(channel)
        for image in drawn.images:
            sent(stub, image)
        stub.Start(start(epochs=4000))
        updates = stub.Watch(wire.WatchTrainingRequest(training="mine"))
        next(update for update in updates if update.WhichOneof("step") == "progress")

    assert (place / "unfinished" / "mine" / "training.safetensors").exists()
    assert (place / "models" / "mine" / "model.safetensors").exists()
    with Server({"filters": HeldNetwork()}, options) as running:
        assert running.models == ["filters", "mine"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"protocol": 99}, "speaks protocol"),
        ({"training_set": "../sets"}, "cannot be a training set's name"),
        ({"model": "a/b"}, "cannot be a model's name"),
        ({"model": ".."}, "cannot be a model's name"),
        ({"training_set": "unknown"}, "no training set 'unknown'"),
        ({"preset": "huge"}, "compact and paper"),
        ({"minutes": 1, "epochs": 1}, "give one"),
        ({"minutes": -1}, "more than 0"),
        ({"settings": "loss = ["}, "not TOML"),
        ({"settings": "[network]\nwidth = 3"}, "network.width"),
    ],
)
def test_an_impossible_order_is_refused_with_the_reason(channel: grpc.Channel, given: Any, told: str) -> None:
    details, kind = refused(lambda: Stub(channel).Start(start(**given)))

    assert kind == "UsageError"
    assert told in details


def test_a_training_that_cannot_learn_says_why(
    drawn: FolderProject, channel: grpc.Channel, tmp_path: Path
) -> None:
    stub = Stub(channel)
    sent(stub, drawn.images[0], first=True)
    for path in (tmp_path / "training" / "sets" / "drawn" / "annotations").iterdir():
        path.unlink()
    stub.Start(start())

    details, kind = refused(lambda: list(stub.Watch(wire.WatchTrainingRequest(training="mine"))))

    assert kind == "AnnotationError"
    assert "has an annotation" in details
    assert str(tmp_path) not in details


def test_a_killed_training_is_told(drawn: FolderProject, server: Server, channel: grpc.Channel) -> None:
    stub = Stub(channel)
    for image in drawn.images:
        sent(stub, image)
    stub.Start(start(epochs=4000))
    trainer: Any = server._trainer
    time.sleep(0.5)
    os.kill(trainer.job._process.pid, 9)

    details, kind = refused(lambda: list(stub.Watch(wire.WatchTrainingRequest(training="mine"))))

    assert kind == "ModelError"
    assert "goes on from where" in details


def test_an_image_that_is_no_training_sets_is_refused(drawn: FolderProject, channel: grpc.Channel) -> None:
    details, kind = refused(lambda: sent(Stub(channel), drawn.images[0], training_set="../x"))

    assert kind == "UsageError"
    assert "training set's name" in details


def test_parts_of_one_image_are_one_case() -> None:
    assert re.search(CASE_PATTERN, "slide 1_x1024_y0").group(1) == "slide 1"  # type: ignore[union-attr]
