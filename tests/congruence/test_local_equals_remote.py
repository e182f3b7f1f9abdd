"""The same analysis here and through a server: same objects, ids, numbers, label map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal
from uuid import UUID

import numpy as np
import pytest
import shapely
import skimage.data
import torch

from drawn import DrawnImage, HeldNetwork
from drawn_tissue import ArrayImage, colours_of
from tissuebridge.analysis import Analysis
from tissuebridge.client import Client
from tissuebridge.errors import TissuebridgeError
from tissuebridge.objects import REGION_OF_INTEREST, PathClass, PathObject, object_digest
from tissuebridge.pipeline import AnalysisOptions, analyse
from tissuebridge.predictor.base import Predictor
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.project.base import Image
from tissuebridge.proposals.propose import propose_cells, propose_regions
from tissuebridge.proposals.settings import CellSettings, RegionSettings
from tissuebridge.rpc.results import result_messages
from tissuebridge.server.serve import Server, ServerOptions
from tissuemodel.checkpoint import build_network, make_checkpoint, save_checkpoint
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    options = ServerOptions(port=0, discovery=tmp_path / "server.json")
    with (
        Server({"filters": HeldNetwork()}, options),
        Client.connect(discovery_file=tmp_path / "server.json") as client,
    ):
        yield client


def assert_same(local: Analysis, remote: Analysis) -> None:
    assert list(remote.objects()) == list(local.objects())
    assert (remote.image, remote.model, remote.summary) == (local.image, local.model, local.summary)
    assert (remote.downsample, remote.regions) == (local.downsample, local.regions)
    np.testing.assert_array_equal(remote.labels, local.labels)
    for name in ("xy", "class_index", "score", "scores", "region_index", "pixels"):
        np.testing.assert_array_equal(getattr(remote.cells, name), getattr(local.cells, name))
        assert getattr(remote.cells, name).dtype == getattr(local.cells, name).dtype
    for name in ("pixels", "xy", "class_index", "scores"):
        np.testing.assert_array_equal(getattr(remote.candidates, name), getattr(local.candidates, name))


def both(
    client: Client, image: Image, predictor: Predictor, options: AnalysisOptions, folder: Path
) -> tuple[Analysis, Analysis]:
    local = analyse(image, predictor, journal_dir=folder / "journal", options=options)
    return local, client.analyse(image, options=options)


def test_objects_and_everything_beside_them_are_the_same(client: Client, tmp_path: Path) -> None:
    image = DrawnImage(1300, 1100, levels=1)

    local, remote = both(client, image, HeldNetwork(), AnalysisOptions(tile_size=256), tmp_path)

    assert local.summary.cells["Mast cell"] > 10
    assert local.summary.regions["Tumor"] > 3
    assert_same(local, remote)


def test_warnings_about_an_image_are_the_same_and_told_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image, network = DrawnImage(600, 500), HeldNetwork()
    network.description = replace(
        network.description, usual_colours=colours_of(image.pixels[..., ::-1], 0.25)
    )
    discovery = tmp_path / "server.json"
    with (
        Server({"filters": network}, ServerOptions(port=0, discovery=discovery)),
        Client.connect(discovery_file=discovery) as client,
    ):
        local, remote = both(client, image, network, AnalysisOptions(), tmp_path)

    (warning,) = local.summary.warnings
    assert "colours that the model did not learn from" in warning
    assert_same(local, remote)
    told_by = {record.name for record in caplog.records if warning in record.getMessage()}
    assert "tissuebridge.client" in told_by


def test_tile_size_at_the_server_changes_no_object(client: Client, tmp_path: Path) -> None:
    image, options = DrawnImage(900, 700), AnalysisOptions(tile_size=512)

    local = analyse(image, HeldNetwork(), journal_dir=tmp_path / "journal", options=options)
    remote = client.analyse(image, options=replace(options, tile_size=64, batch_size=3))

    # The metadata hold the digest of the object as it is written, on the grid of 1/16 px.
    assert [(obj.id, obj.metadata) for obj in remote.objects()] == [
        (obj.id, obj.metadata) for obj in local.objects()
    ]


def test_the_images_own_region_of_interest_reaches_the_server(client: Client, tmp_path: Path) -> None:
    ring = shapely.Polygon([(100, 80), (700, 120), (500, 600)])
    area = PathObject(ring, path_class=PathClass(REGION_OF_INTEREST))
    image = DrawnImage(900, 700, drawn=[area])

    local, remote = both(client, image, HeldNetwork(), AnalysisOptions(), tmp_path)

    assert local.summary.analysed_um2 == pytest.approx(ring.area * 0.25**2, rel=0.02)
    assert_same(local, remote)


def test_every_option_means_the_same(client: Client, tmp_path: Path) -> None:
    image = DrawnImage(1500, 700)
    skipped = np.zeros((2, 3), np.bool_)
    skipped[1, 1:] = True
    options = AnalysisOptions(
        region_of_interest=shapely.box(10, 20, 1400, 650),
        skipped_blocks=skipped,
        min_region_area_um2=400.0,
        cells_as_points=True,
        run_id="run-7",
    )

    local, remote = both(client, image, HeldNetwork(), options, tmp_path)

    assert local.run_id == "run-7"
    assert len(local.cells) > 0
    assert_same(local, remote)


def test_an_image_without_a_cell_or_region_is_the_same(client: Client, tmp_path: Path) -> None:
    image = ArrayImage(np.full((200, 300, 3), 255, np.uint8))
    options = AnalysisOptions(min_region_area_um2=1e9)

    local, remote = both(client, image, HeldNetwork(), options, tmp_path)

    assert list(remote.objects()) == []
    assert_same(local, remote)


@pytest.mark.parametrize("normalisation", ["dataset", "image"])
def test_a_network_with_weights_says_the_same(
    normalisation: Literal["dataset", "image"], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    config = ModelConfig(
        ("Tumor", "Stroma"),
        ("Mast cell",),
        {},
        0.5,
        normalisation=normalisation,
        network=NetworkConfig((4, 8)),
        targets=TargetConfig((5.0,)),
        inference=InferenceConfig(min_distance_um=(2.0,), thresholds=(-9.0,), floor=-10.0),
    )
    checkpoint = make_checkpoint("random", config, build_network(config), {})
    save_checkpoint(checkpoint, tmp_path / "random")
    predictor = LocalPredictor.load(tmp_path / "random")
    options = ServerOptions(port=0, discovery=tmp_path / "server.json")
    image = DrawnImage(700, 500)

    with (
        Server({"random": LocalPredictor.load(tmp_path / "random")}, options),
        Client.connect(discovery_file=tmp_path / "server.json") as client,
    ):
        local, remote = both(client, image, predictor, AnalysisOptions(tile_size=128), tmp_path)

    assert len(local.cells) > 0
    assert_same(local, remote)


@pytest.mark.parametrize("kind", ["regions", "cells"])
def test_proposals_are_the_same(kind: Literal["regions", "cells"], client: Client, tmp_path: Path) -> None:
    image = ArrayImage(skimage.data.immunohistochemistry(), 0.5)
    options, journal = AnalysisOptions(tile_size=200, run_id="run-7"), tmp_path / "journal"
    if kind == "regions":
        local = propose_regions(image, RegionSettings(), journal_dir=journal, options=options)
    else:
        local = propose_cells(image, CellSettings(), journal_dir=journal, options=options)

    remote = client.propose(image, f"[{kind}]", options=options)

    assert len(list(local.objects())) > 5
    assert (remote.parameters, remote.parameters_in_short) == (local.parameters, local.parameters_in_short)
    assert remote.about() == local.about()
    assert_same(local, remote)


@pytest.mark.parametrize(
    ("proposal", "told"),
    [
        ("[regions]\n[cells]", "leave out one of the tables"),
        ("[cells]\ndiameter = 3", "cells.diameter: there is no such setting"),
        ("[cells]\ndiameter_um = 400", "larger than the image"),
    ],
)
def test_a_proposal_that_cannot_be_is_refused_with_its_reason(
    proposal: str, told: str, client: Client
) -> None:
    image = ArrayImage(skimage.data.immunohistochemistry(), 0.5)

    with pytest.raises(TissuebridgeError, match=told):
        client.propose(image, proposal)


def test_ids_and_digests_on_the_wire_are_those_of_the_objects(client: Client, tmp_path: Path) -> None:
    """For clients that do not compute them (scripts in QuPath)."""
    analysis = client.analyse(DrawnImage(900, 700))

    messages = list(result_messages(analysis, details=False, identify=True))

    regions = [region for message in messages for region in message.regions.regions]
    sent = [(UUID(bytes=region.id), region.digest.hex()) for region in regions]
    for message in messages:
        ids, digests = message.cells.ids, message.cells.digests
        sent += [(UUID(bytes=ids[i : i + 16]), digests[i : i + 16].hex()) for i in range(0, len(ids), 16)]
    assert sent == [(obj.id, object_digest(obj)) for obj in analysis.objects()]
    assert messages[-1].WhichOneof("step") == "summary"
