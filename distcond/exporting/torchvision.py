"""A plain ResNet under torchvision's names: a state dict for `torchvision.models.resnet18`, 34 or 50.

torchvision's networks take normalised images, and have the large stem; a small one is put in place of theirs first:

    network = torchvision.models.resnet18(num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()  # model.stem=small
    network.load_state_dict(safetensors.torch.load_file("torchvision.safetensors"))

The file's metadata name the model, the stem, and the mean and standard deviation of the images.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor, fx

from distcond.errors import ConfigError
from distcond.exporting.folder import ExportConfig, require_safetensors

TORCHVISION_FILE = "torchvision.safetensors"
#: Networks that torchvision has, by name: channels per stage.
_WIDTHS = [64, 128, 256, 512]
_MODELS = {"resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3]}
_MODULES = (
    (r"stem\.conv", "conv1"),
    (r"stem\.norm", "bn1"),
    (r"unit(\d)\.conv", r"conv\1"),
    (r"unit(\d)\.norm", r"bn\1"),
    (r"shortcut\.conv", "downsample.0"),
    (r"shortcut\.norm", "downsample.1"),
    (r"linear", "fc"),
)


def check_torchvision(export: ExportConfig, narrow: bool) -> None:
    """Check that torchvision has the network of an export.

    Raises:
        ConfigError: another model or size, two forward passes, or normalisation that is folded away.
    """
    name, point = export.architecture, export.operating_point
    sizes = [export.options.get(key) for key in ("depths", "widths")]
    if sizes != [_MODELS.get(name), _WIDTHS]:
        raise ConfigError(f"formats=torchvision: it has no {name} of this size; valid: {', '.join(_MODELS)}")
    if not export.keep_norm or narrow or point["width"] != 1:
        raise ConfigError("formats=torchvision: needs its own layers; valid: keep_norm=true narrow=false width=1")
    if point["blend"] in ("outputs", "mixednuts") and 0 < point["t"] < 1:
        raise ConfigError(f"formats=torchvision: {point['blend']} is two networks; valid: rule=weights, or dial=0,1")


def torchvision_state(network: fx.GraphModule, depths: list[int]) -> dict[str, Tensor]:
    """The weights and statistics of a plain ResNet with its norms, by torchvision's names."""
    places = [f"layer{stage}.{index}" for stage, depth in enumerate(depths, 1) for index in range(depth)]
    return {_rename(name, places): value for name, value in network.state_dict().items() if "." in name}


def _rename(name: str, places: list[str]) -> str:
    module, _, parameter = name.rpartition(".")
    block = re.match(r"blocks\.(\d+)\.", module)
    local = module[block.end() :] if block else module
    for pattern, theirs in _MODULES:
        if re.fullmatch(pattern, local):
            local = re.sub(pattern, theirs, local)
            return f"{places[int(block[1])]}.{local}.{parameter}" if block else f"{local}.{parameter}"
    raise ValueError(f"no name of torchvision's for {name}")


def write_torchvision(network: fx.GraphModule, export: ExportConfig, folder: Path) -> None:
    """Write `torchvision.safetensors` into an existing folder."""
    state = torchvision_state(network, export.options["depths"])
    buffers = dict(network.named_buffers())
    pixels = {name: ",".join(f"{value:.8g}" for value in buffers[name].flatten()) for name in ("mean", "std")}
    metadata = {"format": "pt", "model": export.architecture, "stem": export.options["stem"], **pixels}
    content = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    (folder / TORCHVISION_FILE).write_bytes(require_safetensors().save(content, metadata=metadata))
