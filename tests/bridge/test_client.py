from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from drawn import DrawnImage, HeldNetwork
from tissuebridge.client import Client, _pauses
from tissuebridge.errors import (
    CalibrationError,
    Cancelled,
    ImageError,
    ResourceLimit,
    ServerUnreachable,
    UsageError,
)
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.rpc import transport
from tissuebridge.server.serve import Server, ServerOptions

TOKEN = "a token for tests"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(
        {"filters": HeldNetwork()}, ServerOptions(port=0, token=TOKEN, discovery=tmp_path / "server.json")
    ) as server:
        yield server


def test_it_finds_the_server_by_its_file(server: Server, tmp_path: Path) -> None:
    with Client.connect(discovery_file=tmp_path / "server.json") as client:
        assert client.address == server.address
        assert list(client.models()) == ["filters"]
    with Client.connect(server.address, discovery_file=tmp_path / "server.json") as client:
        assert list(client.models()) == ["filters"]


def test_it_shows_no_servers_token_to_another(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no token for the server at 127\.0\.0\.1:9"):
        Client.connect("127.0.0.1:9", discovery_file=tmp_path / "server.json")


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:", ":80", "a:b", "a:70000", "a:0"])
def test_an_address_must_be_host_and_port(address: str) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        Client(address, TOKEN)


def test_no_server_is_told_with_the_cure() -> None:
    with Client("127.0.0.1:1", TOKEN) as client:
        with pytest.raises(
            ServerUnreachable, match=r"no server answers at 127\.0\.0\.1:1.*tissuebridge serve"
        ):
            client.models()
        with pytest.raises(ServerUnreachable, match="no server answers"):
            client.analyse(DrawnImage())


def test_a_server_that_goes_away_is_unreachable(server: Server) -> None:
    with Client(server.address, TOKEN) as client, pytest.raises((ServerUnreachable, Cancelled)):
        client.analyse(DrawnImage(reading=lambda: server.stop(0) and None))


def test_progress_is_told_from_the_calling_thread(server: Server) -> None:
    told: list[tuple[int, int, bool]] = []
    here = threading.current_thread()

    def progress(done: int, total: int) -> None:
        told.append((done, total, threading.current_thread() is here))

    with Client(server.address, TOKEN) as client:
        client.analyse(DrawnImage(), options=AnalysisOptions(tile_size=128), progress=progress)

    assert told == [(done, 4, True) for done in range(5)]


def test_each_block_is_read_once_and_only_of_the_level_that_is_needed(server: Server) -> None:
    picture = DrawnImage(4200, 100)

    with Client(server.address, TOKEN) as client:
        client.analyse(picture, options=AnalysisOptions(tile_size=64))

    # Level 1 has 2100 x 50 px: three blocks of at most 1024 x 1024.
    assert picture.blocks == 3


def test_an_error_while_reading_is_raised_as_it_is_and_reading_ends(server: Server) -> None:
    def unreadable() -> None:
        raise ImageError("drawn.tif: level 1, x=0, y=0 is damaged; copy it again")

    with Client(server.address, TOKEN) as client:
        with pytest.raises(ImageError, match="damaged; copy it again"):
            client.analyse(DrawnImage(reading=unreadable))
        assert len(client.analyse(DrawnImage()).cells) > 0


def test_nobody_reads_pixels_when_they_are_closed(server: Server) -> None:
    reading, closed_while_reading = threading.Event(), []

    class Watched(DrawnImage):
        def close(self) -> None:
            super().close()
            closed_while_reading.append(reading.is_set())

    def slowly() -> None:
        reading.set()
        server.stop(0)
        time.sleep(0.3)
        reading.clear()

    with Client(server.address, TOKEN) as client, pytest.raises((Cancelled, ServerUnreachable)):
        client.analyse(Watched(reading=slowly))

    assert closed_while_reading == [False]


def test_an_error_of_the_callers_own_ends_the_call(server: Server) -> None:
    def progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with Client(server.address, TOKEN) as client:
        with pytest.raises(KeyboardInterrupt):
            client.analyse(DrawnImage(), progress=progress)
        assert len(client.analyse(DrawnImage()).cells) > 0


def test_an_image_that_is_far_too_coarse_is_the_same_error_as_here(server: Server) -> None:
    with Client(server.address, TOKEN) as client, pytest.raises(CalibrationError, match="coarse"):
        client.analyse(DrawnImage(pixel_size_um=4.0))


def test_jpeg_finds_nearly_the_same(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(server.address, TOKEN) as client:
        raw = client.analyse(DrawnImage())
        monkeypatch.setattr(client, "_is_local", False)
        jpeg = client.analyse(DrawnImage())

    assert len(jpeg.cells) == pytest.approx(len(raw.cells), rel=0.03)
    assert (jpeg.labels == raw.labels).mean() > 0.99
    assert not np.array_equal(jpeg.cells.scores, raw.cells.scores[: len(jpeg.cells)])


def test_pauses_grow_to_a_limit_and_differ() -> None:
    drawn = [[pause for pause, _ in zip(_pauses(), range(12), strict=False)] for _ in range(2)]

    assert drawn[0] != drawn[1]
    assert 0.1 <= drawn[0][0] <= 0.2
    assert 5 <= drawn[0][-1] <= 10


@pytest.mark.parametrize("name", sorted(transport.kinds_of_error()))
def test_every_error_has_a_status_that_exists_and_comes_back_as_itself(name: str) -> None:
    kind = transport.kinds_of_error()[name]

    assert kind.__name__ == name
    assert grpc.StatusCode[kind.grpc_status] is not grpc.StatusCode.OK


def test_statuses_without_our_trailer_become_the_nearest_error(server: Server) -> None:
    with Client(server.address, TOKEN) as client:
        too_large = DrawnImage(name="n" * 1000)
        too_large.name = "n" * (9 * 2**20)  # gRPC itself refuses to send it
        with pytest.raises(ResourceLimit, match=r"larger than max"):
            client.analyse(too_large)
