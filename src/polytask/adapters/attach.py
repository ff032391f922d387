"""Sites on a model: putting deltas there, and taking them away again.

The user's model keeps its modules, its parameter names and its forward pass; what a task adds hangs on hooks. One
``Attached`` object owns the route for the length of a forward pass: no thread-locals, no arguments threaded through
Hugging Face code.

A route belongs to the context that set it (``contextvars``), so forward passes in several threads do not see each
other's. As with ``torch.no_grad``, a thread does not inherit it; ``asyncio.to_thread`` takes it along.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from polytask.architectures import Architecture, architecture_of, locate
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import EntryPoint
from polytask.backbones.fast.layer import AFTER_ATTENTION_SITES, fast_layer, register_sites
from polytask.dropout import KeyedDropoutSource, keyed_generator
from polytask.errors import BackboneError, RecipeError, RouteError, UnknownName
from polytask.fair_lock import FairLock
from polytask.methods.delta import Delta, DeltaMethod, Method, Place, Replacement
from polytask.methods.finetune import TopLayers
from polytask.routing.apply import apply_deltas
from polytask.routing.route import Mode, Route
from polytask.routing.sites import Site


@dataclass(frozen=True)
class Pass:
    """The forward pass in flight: the adapter of each row, and the tokens of each where texts are packed."""

    route: Route | None = None
    sizes: tuple[int, ...] | None = None


NO_PASS = Pass()
_PASSES: ContextVar[Mapping[Attached, Pass]] = ContextVar("polytask_passes")


class Attached:
    """The sites of one model and the adapters on them.

    ``model`` is the bare encoder. Its parameters are not touched here; see ``attach`` for a user's own model. What
    several threads share changes only under ``lock``.
    """

    def __init__(
        self,
        model: nn.Module,
        architecture: Architecture,
        dropout_source: KeyedDropoutSource | None = None,
        lock: FairLock | None = None,
    ) -> None:
        self.model = model
        self.dropout_source = dropout_source or KeyedDropoutSource()
        self.lock = lock or FairLock()
        self.sites = {found.place.name: Site(*found) for found in locate(model, architecture)}
        self.names: set[str] = set()
        self.methods: dict[str, Method] = {}
        self.default: str | None = None
        self.mode: Mode = "auto"
        with self.lock:
            register_sites(self, model, architecture)

    @classmethod
    def of(cls, backbone: Backbone) -> Attached:
        """The sites of a backbone."""
        return cls(backbone.model, backbone.row, backbone.dropout_source, backbone.lock)

    @property
    def _pass(self) -> Pass:
        return _PASSES.get({}).get(self, NO_PASS)

    @contextmanager
    def _passing(self, current: Pass) -> Iterator[None]:
        token = _PASSES.set({**_PASSES.get({}), self: current})
        try:
            yield
        finally:
            _PASSES.reset(token)

    @property
    def route(self) -> Route | None:
        """The route of this context, if it has set one."""
        return self._pass.route

    def add(self, name: str, deltas: Mapping[str, Delta]) -> None:
        """Put an adapter's deltas (by place name) on their sites.

        Raises:
            RouteError: an adapter of this name is there already, or this one replaces backbone parameters.
        """
        with self.lock:
            self._add(name, deltas)

    def _add(self, name: str, deltas: Mapping[str, Delta]) -> None:
        if name in self.names:
            raise RouteError(f"an adapter called {name!r} is attached already: remove it first")
        if not deltas:
            raise RouteError(
                f"{name!r} has no deltas: an adapter that replaces the backbone's own parameters (full and top-n "
                "fine-tuning) runs as its own forward pass and cannot share a batch"
            )
        for place in deltas:
            if place not in self.sites:
                raise UnknownName("site", place, self.sites)
        self.names.add(name)
        for place, delta in deltas.items():
            site = self.sites[place]
            site.deltas[name] = delta
            site.hook(self.output)

    def remove(self, name: str) -> None:
        """Take an adapter's deltas away; sites without any are as if never touched."""
        with self.lock:
            self._remove(name)

    def _remove(self, name: str) -> None:
        if name not in self.names:
            raise UnknownName("attached adapter", name, sorted(self.names))
        self.names.discard(name)
        self.methods.pop(name, None)
        self.default = None if self.default == name else self.default
        for site in self.sites.values():
            site.deltas.pop(name, None)
            site.stacks.clear()
            if not site.deltas:
                site.unhook()

    @contextmanager
    def routed(self, route: Route) -> Iterator[None]:
        """Send the rows of forward passes within the block along ``route``; those of other threads go their own way."""
        for name in dict.fromkeys(route.names):
            if name is not None and name not in self.names:
                raise UnknownName("attached adapter", name, sorted(self.names))
        with self._passing(replace(self._pass, route=route)):
            yield

    @property
    def is_active(self) -> bool:
        """Whether a forward pass now would meet its adapters."""
        return bool(self.names) and (self.route is not None or self.default is not None)

    @contextmanager
    def packed(self, sizes: tuple[int, ...]) -> Iterator[None]:
        """Within the block sites see texts under each other, ``[N, 1, D]``: so many tokens of each row."""
        with self._passing(replace(self._pass, sizes=sizes)):
            yield

    def route_of(self, x: Tensor) -> Route:
        """The route of the batch that ``x`` is of."""
        current = self._pass
        return current.route or Route((self.default,) * len(current.sizes or x))

    def output(self, site: Site, x: Tensor, y: Tensor) -> Tensor:
        """What comes out of a site that read ``x`` and whose frozen part put out ``y``."""
        if not self.is_active:
            return y
        where = (self.dropout_source, site.place.name, self.mode, site.stacks, self._pass.sizes)
        return apply_deltas(self.route_of(y), site.deltas, x, y, site.output_module, *where)


