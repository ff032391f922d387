"""Which tensors an adapter has, and of which shape: all of it follows from the header.

Unusual here: no shape is written down. A delta is built for each site as in training, but where nothing has memory,
and the shapes of its parameters are what the file must hold. So a new method needs no row here.

Names: ``layer.<i>.<site>.<parameter>``, ``embed_norm.<parameter>``, ``head.<parameter>``, ``head.<n>.<parameter>`` for
layers of a prediction head, and for methods that
replace parameters ``backbone.<the parameter's own name>``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from polytask.adapters.header import Header
from polytask.architectures import ARCHITECTURES, LIKE_BERT, Architecture
from polytask.errors import AdapterError, RecipeError
from polytask.methods import DeltaMethod, Place, Replacement
from polytask.methods.delta import EMBED_NORM, FINAL_NORM, NORMS, SITES

Shape = tuple[int, ...]

# The sizes of embeddings, heads and feed-forward parts do not stand in the header: the first tensor that has one says
# it, and all others must agree. So do the biases, where the configuration decides which linears and norms have one.
_UNKNOWN_WIDTH = 999_983

_PARAMETER = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*"
_GRAMMAR = re.compile(
    rf"(?:head(?:\.[0-9]{{1,2}})?|{EMBED_NORM}|{FINAL_NORM}|backbone|layer\.(?P<layer>0|[1-9][0-9]{{0,5}})\.(?P<site>[a-z_]+))\.{_PARAMETER}"
)
_NUMBER = re.compile(r"(?:^|\.)([0-9]{1,6})(?:\.|$)")


def check_layout(header: Header, shapes: Mapping[str, Shape]) -> None:
    """Nothing, if these are exactly the tensors of an adapter with this header.

    The private parameters of a ``Replacement`` are checked by name and layer only: their shapes are the backbone's own.

    Raises:
        AdapterError: tensors are missing, too many, wrongly named or of another shape.
    """
    expected = _head_shapes(header)
    if isinstance(header.method, DeltaMethod):
        expected |= _delta_shapes(header, header.method, shapes)
    else:
        assert isinstance(header.method, Replacement)
        expected |= _replaced(header, header.method, shapes)
    for name in shapes:
        if name not in expected:
            raise AdapterError(_why_not(name, header))
    for name, shape in expected.items():
        if name not in shapes:
            raise AdapterError(f"the tensor {name!r} is missing")
        if shapes[name] != shape:
            raise AdapterError(f"the tensor {name!r} has shape {list(shapes[name])}; the header asks for {list(shape)}")


def _head_shapes(header: Header) -> dict[str, Shape]:
    """Name and shape of every parameter of the head."""
    outputs, hidden = header.head.num_outputs, header.backbone.hidden
    expected: dict[str, Shape] = {"head.weight": (outputs, hidden), "head.bias": (outputs,)}
    for number, layer in enumerate(header.prediction_layers):
        weight = {"dense": (hidden, hidden), "norm": (hidden,)}.get(layer.kind)
        expected |= {f"head.{number}.weight": weight} if weight else {}
        expected |= {f"head.{number}.bias": (hidden,)} if layer.bias else {}
    return expected


def _architecture(header: Header) -> Architecture:
    return ARCHITECTURES.get(header.backbone.architecture, LIKE_BERT)


def _delta_shapes(header: Header, method: DeltaMethod, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """Name and shape of every parameter of every delta."""
    row, depth = _architecture(header), header.backbone.layers
    widths = {"hidden": header.backbone.hidden}
    of_site: dict[str, dict[str, Shape]] = {}
    expected: dict[str, Shape] = {}
    biased = {name.split(".")[-2] for name in given if name.endswith(".bias")}
    for place in row.places(depth):
        place = _as_configured(place, row, biased)
        if not method.acts_at(place, depth):
            continue
        if place.site not in of_site:
            for width in row.widths.get(place.site, ()):
                if width not in widths:
                    found = _width_read_off(method, place, given, row)
                    widths[width] = found or header.backbone.hidden
            of_site[place.site] = _shapes_at(method, place, widths.__getitem__, row)
        expected |= {f"{place.name}.{parameter}": shape for parameter, shape in of_site[place.site].items()}
    return expected


def _as_configured(place: Place, row: Architecture, biased: set[str]) -> Place:
    """A place with a bias where the tensors given have one, if that is for the configuration to decide."""
    if not row.biases_vary:
        return place
    has_bias = place.site in biased
    norm = "gain" if place.site in NORMS and place.norm == "layer" and not has_bias else place.norm
    return replace(place, has_bias=has_bias, norm=norm)


def _width_read_off(method: DeltaMethod, place: Place, given: Mapping[str, Shape], row: Architecture) -> int | None:
    """The width at ``place`` that the header does not say, from the first tensor that has it."""
    probe = _shapes_at(method, place, lambda width: 1 if width == "hidden" else _UNKNOWN_WIDTH, row)
    for parameter, shape in probe.items():
        found = given.get(f"{place.name}.{parameter}", ())
        if _UNKNOWN_WIDTH in shape and len(found) == len(shape):
            return found[shape.index(_UNKNOWN_WIDTH)]
    return None


def _shapes_at(method: DeltaMethod, place: Place, width: Callable[[str], int], row: Architecture) -> dict[str, Shape]:
    """The shapes of the parameters of a delta at ``place``."""
    into, out = map(width, row.widths.get(place.site, ("hidden", "hidden")))
    try:
        with torch.device("meta"), _WithoutMemory():
            delta = method.delta(replace(place, width_in=into, width_out=out))
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise AdapterError(f"the settings of the method {method.name!r} cannot be built: {error}") from error
    return {name: tuple(parameter.shape) for name, parameter in delta.named_parameters()}


class _WithoutMemory(TorchFunctionMode):
    """Tensors keep to the meta device even where a device is named (``skip_init`` names the CPU)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _replaced(header: Header, method: Replacement, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """The tensors given that may stand for the backbone's own; every layer that is trained must have some."""
    row, depth = _architecture(header), header.backbone.layers
    found: dict[str, Shape] = {}
    layers = set()
    try:
        for name, shape in given.items():
            parameter = name.removeprefix("backbone.")
            layer = _layer_of(parameter)
            is_above = layer is None and row.layer_of(parameter, depth) == depth
            sound = _GRAMMAR.fullmatch(name) and parameter != name and 0 not in shape
            is_there = layer is None or layer < depth
            if sound and is_there and method.replaces(parameter, depth if is_above else layer, depth):
                found[name] = shape
                layers.add(layer)
        trained = [layer for layer in range(depth) if method.replaces("", layer, depth)]
    except RecipeError as error:
        raise AdapterError(str(error)) from error
    for layer in trained:
        if layer not in layers and not row.shares_layers:
            raise AdapterError(f"the parameters of layer {layer} are missing, which {method.name!r} trains")
    return found


def _layer_of(parameter: str) -> int | None:
    """3 for ``encoder.layer.3.output.dense.weight``."""
    number = _NUMBER.search(parameter)
    return int(number[1]) if number else None


def _why_not(name: str, header: Header) -> str:
    """Why an adapter with this header has no tensor of this name."""
    match, method, depth = _GRAMMAR.fullmatch(name), header.method, header.backbone.layers
    what = f"the tensor {name!r}"
    if not match:
        return f"{what} has a name that no tensor of an adapter has"
    if name.startswith("backbone."):
        return f"{what} is not a parameter that {method.name!r} replaces in a backbone of {depth} layers"
    site, layer = match["site"] or name.partition(".")[0], int(match["layer"] or 0)
    if layer >= depth:
        return f"{what} lies beyond the backbone's last layer, {depth - 1}"
    if site != "head" and isinstance(method, DeltaMethod):
        if site not in SITES or site not in method.sites:
            return f"{what} is at a site where {method.name!r} does not act; it acts at {', '.join(method.sites)}"
        own = _architecture(header).place(site, int(match["layer"]) if match["layer"] else None, 0, 0)
        if not method.acts_at(own, depth):
            return f"{what} is at a place that the settings of {method.name!r} leave out"
    return f"{what} is not a parameter of {method.name!r} or of the head"
