from __future__ import annotations

import logging
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from drawn import DESCRIPTION, DrawnImage, HeldNetwork
from tissuebridge.client import Client
from tissuebridge.errors import Cancelled, Conflict, ModelError, ResourceLimit, TissuebridgeError, UsageError
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.predictor.base import Predictor
from tissuebridge.rpc import convert, discovery
from tissuebridge.rpc.transport import ERROR_KEY, with_token
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.rpc.v1 import models_pb2, models_pb2_grpc
from tissuebridge.server.guard import without_paths
from tissuebridge.server.outbox import Outbox, Stalled
from tissuebridge.server.serve import Server, ServerOptions

# rasterio silences this warning for itself, but with catch_warnings, which other threads' calls can undo.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

TOKEN = "a token for tests"
SECRET = "/srv/secret/weights.safetensors token=abc"


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers on free ports and stops them in the end."""
    running: list[Server] = []

    def start(predictor: Predictor | None = None, **options: Any) -> Server:
        options = {"port": 0, "token": TOKEN, "discovery": tmp_path / "server.json", **options}
        running.append(Server({"filters": predictor or HeldNetwork()}, ServerOptions(**options)))
        return running[-1]

    yield start
    for server in running:
        server.stop(0).wait()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server's temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def channel_to() -> Iterator[Callable[[Server], grpc.Channel]]:
    """Opens channels and closes them in the end."""
    channels: list[grpc.Channel] = []

    def open_channel(server: Server) -> grpc.Channel:
        channels.append(grpc.insecure_channel(server.address))
        return channels[-1]

    yield open_channel
    for channel in channels:
        channel.close()


def start_message(**options: Any) -> wire.AnalyzeRequest:
    picture = DrawnImage()
    order = convert.Order(
        picture.identity, picture.pixel_size_um, tuple(picture.levels), "", AnalysisOptions(**options)
    )
    return convert.start_message(order)


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def health_of(channel: grpc.Channel, service: str = "") -> str:
    request = health_pb2.HealthCheckRequest(service=service)
    status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=1).status
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


class Call:
    """A client that does as the test says, message by message."""

    def __init__(self, channel: grpc.Channel, token: str | None = TOKEN) -> None:
        self._sent: SimpleQueue[Any] = SimpleQueue()
        stub = channel.stream_stream(
            "/tissuebridge.rpc.v1.Analysis/Analyze",
            lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            wire.AnalyzeResponse.FromString,
        )
        self.call = stub(
            iter(self._sent.get, None), timeout=20, metadata=with_token(token) if token else None
        )

    def send(self, *messages: wire.AnalyzeRequest | bytes | None) -> Call:
        for message in messages:
            self._sent.put(message)
        return self

    def asked(self) -> wire.BlockRequest:
        return next(message.block for message in self.call if message.WhichOneof("step") == "block")

    def refused(self) -> tuple[str, str, str | None]:
        """How the call ended: status, message, kind of error."""
        with pytest.raises(grpc.RpcError) as caught:
            for _ in self.call:
                pass
        self.send(None)
        trailers = {item.key: str(item.value) for item in caught.value.trailing_metadata() or ()}
        return caught.value.code().name, caught.value.details() or "", trailers.get(ERROR_KEY)


class Gate:
    """Holds a predictor before its prediction until the test lets it go.

    Args:
        tile_s: So long every later prediction takes besides, in s.
    """

    def __init__(self, tile_s: float = 0.0) -> None:
        self.reached, self.open, self._tile_s = threading.Event(), threading.Event(), tile_s

    def __call__(self, calls: int) -> None:
        if self.open.is_set():
            time.sleep(self._tile_s)
        self.reached.set()
        assert self.open.wait(20)


# Models


def test_models_are_listed_by_the_servers_names(serving: Callable[..., Server], tmp_path: Path) -> None:
    options = ServerOptions(port=0, token=TOKEN, discovery=tmp_path / "server.json")
    with (
        Server({"b": HeldNetwork(), "a": HeldNetwork()}, options) as server,
        Client(server.address, TOKEN) as client,
    ):
        assert client.models() == {"a": DESCRIPTION, "b": DESCRIPTION}
        with pytest.raises(UsageError, match="several models; choose one of: a, b"):
            client.analyse(DrawnImage())
        with pytest.raises(UsageError, match="no model 'c'; choose one of: a, b"):
            client.analyse(DrawnImage(), "c")
        assert client.analyse(DrawnImage(), "b").model == DESCRIPTION


def test_one_model_is_described(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    stub = models_pb2_grpc.ModelsStub(channel_to(serving()))

    found = stub.Describe(models_pb2.DescribeModelRequest(name="filters"), metadata=with_token(TOKEN))

    assert convert.model_of(found) == DESCRIPTION


@pytest.mark.parametrize("name", ["../x", "A", "", "a" * 65])
def test_a_name_that_is_none_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        Server({name: HeldNetwork()}, ServerOptions(port=0))


# Who may come


def test_without_the_token_only_health_answers(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    channel = channel_to(serving(reflection=True))

    for token in (None, "wrong", TOKEN + "x", "Ä"):
        metadata = [("authorization", f"Bearer {token}")] if token and token.isascii() else None
        with pytest.raises(grpc.RpcError) as caught:
            models_pb2_grpc.ModelsStub(channel).List(models_pb2.ListModelsRequest(), metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert TOKEN not in (caught.value.details() or "")
    assert Call(channel, token=None).refused()[0] == "UNAUTHENTICATED"
    assert Call(channel, token="wrong").send(start_message()).refused()[0] == "UNAUTHENTICATED"
    with pytest.raises(grpc.RpcError) as caught:
        list(services_by_reflection(channel, None))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert health_of(channel) == health_of(channel, "tissuebridge.rpc.v1.Analysis") == "SERVING"


def services_by_reflection(channel: grpc.Channel, token: str | None) -> Iterator[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    metadata = with_token(token) if token else None
    for response in stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=5):
        yield from (service.name for service in response.list_services_response.service)


def test_services_are_described_only_where_wanted(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    described = list(services_by_reflection(channel_to(serving(reflection=True)), TOKEN))

    assert "tissuebridge.rpc.v1.Analysis" in described
    with pytest.raises(grpc.RpcError) as caught:
        list(services_by_reflection(channel_to(serving()), TOKEN))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_wrong_token_is_told_with_the_cure(serving: Callable[..., Server]) -> None:
    with (
        Client(serving().address, "wrong") as client,
        pytest.raises(UsageError, match="token is missing or wrong"),
    ):
        client.models()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"host": "0.0.0.0"}, "give a certificate"),
        ({"host": "192.0.2.7"}, "give a certificate"),
        ({"host": "slides.example"}, "give a certificate"),
        ({"certificate": Path("a.pem")}, "needs its key"),
        ({"certificate": Path("missing.pem"), "key": Path("missing.key")}, "cannot be read"),
        ({"port": 70_000}, "port 70000"),
        ({"port": -1}, "port -1"),
        ({"token": "short"}, "16 ASCII"),
        ({"streams": 0}, "streams"),
        ({"idle_timeout_s": 0}, "idle timeout"),
    ],
)
def test_unsafe_or_impossible_options_are_refused(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=told):
        Server({"m": HeldNetwork()}, ServerOptions(discovery=tmp_path / "s", **{"port": 0, **options}))


def test_a_second_server_on_a_port_is_refused(serving: Callable[..., Server]) -> None:
    port = int(serving().address.rpartition(":")[2])

    with pytest.raises(Conflict, match=f"{port} cannot be listened on: the port is taken"):
        serving(port=port)


def test_the_file_for_clients_is_there_while_the_server_runs(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    with Server({"m": HeldNetwork()}, ServerOptions(port=0, discovery=path)) as server:
        found = discovery.read(path)
        assert found == server.discovery
        assert len(found.token) >= 32
        with Client.connect(discovery_file=path) as client:
            assert list(client.models()) == ["m"]
    assert not path.exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_with_a_certificate_pixels_travel_encrypted(serving: Callable[..., Server], tmp_path: Path) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run(["openssl", "req", *kind, *subject, *files], check=True, capture_output=True)
    server = serving(host="localhost", certificate=certificate, key=key)

    with Client(server.address, TOKEN, ca=certificate) as client:
        assert list(client.models()) == ["filters"]
    with Client(server.address, TOKEN) as plain, pytest.raises(TissuebridgeError, match="no server answers"):
        plain.models()


# What clients may not send


@pytest.mark.parametrize(
    ("messages", "status", "told"),
    [
        ([None], "INVALID_ARGUMENT", "must open with Start"),
        ([b"\xff\xff\xff"], "INVALID_ARGUMENT", "cannot be decoded"),
        ([wire.AnalyzeRequest()], "INVALID_ARGUMENT", "must open with Start"),
        ([wire.AnalyzeRequest(block=wire.PixelBlock(id=1))], "INVALID_ARGUMENT", "must open with Start"),
        ([start_message(), start_message()], "INVALID_ARGUMENT", "after the opening only the blocks"),
        ([start_message(), None], "INVALID_ARGUMENT", "closed its side"),
        ([start_message(tile_size=2**20)], "INVALID_ARGUMENT", "more than this server takes"),
        ([start_message(batch_size=200)], "INVALID_ARGUMENT", "more than this server takes"),
        ([start_message(skipped_blocks=np.ones((7, 7), np.bool_))], "INVALID_ARGUMENT", "skipped blocks"),
    ],
)
def test_a_call_that_opens_wrongly_is_refused(
    serving: Callable[..., Server],
    channel_to: Callable[[Server], grpc.Channel],
    messages: list[Any],
    status: str,
    told: str,
) -> None:
    found, details, kind = Call(channel_to(serving())).send(*messages).refused()

    assert (found, kind) == (status, "UsageError")
    assert told in details


def test_an_image_beyond_all_slides_is_refused(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    large = start_message()
    large.start.image.width = large.start.image.height = large.start.levels[0].width = 2**20
    large.start.levels[0].height = 2**20
    del large.start.levels[1]

    status, details, _ = Call(channel_to(serving())).send(large).refused()

    assert status == "INVALID_ARGUMENT"
    assert "1048576 x 1048576 px" in details


def block(
    identity: int, data: bytes = b"", encoding: int = wire.PixelBlock.ENCODING_RGB
) -> wire.AnalyzeRequest:
    return wire.AnalyzeRequest(block=wire.PixelBlock(id=identity, data=data, encoding=encoding))  # type: ignore[arg-type]


def test_blocks_are_asked_for_on_the_grid_of_a_native_level(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    call = Call(channel_to(serving())).send(start_message())

    asked = call.asked()

    # 0.25 um at full resolution, the model wants 0.5: level 1 as it is.
    assert (asked.level, asked.x, asked.y, asked.width, asked.height) == (1, 0, 0, 250, 200)
    call.call.cancel()


@pytest.mark.parametrize(
    ("offset", "size", "told"),
    [(0, -1, "149999 bytes instead of 150000"), (5, 0, "not asked for"), (0, -150_000, "0 bytes")],
)
def test_a_block_that_was_not_asked_for_is_refused(
    serving: Callable[..., Server],
    channel_to: Callable[[Server], grpc.Channel],
    offset: int,
    size: int,
    told: str,
) -> None:
    call = Call(channel_to(serving())).send(start_message())
    asked = call.asked()

    call.send(block(asked.id + offset, bytes(asked.width * asked.height * 3 + size)))

    status, details, _ = call.refused()
    assert status == "INVALID_ARGUMENT"
    assert told in details


def test_a_block_sent_twice_is_refused(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    gate = Gate()
    call = Call(channel_to(serving(HeldNetwork(gate)))).send(start_message())
    asked = call.asked()
    answer = block(asked.id, bytes(asked.width * asked.height * 3))

    call.send(answer, answer)

    assert "sent twice" in call.refused()[1]
    gate.open.set()


def test_a_message_above_the_limit_is_refused(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    status, _, _ = Call(channel_to(serving())).send(block(1, bytes(8 * 2**20 + 1))).refused()

    assert status == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("opened", [False, True])
def test_a_client_that_sends_nothing_is_sent_away(
    serving: Callable[..., Server],
    channel_to: Callable[[Server], grpc.Channel],
    scratch: Path,
    opened: bool,
) -> None:
    server = serving(idle_timeout_s=0.3, streams=1)
    began = time.monotonic()

    status, details, _ = Call(channel_to(server)).send(*[start_message()] * opened).refused()

    assert status == "DEADLINE_EXCEEDED"
    assert "within 0.3 s" in details if opened else "nothing for 0.3 s" in details
    assert time.monotonic() - began < 5
    with Client(server.address, TOKEN) as client:
        assert len(client.analyse(DrawnImage()).cells) > 0
    assert eventually(lambda: not list(scratch.iterdir()))


def test_who_takes_nothing_is_noticed() -> None:
    outbox: Outbox[int] = Outbox(idle_timeout_s=0.05, size=2)
    outbox.put(1)
    outbox.put(2)

    with pytest.raises(Stalled, match=r"took no message for 0.05 s"):
        outbox.put(3)


def test_what_waits_is_still_sent_at_a_good_end_and_dropped_at_a_bad_one() -> None:
    good: Outbox[int] = Outbox(1)
    bad: Outbox[int] = Outbox(1)
    for outbox in (good, bad):
        outbox.put(1)
    good.end()
    bad.end(ModelError("NaN"))

    assert list(good) == [1]
    with pytest.raises(ModelError):
        list(bad)
    for outbox in (good, bad):
        with pytest.raises(Cancelled):
            outbox.put(2)


# Cancelling


def test_cancelling_stops_before_the_next_tile_and_frees_the_place(
    serving: Callable[..., Server], scratch: Path
) -> None:
    gate = Gate(tile_s=0.5)  # far longer than it takes to say "stop", on a busy machine too
    predictor = HeldNetwork(gate)
    server = serving(predictor, streams=1)
    stop = threading.Event()

    with Client(server.address, TOKEN) as client, ThreadPoolExecutor() as pool:
        cancelling = pool.submit(
            client.analyse, DrawnImage(), options=AnalysisOptions(tile_size=64), cancelled=stop.is_set
        )
        assert gate.reached.wait(5)
        stop.set()
        gate.open.set()
        with pytest.raises(Cancelled):
            cancelling.result(10)
        assert eventually(lambda: not list(scratch.iterdir()))
        stopped_after = predictor.calls
        assert stopped_after <= 2

        assert len(client.analyse(DrawnImage()).cells) > 0


@pytest.mark.parametrize("how", ["cancel", "vanish"])
def test_a_client_that_is_gone_costs_no_further_prediction(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel], scratch: Path, how: str
) -> None:
    gate = Gate()
    predictor = HeldNetwork(gate)
    channel = channel_to(serving(predictor))
    call = Call(channel).send(start_message(tile_size=64))
    asked = call.asked()
    call.send(block(asked.id, bytes(asked.width * asked.height * 3)))
    assert gate.reached.wait(5)

    if how == "cancel":
        call.call.cancel()
    else:
        channel.close()
    call.send(None)
    time.sleep(0.2)  # the server hears of it while the network still works
    gate.open.set()

    assert eventually(lambda: not list(scratch.iterdir()))
    assert predictor.calls == 1


def test_a_client_that_is_gone_while_it_waits_for_its_turn_is_never_predicted_for(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel], scratch: Path
) -> None:
    gate = Gate()
    predictor = HeldNetwork(gate)
    channel = channel_to(serving(predictor))
    calls = [Call(channel).send(start_message()) for _ in range(2)]
    for call in calls:
        asked = call.asked()
        call.send(block(asked.id, bytes(asked.width * asked.height * 3)))
    assert gate.reached.wait(5)
    time.sleep(0.2)  # the second has its pixels and waits for the network

    for call in calls:
        call.call.cancel()
        call.send(None)
    time.sleep(0.2)
    gate.open.set()

    assert eventually(lambda: not list(scratch.iterdir()))
    assert predictor.calls == 1


# Too many


def test_a_full_server_refuses_at_once_and_serves_who_comes_again(serving: Callable[..., Server]) -> None:
    gate = Gate()
    server = serving(HeldNetwork(gate), streams=1)

    with (
        Client(server.address, TOKEN) as first,
        Client(server.address, TOKEN, patience_s=0.0) as hasty,
        Client(server.address, TOKEN, patience_s=20.0) as patient,
        ThreadPoolExecutor() as pool,
    ):
        running = pool.submit(first.analyse, DrawnImage())
        assert gate.reached.wait(5)
        with pytest.raises(ResourceLimit, match="already runs 1 analyses"):
            hasty.analyse(DrawnImage())
        waiting = pool.submit(patient.analyse, DrawnImage())
        time.sleep(0.3)
        assert not waiting.done()
        gate.open.set()
        assert list(waiting.result(20).cells.xy[0]) == list(running.result(20).cells.xy[0])


def test_many_at_once_are_all_served_in_the_end(serving: Callable[..., Server]) -> None:
    server = serving(streams=2)

    def analysed(_: int) -> int:
        with Client(server.address, TOKEN, patience_s=30) as client:
            return len(client.analyse(DrawnImage(200, 160)).cells)

    with ThreadPoolExecutor(10) as pool:
        counts = set(pool.map(analysed, range(20)))

    assert len(counts) == 1


def test_health_and_models_answer_while_all_places_are_taken(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    gate = Gate()
    server = serving(HeldNetwork(gate), streams=2)
    channel = channel_to(server)
    calls = [Call(channel).send(start_message()) for _ in range(2)]
    for call in calls:
        call.asked()

    status, _, kind = Call(channel).send(start_message()).refused()
    assert (status, kind) == ("RESOURCE_EXHAUSTED", "Busy")
    began = time.monotonic()
    assert health_of(channel) == "SERVING"
    with Client(server.address, TOKEN) as client:
        assert list(client.models()) == ["filters"]
    assert time.monotonic() - began < 1
    for call in calls:
        call.call.cancel()
        call.send(None)


# What goes wrong in the server


class FailingPredictor(HeldNetwork):
    """Fails as it is told, once."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error

    def predict(self, tiles: np.ndarray) -> Any:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().predict(tiles)


