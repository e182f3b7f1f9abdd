"""`tissuebridge serve`: models behind gRPC, for QuPath's scripts and for clients without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tissuebridge.cli.console import (
    Engine,
    EngineOption,
    Precision,
    PrecisionOption,
    chosen_model,
    print_json,
    say,
)
from tissuebridge.errors import UsageError
from tissuebridge.rpc.transport import DEFAULT_PORT
from tissuebridge.server.serve import Server, ServerOptions
from tissuebridge.server.trainer import default_training_place
from tissuebridge.starter import STARTER_NAME


def serve(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            metavar="DIR",
            help="A folder that `train` wrote; may be repeated. Without: the starter model.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; beyond this machine only with a certificate.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 for any free one.")] = DEFAULT_PORT,
    certificate: Annotated[Path | None, typer.Option("--certificate", metavar="PEM")] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="PEM")] = None,
    training: Annotated[
        Path | None,
        typer.Option(
            "--training", metavar="DIR", help="Where clients' training sets and trained models lie."
        ),
    ] = None,
    precision: PrecisionOption = Precision.FP32,
    engine: EngineOption = Engine.TORCH,
    reflection: Annotated[bool, typer.Option("--reflection", help="Describe the services to tools.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the address as one JSON document when ready.")
    ] = False,
) -> None:
    """Serve models until Ctrl-C."""
    from tissuebridge.predictor.local import LocalPredictor
    from tissuebridge.server.serve import serve as serve_models

    models = {}
    if not model:
        models[STARTER_NAME] = LocalPredictor.of(chosen_model(None), precision.value, engine.value)
    for folder in model or ():
        name = folder.resolve().name.lower()
        if name in models:
            raise UsageError(f"two models are called {name!r}; rename one of the folders")
        models[name] = LocalPredictor.load(folder, precision.value, engine.value)

    def ready(server: Server) -> None:
        if json:
            print_json({"address": server.address, "models": server.models})
        say(f"serving {', '.join(server.models)} at {server.address}; Ctrl-C stops")

    options = ServerOptions(
        host, port, certificate, key, training=training or default_training_place(), reflection=reflection
    )
    raise typer.Exit(serve_models(models, options, ready=ready))
