"""Saves and loads what was trained on a user's own model: the attached adapters, and the layers on the encoder.

>>> pt.attach(model, pt.Houlsby(64))       # … train in your own loop or with transformers' Trainer
>>> pt.save_attached(model, "trained")
>>> pt.load_attached(another, "trained")   # the same checkpoint, loaded again

The frozen encoder is not saved. Its fingerprint is, so that another encoder is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from polytask.adapters.attach import SUBMODULE, Attached, attach, attached_to, detach
from polytask.architectures import architecture_of
from polytask.backbones.fingerprint import fingerprint_of
from polytask.errors import AdapterError, WrongBackbone
from polytask.files import whole_file
from polytask.methods import described, method_described

FILE = "attached.safetensors"
_KEY = "polytask_attached"


def save_attached(model: nn.Module, folder: str | Path) -> None:
    """Save the attached adapters and everything of the model outside its encoder, such as its classifier.

    Raises:
        BackboneError: nothing is attached to this model.
        WriteError: the folder cannot be written.
    """
    attached = attached_to(model)
    methods = {name: described(method) for name, method in attached.methods.items()}
    metadata = {"adapters": methods, "default": attached.default, "encoder": _encoder_fingerprint(attached)}
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in _tensors_outside_encoder(model, attached).items()
    }
    with whole_file(_file_in(folder)) as part:
        save_file(tensors, part, {_KEY: json.dumps(metadata)})


def load_attached(model: nn.Module, folder: str | Path) -> Attached:
    """Attach what ``save_attached`` wrote to a model of the same checkpoint.

    Raises:
        AdapterError: there is no such file, or it does not fit the model.
        WrongBackbone: the adapters were trained on another encoder.
    """
    path = _file_in(folder)
    metadata, tensors = _read(path)
    for name, method in metadata["adapters"].items():
        attach(model, method_described(method), name=name)
    attached = attached_to(model)
    if _encoder_fingerprint(attached) != metadata["encoder"]:
        _detach_loaded(model, metadata)
        raise WrongBackbone(f"{path} was trained on another encoder than the model has, or in another precision")
    own = _tensors_outside_encoder(model, attached)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        odd = sorted(shapes.keys() ^ tensors.keys()) or ["their shapes differ"]
        _detach_loaded(model, metadata)
        raise AdapterError(f"{path} does not fit the model outside its encoder: {', '.join(odd[:3])}")
    model.load_state_dict(tensors, strict=False)
    attached.default = metadata["default"]
    return attached


def _file_in(folder: str | Path) -> Path:
    if not isinstance(folder, str | Path):
        raise AdapterError(f"{type(folder).__name__} is not a folder. The model comes first, then the folder's name")
    return Path(folder) / FILE


def _detach_loaded(model: nn.Module, metadata: Mapping[str, Any]) -> None:
    if set(metadata["adapters"]) == attached_to(model).names:
        detach(model)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise AdapterError(f"{path} is not what save_attached writes: {error}") from error


def _encoder_fingerprint(attached: Attached) -> str:
    config: Any = attached.model.config
    return fingerprint_of(attached.model, architecture_of(str(config.model_type)))


def _tensors_outside_encoder(model: nn.Module, attached: Attached) -> dict[str, Tensor]:
    """The model's parameters and buffers that are not its encoder's, by name."""
    own = {id(tensor) for tensor in (*attached.model.parameters(), *attached.model.buffers())}
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: t for name, t in found.items() if name.startswith(f"{SUBMODULE}.") or id(t) not in own}