@pytest.mark.parametrize(
    ("raised", "expected", "told"),
    [
        (RuntimeError(SECRET), TissuebridgeError, "the server failed: see its log, incident "),
        (MemoryError(SECRET), ResourceLimit, "ran out of memory"),
        (ModelError("NaN in tile 0 of " + SECRET), ModelError, "NaN in tile 0"),
        (OSError(28, "No space left", SECRET), TissuebridgeError, "incident "),
    ],
)
def test_an_error_tells_a_client_what_it_needs_and_no_more(
    serving: Callable[..., Server],
    caplog: pytest.LogCaptureFixture,
    raised: Exception,
    expected: type[TissuebridgeError],
    told: str,
) -> None:
    with Client(serving(FailingPredictor(raised)).address, TOKEN) as client:
        with caplog.at_level(logging.ERROR), pytest.raises(expected, match=told) as caught:
            client.analyse(DrawnImage())

        assert type(caught.value) is expected
        assert "secret" not in str(caught.value)
        assert "Traceback" not in str(caught.value)
        if "incident" in str(caught.value):
            incident = str(caught.value).partition("incident ")[2].strip(") ")
            assert any(incident in record.getMessage() and record.exc_info for record in caplog.records)
        assert len(client.analyse(DrawnImage()).cells) > 0


