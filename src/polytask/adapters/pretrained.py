"""What was trained on a user's own model, saved and loaded in two lines: the adapters, and what stands on the encoder.

>>> pt.attach(model, pt.Houlsby(64))       # … a loop of one's own, or transformers' Trainer
>>> pt.save_attached(model, "trained")
>>> pt.load_attached(another, "trained")   # on the same checkpoint, loaded anew

The frozen encoder is not written; its fingerprint is, so that another one is refused.
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
    """Write the attached adapters and everything of the model that is outside its encoder, such as its classifier.

    Raises:
        BackboneError: nothing is attached to this model.
        WriteError: the folder cannot be written.
    """
    attached = attached_to(model)
    methods = {name: described(method) for name, method in attached.methods.items()}
    about = {"adapters": methods, "default": attached.default, "encoder": _fingerprint(attached)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _outside(model, attached).items()}
    with whole_file(Path(folder) / FILE) as part:
        save_file(tensors, part, {_KEY: json.dumps(about)})


def load_attached(model: nn.Module, folder: str | Path) -> Attached:
    """Attach what ``save_attached`` wrote to a model of the same checkpoint.

    Raises:
        AdapterError: there is no such file, or it does not fit the model.
        WrongBackbone: the encoder is not the one that was trained on.
    """
    path = Path(folder) / FILE
    about, tensors = _read(path)
    for name, method in about["adapters"].items():
        attach(model, method_described(method), name=name)
    attached = attached_to(model)
    if _fingerprint(attached) != about["encoder"]:
        _undo(model, about)
        raise WrongBackbone(
            f"{path} was trained on another encoder, or on one in another precision, than the model has"
        )
    own = _outside(model, attached)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        odd = sorted(shapes.keys() ^ tensors.keys()) or ["their shapes differ"]
        _undo(model, about)
        raise AdapterError(f"{path} does not fit the model outside its encoder: {', '.join(odd[:3])}")
    model.load_state_dict(tensors, strict=False)
    attached.default = about["default"]
    return attached


def _undo(model: nn.Module, about: Mapping[str, Any]) -> None:
    if set(about["adapters"]) == attached_to(model).names:
        detach(model)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise AdapterError(f"{path} is not what save_attached writes: {error}") from error


def _fingerprint(attached: Attached) -> str:
    config: Any = attached.model.config
    return fingerprint_of(attached.model, architecture_of(str(config.model_type)))


def _outside(model: nn.Module, attached: Attached) -> dict[str, Tensor]:
    """The tensors of the model that are not its encoder's, by name."""
    own = {id(tensor) for tensor in (*attached.model.parameters(), *attached.model.buffers())}
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: t for name, t in found.items() if name.startswith(f"{SUBMODULE}.") or id(t) not in own}
