"""Checks that an adapter has exactly the tensors that its header implies, with the right shapes.

No shape is written down here. A delta is built for each site as in training, but on the meta device, and the shapes of
its parameters are those that the file must have. A new method needs no change here.

Names are ``layer.<i>.<site>.<parameter>``, ``embed_norm.<parameter>``, ``head.<parameter>``, ``head.<n>.<parameter>``
for the layers of a prediction head, ``none.<name>`` for a detector of none of these, and ``backbone.<the parameter's
name>`` for methods that replace parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from polytask.adapters.header import Header
from polytask.architectures import ARCHITECTURES, LIKE_BERT, Architecture
from polytask.errors import AdapterError, RecipeError
from polytask.evaluation.none_of_these import none_from_json
from polytask.methods import DeltaMethod, Place, Replacement
from polytask.methods.delta import EMBED_NORM, FINAL_NORM, NORMS, SITES

Shape = tuple[int, ...]

# The header does not hold the widths of embeddings, attention heads and feed-forward layers. They are taken from the
# first tensor that has them, and all others must agree. The same goes for biases that depend on the configuration.
_UNKNOWN_WIDTH = 999_983

_PARAMETER = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*"
_TENSOR_NAME = re.compile(
    rf"(?:none|head(?:\.[0-9]{{1,2}})?|{EMBED_NORM}|{FINAL_NORM}|backbone|layer\.(?P<layer>0|[1-9][0-9]{{0,5}})\.(?P<site>[a-z_]+))\.{_PARAMETER}"
)
_LAYER_NUMBER = re.compile(r"(?:^|\.)([0-9]{1,6})(?:\.|$)")


def check_tensors(header: Header, shapes: Mapping[str, Shape]) -> None:
    """Refuse tensors that are not exactly those of an adapter with this header.

    The private parameters of a ``Replacement`` are checked by name and layer only, because their shapes are the
    backbone's.

    Args:
        header: the adapter's header.
        shapes: the shape of each tensor, by name.

    Raises:
        AdapterError: a tensor is missing, has an unknown name or the wrong shape.
    """
    expected = _head_shapes(header) | _none_shapes(header)
    if isinstance(header.method, DeltaMethod):
        expected |= _delta_shapes(header, header.method, shapes)
    elif isinstance(header.method, Replacement):
        expected |= _replacement_shapes(header, header.method, shapes)
    for name in shapes:
        if name not in expected:
            raise AdapterError(_why_unexpected(name, header))
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


def _none_shapes(header: Header) -> dict[str, Shape]:
    """Name and shape of every tensor of the detector of none of these."""
    if header.none is None:
        return {}
    return none_from_json(header.none, header.head.kind).shapes(header.head.num_outputs, header.backbone.hidden)


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
        place = _with_actual_bias(place, row, biased)
        if not method.acts_at(place, depth):
            continue
        if place.site not in of_site:
            for width in row.widths.get(place.site, ()):
                if width not in widths:
                    found = _width_from_tensors(method, place, given, row)
                    widths[width] = found or header.backbone.hidden
            of_site[place.site] = _shapes_at(method, place, widths.__getitem__, row)
        expected |= {f"{place.name}.{parameter}": shape for parameter, shape in of_site[place.site].items()}
    return expected


def _with_actual_bias(place: Place, row: Architecture, biased: set[str]) -> Place:
    """The place with a bias only if its tensors have one, for architectures whose configuration decides that."""
    if not row.biases_vary:
        return place
    has_bias = place.site in biased
    norm = "gain" if place.site in NORMS and place.norm == "layer" and not has_bias else place.norm
    return replace(place, has_bias=has_bias, norm=norm)


def _width_from_tensors(method: DeltaMethod, place: Place, given: Mapping[str, Shape], row: Architecture) -> int | None:
    """A width at ``place`` that the header does not hold, from the first tensor that has it."""
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
        with torch.device("meta"):
            delta = method.delta(replace(place, width_in=into, width_out=out))
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise AdapterError(f"the settings of the method {method.name!r} cannot be built: {error}") from error
    return {name: tuple(parameter.shape) for name, parameter in delta.named_parameters()}


def _replacement_shapes(header: Header, method: Replacement, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """The given tensors that replace parameters of the backbone; each trained layer must have at least one."""
    row, depth = _architecture(header), header.backbone.layers
    found: dict[str, Shape] = {}
    layers = set()
    try:
        for name, shape in given.items():
            parameter = name.removeprefix("backbone.")
            layer = _layer_of(parameter)
            is_above_layers = layer is None and row.layer_of(parameter, depth) == depth
            is_valid = _TENSOR_NAME.fullmatch(name) and parameter != name and 0 not in shape
            exists = layer is None or layer < depth
            if is_valid and exists and method.replaces(parameter, depth if is_above_layers else layer, depth):
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
    """The layer of a parameter: 3 for ``encoder.layer.3.output.dense.weight``."""
    number = _LAYER_NUMBER.search(parameter)
    return int(number[1]) if number else None


def _why_unexpected(name: str, header: Header) -> str:
    """The message that says why an adapter with this header cannot have this tensor."""
    match, method, depth = _TENSOR_NAME.fullmatch(name), header.method, header.backbone.layers
    what = f"the tensor {name!r}"
    if not match:
        return f"{what} has a name that no tensor of an adapter can have"
    if name.startswith("backbone."):
        return f"{what} is not a parameter that {method.name!r} replaces in a backbone of {depth} layers"
    site, layer = match["site"] or name.partition(".")[0], int(match["layer"] or 0)
    if layer >= depth:
        return f"{what} is in a layer beyond the backbone's last, {depth - 1}"
    if site != "head" and isinstance(method, DeltaMethod):
        if site not in SITES or site not in method.sites:
            return f"{what} is at a site where {method.name!r} does not act; it acts at {', '.join(method.sites)}"
        own = _architecture(header).place(site, int(match["layer"]) if match["layer"] else None, 0, 0)
        if not method.acts_at(own, depth):
            return f"{what} is at a place that the settings of {method.name!r} exclude"
    return f"{what} is not a parameter of {method.name!r} or of the head"