class NotANumberPredictor(HeldNetwork):
    def predict(self, tiles: np.ndarray) -> Any:
        prediction = super().predict(tiles)
        prediction.heat[0, 0, 3, 3] = np.nan
        return prediction


def test_not_a_number_never_becomes_a_result(
    serving: Callable[..., Server], channel_to: Callable[[Server], grpc.Channel]
) -> None:
    server = serving(NotANumberPredictor())

    with Client(server.address, TOKEN) as client, pytest.raises(ModelError, match="NaN or infinity"):
        client.analyse(DrawnImage())
    assert health_of(channel_to(server)) == "SERVING"


@pytest.mark.parametrize(
    "path",
    ["/srv/a/b.tif", "/tmp/x", r"C:\Users\a b\c.json", "D:/slides/a.svs", r"\\host\share\x", "'/root/x'"],
)
def test_no_absolute_path_is_told(path: str) -> None:
    told = without_paths(f"cannot read {path}: gone, x=1/2")

    assert "(file)" in told
    assert not {"srv", "tmp", "Users", "slides", "share", "root"} & set(told.replace("\\", "/").split("/"))


# Stopping

RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from drawn import HeldNetwork
from tissuebridge.server.serve import ServerOptions, serve
options = ServerOptions(port=0, discovery=Path(sys.argv[2]), grace_s=10)
sys.exit(serve({"m": HeldNetwork()}, options, ready=lambda server: print(server.address, flush=True)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_running_analyses_finish(tmp_path: Path, number: signal.Signals, code: int) -> None:
    tests, path = Path(__file__).parents[1], tmp_path / "server.json"
    arguments = [sys.executable, "-c", RUN, str(tests), str(path)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    first_block = threading.Event()

    def slowly() -> None:
        if not first_block.is_set():
            process.send_signal(number)
            first_block.set()
            time.sleep(0.5)

    with process, Client.connect(discovery_file=path) as client:
        analysis = client.analyse(DrawnImage(reading=slowly))

        assert len(analysis.cells) > 0
        assert process.wait(10) == code
    assert not path.exists()


def test_a_stopping_server_takes_no_new_calls_and_ends_running_ones_after_the_grace_period(
    serving: Callable[..., Server], scratch: Path
) -> None:
    server = serving(grace_s=0.3)
    with (
        Client(server.address, TOKEN) as client,
        Client(server.address, TOKEN) as late,
        ThreadPoolExecutor() as pool,
    ):
        reading, going_on = threading.Event(), threading.Event()

        def held() -> None:
            reading.set()
            going_on.wait(10)

        running = pool.submit(client.analyse, DrawnImage(reading=held))
        assert reading.wait(5)
        ended = server.stop()
        with pytest.raises(TissuebridgeError, match="no server answers"):
            late.models()
        assert ended.wait(5)
        going_on.set()
        with pytest.raises(TissuebridgeError):
            running.result(5)
        assert eventually(lambda: not list(scratch.iterdir()))


def test_nothing_listens_after_the_end(serving: Callable[..., Server]) -> None:
    server = serving()
    host, _, port = server.address.rpartition(":")
    server.stop(0).wait()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1).close()
