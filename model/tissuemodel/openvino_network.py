"""The network compiled by OpenVINO for the CPU: the same maps in 0.9 to 0.96 of the time.

Stands where `network` stands in `inference`; needs the extra `openvino`. Its own converter is not used: that would
tell its makers, by the network, that it was.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from tissuemodel.network import Maps, MultitaskUNet


class OpenVinoNetwork:
    """A network that OpenVINO computes, for images of any size.

    Args:
        network: In evaluation mode, on the CPU.
        precision: "fp32", "bf16" where the CPU has it, or "int8" for a network that rounds (`quantised`).

    Raises:
        ImportError: OpenVINO is not installed.
    """

    def __init__(self, network: MultitaskUNet, precision: str) -> None:
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        side = 4 * network.config.stride
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sides are checked before, and tracing is what OpenVINO reads
            traced = TorchScriptPythonDecoder(_Flat(network), example_input=(torch.zeros(1, 3, side, side),))
        reader = FrontEndManager().load_by_framework("pytorch")
        settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": "f32"}[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # other processes compute beside it
        }
        compiled = openvino.Core().compile_model(reader.convert(reader.load(traced)), "CPU", settings)
        self._request = compiled.create_infer_request()
        self._has_regions, self._has_cells = network.regions is not None, network.cells is not None

    def __call__(self, image: Tensor) -> Maps:
        """Applies the network; see `MultitaskUNet.forward`."""
        found = self._request.infer([image.numpy()], share_inputs=True)
        maps = [torch.from_numpy(found[output]) for output in range(len(found))]
        scales = len(maps) // (self._has_regions + self._has_cells)
        return Maps(maps[:scales] if self._has_regions else [], maps[-scales:] if self._has_cells else [])


class _Flat(nn.Module):
    """The network with its maps in one row, as OpenVINO's graphs have them."""

    def __init__(self, network: MultitaskUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.network(image)
        return (*maps.regions, *maps.heat)