def deltas_for(
    model: nn.Module, architecture: Architecture, method: Method, *, key: tuple[object, ...] | None
) -> dict[str, Delta]:
    """The deltas that ``method`` adds to ``model``, by place name, in fp32 on the model's device.

    ``key`` decides the initial values, as a function of the key and the place. With None they are left unfilled,
    to be loaded or counted.
    """
    if not isinstance(method, DeltaMethod):
        raise RecipeError(f"{method.name!r} trains the backbone's own parameters: there is nothing to attach")
    num_layers = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    method.chosen_layers(num_layers)
    device = next(model.parameters()).device
    deltas: dict[str, Delta] = {}
    met = [found for found in locate(model, architecture) if method.acts_at(found.place, num_layers)]
    check_trains(method, [found.place for found in met], str(model.config.model_type))  # type: ignore[union-attr]
    with torch.device(device):
        for place, _, written, *_ in met:
            delta = deltas[place.name] = method.delta(place)
            if key is not None:
                delta.start(written, keyed_generator(*key, "init", place.name))
    return deltas


def check_trains(method: DeltaMethod, places: Sequence[Place], architecture: str) -> None:
    """Refuse a method that finds nothing to train.

    Raises:
        RecipeError: what it would train is not there.
    """
    if not places:
        raise RecipeError(
            f"{method.name!r} trains {method.trains}, and this {architecture} has none. Choose another method: "
            "houlsby, pfeiffer, parallel and lora act on every backbone"
        )


def replaced_parameters(model: nn.Module, architecture: Architecture, method: Replacement) -> list[str]:
    """The names of the model's parameters of which ``method`` trains private copies."""
    num_layers = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    if architecture.shares_layers and isinstance(method, TopLayers):
        raise RecipeError("'top' trains single layers, and here all layers share one set of weights. Train 'full'")
    names = [name for name, _ in model.named_parameters()]
    return [name for name in names if method.replaces(name, architecture.layer_of(name, num_layers), num_layers)]


def lowest_entry(model: nn.Module, architecture: Architecture, changed: Sequence[str]) -> EntryPoint:
    """The first layer of which a place or parameter is among those ``changed``; 0 where the embeddings are, too.

    What goes into it is the same for all that change nothing below it. So is what its attention makes of that, where
    nothing in the attention changes and the layer can be entered there.
    """
    above = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    layer_of = {name: architecture.layer_of(name, above) for name in changed}
    layers = (above if name.startswith("pooler.") else layer or 0 for name, layer in layer_of.items())
    lowest = min(layers, default=above)
    behind = {f"layer.{lowest}.{site}" for site in AFTER_ATTENTION_SITES}
    inside = [name for name in changed if layer_of[name] == lowest and name not in behind]
    has_entry = 0 < lowest < above and fast_layer(model, architecture.layers, lowest) is not None
    return EntryPoint(lowest, has_entry and not inside)


def tree_of(modules: Mapping[str, nn.Module]) -> nn.Module:
    """One module that holds these under their dotted names: its state dict has the names of an adapter file."""
    root = nn.Module()
    for path, module in modules.items():
        parent = root
        *above, last = path.split(".")
        for part in above:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, module)
    return root


_ATTACHED: weakref.WeakKeyDictionary[nn.Module, Attached] = weakref.WeakKeyDictionary()
SUBMODULE = "polytask"


def attach(model: nn.Module, method: Method, *, name: str = "default", seed: int = 0) -> Attached:
    """Put ``method`` on a Hugging Face model for a training loop of one's own.

    The encoder inside ``model`` is frozen; what stands on top of it (a classifier) trains on. The deltas become a
    submodule, ``model.polytask``, so optimizers, ``.to`` and ``state_dict`` see them. Untrained they change nothing, or
    next to nothing. More than one can be attached: route rows with ``with attached.routed(Route.of("aab"))``; without
    a route, rows go to the one attached last.

    Raises:
        UnsupportedArchitecture: the model's type has no row.
        RecipeError: the method trains the backbone itself.
    """
    encoder = getattr(model, "base_model", model)
    config = getattr(encoder, "config", None)
    if config is None:
        raise BackboneError(f"{type(model).__name__} is not a Hugging Face model: it has no config")
    row = architecture_of(str(config.model_type))
    if row.shares_layers:
        raise BackboneError(
            f"the layers of {config.model_type} share one set of weights, which a model of your own must keep: load it "
            "with load_backbone instead"
        )
    if row.prepare is not None:
        row.prepare(encoder)
    deltas = deltas_for(encoder, row, method, key=(seed, name))
    attached = _ATTACHED.get(model) or Attached(encoder, row)
    attached.add(name, deltas)
    if model not in _ATTACHED:
        encoder.requires_grad_(False)
        model.add_module(SUBMODULE, nn.ModuleDict())
        _ATTACHED[model] = attached
    model.get_submodule(SUBMODULE).add_module(name, tree_of(deltas))
    attached.default, attached.methods[name] = name, method
    return attached


def attached_to(model: nn.Module) -> Attached:
    """What is attached to a model.

    Raises:
        BackboneError: nothing is.
    """
    attached = _ATTACHED.get(model)
    if attached is None:
        raise BackboneError("nothing is attached to this model")
    return attached


def detach(model: nn.Module) -> None:
    """Undo ``attach``: deltas and hooks are gone and every parameter trains again, as in a model just loaded."""
    attached = attached_to(model)
    del _ATTACHED[model]
    for name in list(attached.names):
        attached.remove(name)
    delattr(model, SUBMODULE)
    attached.model.requires_grad_(True)
